"""Random writes by several client threads, each of which tells the oracle what it does.

Two collections (int64 keys with l2, string keys with cosine) take batches of inserts, upserts,
updates and deletes by keys and by filter, with and without ends and conditions, and now and then a
truncation; but for that a thread writes only keys of its own.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from azimuth_db import AzimuthError, Client, Collection, Record, VectorField
from oracle import Key, Oracle, Span, State, Stored, Violation, digest, in_order, now_us, presence
from writes import UNKNOWN_OUTCOME, Before, Need, Result, Write, send

DIM = 16
GROUPS = 6
BATCH_MAX = 200
KEYS_PER_COLLECTION = 1500
THREADS_PER_COLLECTION = 2
FIELDS = {"owner": "int64", "group": "int64", "serial": "int64"}

ENDING_SHARE = 0.2
ENDS_AFTER_US = (200_000, 4_000_000)
CLASH_SHARE = 0.1
REPEAT_SHARE = 0.05


def stored_of(record: Record) -> Stored:
    """Returns what the oracle keeps of a record that was read."""
    # A record that lost its vector or a field is one that nobody wrote.
    vector = record.vectors.get("v", np.zeros(0, "f4"))
    ends = record.expires_at
    # Not by way of a float, which does not have the microseconds.
    micros = 0 if ends is None else int(ends.timestamp()) * 1_000_000 + ends.microsecond
    return Stored(digest(vector), in_order(record.fields), micros)


@dataclass
class Rows:
    """Records or parts of records to write, in columns."""

    keys: list[Any]
    vectors: npt.NDArray[np.float32] | None
    fields: dict[str, list[Any]]
    expires_at: list[int] | None

    def columns(self) -> dict[str, Any]:
        """Returns the arguments of a write."""
        vectors = {} if self.vectors is None else {"v": self.vectors}
        return {"vectors": vectors, "fields": self.fields, "expires_at": self.expires_at}

    def change(self, i: int, state: Stored) -> Stored:
        """Returns what the record of one key is after an update of it."""
        vector = None if self.vectors is None else digest(self.vectors[i])
        fields = {name: values[i] for name, values in self.fields.items()}
        return state.updated(
            vector, fields, None if self.expires_at is None else self.expires_at[i]
        )

    def states(self) -> dict[Key, State]:
        """Returns the state that each key has once they are written as whole records."""
        return {key: self.change(i, Stored("", ())) for i, key in enumerate(self.keys)}


class Target:
    """One collection under load, and what is known of it.

    Attributes:
        in_flight: Writes with an id whose outcome a crash has left open.
        locks: Of the owners of keys. Who writes holds their owner's; a truncation holds all.
    """

    def __init__(self, name: str, metric: str, key_type: str) -> None:
        """Makes the model; `create` makes the collection."""
        self.name = name
        self.metric = metric
        self.key_type = key_type
        self.oracle = Oracle(name)
        self.in_flight: list[Write] = []
        self.locks = [threading.Lock() for _ in range(THREADS_PER_COLLECTION)]
        ids = range(KEYS_PER_COLLECTION)
        self.keys: list[Key] = [f"key-{i:05d}" for i in ids] if key_type == "string" else list(ids)

    def create(self, db: Client) -> Collection:
        """Makes the collection."""
        vectors = {"v": VectorField(DIM, self.metric)}
        return db.create_collection(self.name, vectors, FIELDS, key_type=self.key_type)

    def keys_of(self, owner: int) -> list[Key]:
        """Returns the keys that a thread may write; owners' keys lie between each other's."""
        return self.keys[owner::THREADS_PER_COLLECTION]


@dataclass
class Counts:
    """How much was done."""

    acknowledged_batches: int = 0
    acknowledged_records: int = 0
    refused_batches: int = 0
    batches_in_flight: int = 0
    truncations: int = 0
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
        while not self._stop.is_set() and self.step(items):
            pass

    def step(self, items: Collection) -> bool:
        """Makes one write of a random kind. Returns whether the server still answers."""
        if self._random.random() < 0.002:
            return self.truncate(items)
        steps = [self.insert, self.upsert, self.update, self.delete_keys, self.delete_filter]
        [chosen] = self._random.choices(steps, (3, 5, 4, 2, 1))
        with self.target.locks[self.owner]:
            # Else the keys may be those of a truncation whose outcome is open.
            return not self._stop.is_set() and chosen(items)

    def insert(self, items: Collection) -> bool:
        """Inserts keys that do not exist; sometimes with one that does, which must fail."""
        chosen = self._choose(self._absent())
        if not chosen:
            return self.upsert(items)
        taken = self._present()
        if taken and self._random.random() < CLASH_SHARE:
            chosen = [*chosen[1:], self._random.choice(taken)]
        return self._put(items, "insert", chosen, Need.ABSENT)

    def upsert(self, items: Collection) -> bool:
        """Upserts any keys, sometimes on a condition."""
        if self._random.random() < 0.2:
            keys, version = self._choose_by_version()
            if self._random.random() < 0.3:
                keys, version = self._choose(self._absent())[:20], 0
            if keys:
                return self._put(items, "upsert", keys, Need.NOTHING, version)
        return self._put(items, "upsert", self._choose(self._keys), Need.NOTHING)

    def update(self, items: Collection) -> bool:
        """Changes parts of records, sometimes also of one that does not exist."""
        version: int | None = None
        keys = self._choose(self._present())
        if self._random.random() < 0.2:
            keys, version = self._choose_by_version()
        if not keys:
            return self.upsert(items)
        absent = self._absent()
        skip_missing = self._random.random() < 0.3 and version is None
        if absent and self._random.random() < (0.5 if skip_missing else CLASH_SHARE):
            keys = [*keys, self._random.choice(absent)]
        rows = self._parts(keys)
        if skip_missing:
            rows.expires_at = None  # Else nobody knows whether a record that ends was given time.
        began, request_id = now_us(), self._request_id()
        span = Span(began, began)
        states = {key: self.target.oracle.state(key) for key in keys}
        changes: dict[Key, State] = {
            key: rows.change(i, state)
            for i, key in enumerate(keys)
            if (state := states[key]) is not None and presence(state, span).can_be
        }

        def call(items: Collection) -> Result:
            more = {"if_version": version, "skip_missing": skip_missing, "request_id": request_id}
            return items.update(rows.keys, **rows.columns(), **more)

        need = Need.NOTHING if skip_missing else Need.PRESENT
        write = Write("update", self._before(keys), call, began, need=need, if_version=version)
        return self._send(items, write, changes)

    def delete_keys(self, items: Collection) -> bool:
        """Deletes keys, those that do not exist among them; sometimes on a condition."""
        keys = self._choose(self._keys)[:60]
        version: int | None = None
        if self._random.random() < 0.2:
            by_version = self._choose_by_version()
            if by_version[0]:
                keys, version = by_version
        request_id = self._request_id()

        def call(items: Collection) -> Result:
            return items.delete(keys=keys, if_version=version, request_id=request_id)

        write = Write("delete", self._before(keys), call, now_us(), if_version=version)
        return self._send(items, write, dict.fromkeys(keys))

    def delete_filter(self, items: Collection) -> bool:
        """Deletes a group of its own records by a filter."""
        group = self._random.randrange(GROUPS)
        state = self.target.oracle.state
        keys = [key for key in self._keys if (s := state(key)) is not None and s.group == group]
        params = {"owner": self.owner, "group": group}
        text = "owner == $owner and group == $group"
        request_id = self._request_id()

        def call(items: Collection) -> Result:
            return items.delete(filter=text, params=params, request_id=request_id)

        write = Write("delete by filter", self._before(keys), call, now_us())
        return self._send(items, write, dict.fromkeys(keys))

    def truncate(self, items: Collection) -> bool:
        """Removes all records, other owners' too."""
        for lock in self.target.locks:
            lock.acquire()
        try:
            if self._stop.is_set():  # Perhaps another's write is in flight for ever.
                return False
            keys = self.target.keys
            write = Write("truncate", self._before(keys), lambda items: items.truncate(), now_us())
            write.repeatable, write.counts_ended = False, True
            self.counts.truncations += 1
            return self._send(items, write, dict.fromkeys(keys))
        finally:
            for lock in self.target.locks:
                lock.release()

    # What to write.

    def _present(self) -> list[Key]:
        state, now = self.target.oracle.state, now_us()
        span = Span(now, now)
        return [key for key in self._keys if not presence(state(key), span).can_lack]

    def _absent(self) -> list[Key]:
        state, now = self.target.oracle.state, now_us()
        span = Span(now, now)
        return [key for key in self._keys if not presence(state(key), span).can_be]

    def _choose(self, keys: Sequence[Key]) -> list[Key]:
        count = min(len(keys), int(BATCH_MAX ** self._random.random()) + 1)
        return self._random.sample(keys, count)

    def _choose_by_version(self) -> tuple[list[Key], int]:
        """Returns keys of one version with it; or, which must fail, with another."""
        version = self.target.oracle.version
        present = [key for key in self._present() if version(key) is not None]
        if not present:
            return [], 0
        chosen = version(self._random.choice(present)) or 0
        keys = [key for key in present if version(key) == chosen]
        return self._choose(keys)[:20], chosen + (self._random.random() < 0.2)

    def _before(self, keys: Sequence[Key]) -> dict[Key, Before]:
        oracle = self.target.oracle
        return {key: Before(oracle.state(key), oracle.version(key)) for key in keys}

    def _request_id(self) -> str:
        return f"{self.target.name}-{self._random.randrange(2**63):x}"

    def rows(self, keys: Sequence[Key]) -> Rows:
        """Returns new records of these keys."""
        serial = self._random.randrange(2**62)
        fields: dict[str, list[Any]] = {
            "owner": [self.owner] * len(keys),
            "group": [self._random.randrange(GROUPS) for _ in keys],
            "serial": [serial + i for i in range(len(keys))],
            "tag": [f"tag {serial % 97} of {key}" for key in keys],
        }
        vectors = self._numbers.normal(size=(len(keys), DIM)).astype("f4")
        return Rows(list(keys), vectors, fields, self._ends(len(keys)))

    def _ends(self, count: int) -> list[int] | None:
        if self._random.random() > ENDING_SHARE:
            return None
        now = now_us()
        ends = (now + self._random.randrange(*ENDS_AFTER_US) for _ in range(count))
        return [end if self._random.random() < 0.5 else 0 for end in ends]

    def _parts(self, keys: Sequence[Key]) -> Rows:
        """Returns some of the columns of new records."""
        rows = self.rows(keys)
        names = self._random.sample(["group", "serial", "tag"], self._random.randrange(4))
        rows.fields = {name: rows.fields[name] for name in names}
        if names and self._random.random() < 0.6:
            rows.vectors = None
        return rows

    # Sending it.

    def _put(
        self,
        items: Collection,
        name: str,
        keys: list[Key],
        need: Need,
        if_version: int | None = None,
    ) -> bool:
        rows = self.rows(keys)
        more: dict[str, Any] = {"request_id": self._request_id()}
        if if_version is not None:
            more["if_version"] = if_version

        def call(items: Collection) -> Result:
            put: Callable[..., Result] = items.insert if name == "insert" else items.upsert
            return put(rows.keys, **rows.columns(), **more)

        write = Write(name, self._before(keys), call, now_us(), need=need, if_version=if_version)
        return self._send(items, write, rows.states())

    def _send(self, items: Collection, write: Write, changes: dict[Key, State]) -> bool:
        """Sends, and tells the oracle of the answer. Returns whether the server still answers."""
        oracle = self.target.oracle
        write.batch = oracle.begin({} if write.must_fail() else changes)
        try:
            answer = send(write, items)
        except UNKNOWN_OUTCOME:
            self.counts.batches_in_flight += 1
            if write.repeatable:
                self.target.in_flight.append(write)
            self._stop.set()
            return False
        if expected := write.judge(answer, now_us()):
            self._wrong(expected, answer)
        if isinstance(answer, AzimuthError):
            oracle.refuse(write.batch)
            self.counts.refused_batches += 1
            return not expected
        oracle.acknowledge(write.batch, answer.as_of)
        self.counts.acknowledged_batches += 1
        self.counts.acknowledged_records += len(changes)
        if write.repeatable and self._random.random() < REPEAT_SHARE:
            return self._repeat(items, write, answer._replace(replayed=True))
        return True

    def _repeat(self, items: Collection, write: Write, expected: object) -> bool:
        """Sends what was acknowledged once more, which must change nothing."""
        try:
            answer = send(write, items)
        except UNKNOWN_OUTCOME:
            self._stop.set()
            return False
        if answer != expected:
            self._wrong(f"{write.name}, repeated: {expected}", answer)
        return answer == expected

    def _wrong(self, expected: str, found: object) -> None:
        name = self.target.name
        self.violations.append(Violation("answer", name, None, expected, repr(found)))
