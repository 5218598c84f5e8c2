"""Random writes by several client threads, each of which tells the oracle what it does.

Two collections (int64 keys with l2, string keys with cosine) take batches of inserts, upserts and
deletes by keys and by filter; a thread writes only keys of its own. One more thread makes, fills
and drops a third collection again and again.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from azimuth_db import (
    AlreadyExists,
    AzimuthError,
    Cancelled,
    Client,
    Collection,
    DeadlineExceeded,
    Record,
    Unavailable,
    VectorField,
)
from oracle import Batch, Key, Oracle, State, Stored, Violation, checksum

DIM = 16
GROUPS = 6
BATCH_MAX = 200
KEYS_PER_COLLECTION = 1500
THREADS_PER_COLLECTION = 2
TEMPORARY = "temporary"
FIELDS = {"owner": "int64", "group": "int64", "serial": "int64"}

# Answers after which nobody knows whether the write happened.
UNKNOWN_OUTCOME = (Unavailable, DeadlineExceeded, Cancelled)


def stored_of(record: Record) -> Stored:
    """Returns what the oracle keeps of a record that was read."""
    # A record that lost its vector or a field has a checksum that nobody wrote.
    vector = record.vectors.get("v", np.zeros(0, "f4"))
    return Stored(checksum(vector, record.fields), record.fields.get("group", -1))


@dataclass
class Rows:
    """Records to write, in columns."""

    keys: list[Any]
    vectors: npt.NDArray[np.float32]
    fields: dict[str, list[Any]]

    def states(self) -> dict[Key, State]:
        """Returns the state that each key has once they are written."""
        states: dict[Key, State] = {}
        for i, key in enumerate(self.keys):
            fields = {name: values[i] for name, values in self.fields.items()}
            states[key] = Stored(checksum(self.vectors[i], fields), fields["group"])
        return states


class Target:
    """One collection under load, and what is known of it."""

    def __init__(self, name: str, metric: str, key_type: str) -> None:
        """Makes the model; `create` makes the collection."""
        self.name = name
        self.metric = metric
        self.key_type = key_type
        self.oracle = Oracle(name)
        ids = range(KEYS_PER_COLLECTION)
        self.keys: list[Key] = [f"key-{i:05d}" for i in ids] if key_type == "string" else list(ids)

    def create(self, db: Client) -> Collection:
        """Makes the collection."""
        vectors = {"v": VectorField(DIM, self.metric)}
        return db.create_collection(self.name, vectors, FIELDS, key_type=self.key_type)

    def keys_of(self, owner: int) -> list[Key]:
        """Returns the keys that a thread may write; owners' keys lie between each other's."""
        return self.keys[owner::THREADS_PER_COLLECTION]


class Temporary(Target):
    """The collection that comes and goes.

    `exists` is None while a create or a drop is in flight.
    """

    def __init__(self) -> None:
        super().__init__(TEMPORARY, "l2", "int64")
        self.exists: bool | None = False


@dataclass
class Counts:
    """How much was done."""

    acknowledged_batches: int = 0
    acknowledged_records: int = 0
    batches_in_flight: int = 0
    collections_made: int = 0


class Writer:
    """One client thread's part of the load over one collection."""

    def __init__(self, target: Target, owner: int, seed: int, stop: threading.Event) -> None:
        self.target = target
        self.owner = owner
        self.counts = Counts()
        self.violations: list[Violation] = []
        self._keys = target.keys_of(owner)
        self._random = random.Random(seed)
        self._numbers = np.random.default_rng(seed)
        self._stop = stop

    def run(self, db: Client) -> None:
        """Writes until it is told to stop or the server is gone."""
        items = db.collection(self.target.name)
        steps = [self.insert, self.upsert, self.upsert, self.delete_keys, self.delete_filter]
        while not self._stop.is_set() and self._random.choice(steps)(items):
            pass

    def rows(self, keys: Sequence[Key]) -> Rows:
        """Returns new records of these keys."""
        serial = self._random.randrange(2**62)
        groups = [self._random.randrange(GROUPS) for _ in keys]
        fields: dict[str, list[Any]] = {
            "owner": [self.owner] * len(keys),
            "group": groups,
            "serial": [serial + i for i in range(len(keys))],
            "tag": [f"tag {serial % 97} of {key}" for key in keys],
        }
        return Rows(list(keys), self._numbers.normal(size=(len(keys), DIM)).astype("f4"), fields)

    def insert(self, items: Collection) -> bool:
        """Inserts keys that do not exist; sometimes with one that does, which must fail."""
        state = self.target.oracle.state
        free = [key for key in self._keys if state(key) is None]
        chosen = self._choose(free)
        if not chosen:
            return self.upsert(items)
        taken = [key for key in self._keys if state(key) is not None]
        clash = bool(taken) and self._random.random() < 0.1
        if clash:
            chosen = [*chosen[1:], self._random.choice(taken)]
        return self._put(items.insert, chosen, clash)

    def upsert(self, items: Collection) -> bool:
        """Upserts any keys."""
        return self._put(items.upsert, self._choose(self._keys), False)

    def delete_keys(self, items: Collection) -> bool:
        """Deletes keys, those that do not exist among them."""
        keys = self._choose(self._keys)[:60]
        return self._delete(keys, lambda: items.delete(keys=keys).deleted)

    def delete_filter(self, items: Collection) -> bool:
        """Deletes a group of its own records by a filter."""
        group = self._random.randrange(GROUPS)
        state = self.target.oracle.state
        keys = [key for key in self._keys if (s := state(key)) is not None and s.group == group]
        if self._random.random() < 0.7:
            return self.upsert(items)
        params = {"owner": self.owner, "group": group}
        text = "owner == $owner and group == $group"
        return self._delete(keys, lambda: items.delete(filter=text, params=params).deleted)

    def _choose(self, keys: Sequence[Key]) -> list[Key]:
        count = min(len(keys), int(BATCH_MAX ** self._random.random()) + 1)
        return self._random.sample(keys, count)

    def _put(self, write: Callable[..., Any], keys: list[Key], clash: bool) -> bool:
        rows = self.rows(keys)
        batch = self.target.oracle.begin(rows.states())

        def send() -> None:
            done = write(rows.keys, rows.vectors, rows.fields)
            if done.inserted + done.replaced != len(keys):
                self._wrong(f"{len(keys)} written", done)

        return self._send(batch, send, clash)

    def _delete(self, keys: list[Key], delete: Callable[[], int]) -> bool:
        expected = sum(self.target.oracle.state(key) is not None for key in keys)
        batch = self.target.oracle.begin(dict.fromkeys(keys))

        def send() -> None:
            deleted = delete()
            if deleted != expected:
                self._wrong(f"{expected} deleted", deleted)

        return self._send(batch, send, False)

    def _send(self, batch: Batch, send: Callable[[], None], must_clash: bool) -> bool:
        """Sends, and tells the oracle of the answer. Returns whether the server still answers."""
        oracle = self.target.oracle
        try:
            send()
        except AlreadyExists as error:
            oracle.refuse(batch)
            if not must_clash:
                self._wrong("an insert of new keys to work", error)
            return True
        except UNKNOWN_OUTCOME:
            self.counts.batches_in_flight += 1
            return False
        except AzimuthError as error:
            self._wrong("a write to be answered with OK", repr(error))
            return False
        oracle.acknowledge(batch)
        if must_clash:
            self._wrong("an insert of an existing key to fail", "OK")
        self.counts.acknowledged_batches += 1
        self.counts.acknowledged_records += len(batch.changes)
        return True

    def _wrong(self, expected: str, found: object) -> None:
        name = self.target.name
        self.violations.append(Violation("answer", name, None, expected, str(found)))


class CollectionMaker:
    """The client thread that makes, fills and drops the third collection."""

    def __init__(self, target: Temporary, seed: int, stop: threading.Event) -> None:
        self.target = target
        self.writer = Writer(target, 0, seed, stop)
        self._random = random.Random(seed)
        self._stop = stop

    def run(self, db: Client) -> None:
        """Works until it is told to stop or the server is gone."""
        while not self._stop.is_set() and self._step(db):
            pass

    def _step(self, db: Client) -> bool:
        target = self.target
        if not target.exists:
            return self._make(db)
        if self._random.random() < 0.3:
            return self._drop(db)
        return self.writer.upsert(db.collection(target.name))

    def _make(self, db: Client) -> bool:
        self.target.oracle = Oracle(self.target.name)
        self.target.exists = None
        try:
            self.target.create(db)
        except UNKNOWN_OUTCOME:
            return False
        except AzimuthError as error:
            self._wrong("a collection to be made", error)
            return False
        self.target.exists = True
        self.writer.counts.collections_made += 1
        return True

    def _drop(self, db: Client) -> bool:
        # If it is still there after a crash, so are its records: the oracle stays.
        self.target.exists = None
        try:
            db.drop_collection(self.target.name)
        except UNKNOWN_OUTCOME:
            return False
        except AzimuthError as error:
            self._wrong("a collection to be dropped", error)
            return False
        self.target.exists = False
        return True

    def _wrong(self, expected: str, error: AzimuthError) -> None:
        self.writer.violations.append(
            Violation("answer", self.target.name, None, expected, repr(error))
        )
