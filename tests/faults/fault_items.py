"""The collection `items`, what it must hold, and every way to ask for it.

A record is known by its key and its generation: how often its key was written. Vectors are small
whole numbers that follow from both, so that distances are exact and an old vector is told from a
new one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
import reference
from azimuth_db import (
    AzimuthError,
    Cancelled,
    Client,
    Collection,
    DataLoss,
    DeadlineExceeded,
    Record,
    Unavailable,
    VectorField,
)

GROUPS = 7
LIST_LIMIT = 16384
QUERIES = 10
GRAPH_SHARE_MIN = 0.95
# Answers after which nobody knows whether the write happened.
UNKNOWN_OUTCOME = (Unavailable, DeadlineExceeded, Cancelled)

State = Optional[int]  # A generation; None: there is no record.
Changes = dict[int, State]
Keys = Iterable[int]


def vectors_of(
    keys: Sequence[int], generations: Sequence[int], dimension: int
) -> npt.NDArray[np.float32]:
    """Returns the vectors of records, by mixing key, generation and position."""
    mixed = np.asarray(keys, np.int64).astype(np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15)
    mixed = mixed + np.asarray(generations, np.uint64)[:, None] * np.uint64(0xBF58476D1CE4E5B9)
    mixed = mixed + np.arange(dimension, dtype=np.uint64) * np.uint64(0x94D049BB133111EB)
    for shift in (30, 27):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(0xBF58476D1CE4E5B9)
    return ((mixed >> np.uint64(33)) % np.uint64(201)).astype(np.float32) - np.float32(100)


class Items:
    """The model of one collection. Writes of several threads must have no key in common.

    Attributes:
        states: What is acknowledged.
        in_flight: Writes of unknown outcome: each happened whole or not at all.
    """

    def __init__(self, name: str = "items", dimension: int = 8) -> None:
        """Makes an empty model."""
        self.name = name
        self.dimension = dimension
        self.states: Changes = {}
        self.in_flight: list[Changes] = []
        self._lock = threading.Lock()

    # Writes.

    def create(self, db: Client) -> Collection:
        """Makes the collection."""
        vectors = {"v": VectorField(self.dimension, "l2")}
        return db.create_collection(self.name, vectors, {"group": "int64", "generation": "int64"})

    def insert(self, db: Client, keys: Keys, **options: Any) -> int:
        """Inserts records and returns the sequence number."""
        return self._put(db, "insert", keys, options)

    def upsert(self, db: Client, keys: Keys, **options: Any) -> int:
        """Writes the next generation of records and returns the sequence number."""
        return self._put(db, "upsert", keys, options)

    def _put(self, db: Client, method: str, keys: Keys, options: dict[str, Any]) -> int:
        listed = list(keys)
        changes: Changes = {key: (self.states.get(key) or 0) + 1 for key in listed}
        generations = [changes[key] or 0 for key in listed]
        write = getattr(db.collection(self.name), method)
        fields = {"group": [key % GROUPS for key in listed], "generation": generations}
        vectors = vectors_of(listed, generations, self.dimension)
        return self._send(changes, lambda: write(listed, vectors, fields, **options))

    def delete(self, db: Client, keys: Keys, **options: Any) -> int:
        """Deletes records and returns the sequence number."""
        listed = list(keys)
        items = db.collection(self.name)
        return self._send(dict.fromkeys(listed), lambda: items.delete(keys=listed, **options))

    def _send(self, changes: Changes, write: Callable[[], Any]) -> int:
        try:
            done = write()
        except AzimuthError as error:
            if isinstance(error, UNKNOWN_OUTCOME) or "outcome: unknown" in error.message:
                with self._lock:
                    self.in_flight.append(changes)
            raise
        with self._lock:
            self.states.update(changes)
        as_of: int = done.as_of
        return as_of

    def there(self) -> list[int]:
        """Returns the keys of the records, in order."""
        return sorted(key for key, state in self.states.items() if state is not None)

    def forget_rows(self) -> None:
        """Nothing is stored any more."""
        self.states.clear()
        self.in_flight.clear()

    # Reads.

    def settle(self, db: Client) -> None:
        """Finds out which writes in flight happened; AssertionError if one did in part."""
        items = db.collection(self.name)
        for changes in self.in_flight:
            found = self._get(items, list(changes))
            new = [key for key in changes if _state(found[key]) == changes[key]]
            old = [key for key in changes if _state(found[key]) == self.states.get(key)]
            assert len(changes) in (len(new), len(old)), f"in part: new {new[:9]}, old {old[:9]}"
            if len(new) == len(changes):
                self.states.update(changes)
        self.in_flight.clear()

    def _get(self, items: Collection, keys: list[int]) -> dict[int, Record | None]:
        records = items.get(keys, output_vectors=["v"])
        return dict(zip(keys, records))

    def check(self, db: Client) -> None:
        """Reads all there is in every way and compares."""
        self.settle(db)
        items = db.collection(self.name)
        there = self.there()
        by_key = self._get(items, sorted(self.states))
        wrong = {k: _state(r) for k, r in by_key.items() if _state(r) != self.states[k]}
        assert not wrong, f"by get, with what is expected: {self._explain(wrong)}"
        self._check_contents([record for record in by_key.values() if record is not None])
        listing = items.query(limit=LIST_LIMIT, output_vectors=["v"])
        assert [record.key for record in listing] == there, self._differ(listing, there)
        self._check_contents(list(listing))
        assert items.count() == len(there)
        assert items.stats().row_count == len(there)
        for group in range(GROUPS):
            of_group = [key for key in there if key % GROUPS == group]
            found = items.query(f"group == {group}", LIST_LIMIT, output_fields=[])
            assert [record.key for record in found] == of_group
        if there:
            self._check_searches(items, there)

    def _explain(self, wrong: dict[int, State]) -> str:
        some = list(wrong.items())[:9]
        return f"{len(wrong)}: {[(key, state, self.states[key]) for key, state in some]}"

    def _differ(self, records: Iterable[Record], there: list[int]) -> str:
        listed = [record.key for record in records]
        missing, more = sorted(set(there) - set(listed)), sorted(set(listed) - set(there))
        return f"by query {len(missing)} are missing ({missing[:9]}), {len(more)} new ({more[:9]})"

    def _check_contents(self, records: list[Record]) -> None:
        if not records:
            return
        keys = [int(record.key) for record in records]
        generations = [int(record.fields["generation"]) for record in records]
        assert generations == [self.states[key] for key in keys]
        assert [record.fields["group"] for record in records] == [key % GROUPS for key in keys]
        vectors = np.array([record.vectors["v"] for record in records])
        np.testing.assert_array_equal(vectors, vectors_of(keys, generations, self.dimension))

    def _base(self, there: list[int]) -> npt.NDArray[np.float32]:
        return vectors_of(there, [self.states[key] or 0 for key in there], self.dimension)

    def _check_searches(self, items: Collection, there: list[int]) -> None:
        base = self._base(there)
        queries = vectors_of(range(QUERIES), [1 << 20] * QUERIES, self.dimension)
        limit = min(10, len(there))
        found = items.search_batch(queries, limit, exact=True, output_fields=[])
        keys, distances = reference.nearest(base, there, queries, limit, "l2")
        np.testing.assert_array_equal(found.keys, keys)
        np.testing.assert_array_equal(found.distances, distances)
        every = items.search(queries[0], LIST_LIMIT, exact=True, output_fields=[])
        assert sorted(every.keys) == there
        step = max(1, len(there) // 100)
        graph = items.search_batch(base[::step], 1, output_fields=[])
        hits = int((graph.distances[:, 0] == 0).sum())
        assert hits >= GRAPH_SHARE_MIN * len(base[::step]), f"{hits} of {len(base[::step])}"

    def check_readable(self, db: Client) -> list[int]:
        """Gets every key alone: right, or DATA_LOSS. Returns those of which it is the latter."""
        items = db.collection(self.name)
        lost = []
        for key, state in self.states.items():
            try:
                [record] = items.get([key], output_vectors=["v"])
            except DataLoss as error:
                if str(key) not in error.message:
                    raise AssertionError(f"key {key} is not named: {error.message}") from error
                lost.append(key)
                continue
            assert _state(record) == state, f"key {key}: {record}, expected generation {state}"
            self._check_contents([] if record is None else [record])
        return lost

    def check_search(self, db: Client) -> None:
        """Asks one exact search only: for loops beside other things."""
        there = self.there()
        query = vectors_of([0], [1 << 20], self.dimension)
        found = db.collection(self.name).search(query[0], 10, exact=True, output_fields=[])
        keys, _ = reference.nearest(self._base(there), there, query, min(10, len(there)), "l2")
        assert found.keys == keys[0].tolist()


def _state(record: Record | None) -> State:
    return None if record is None else int(record.fields["generation"])


class Load:
    """Threads that write until they are told to stop or the server is gone.

    Each has 1000 keys of its own in `items`: it upserts batches and deletes some. After `stop` the
    model says what must be there.

    Attributes:
        errors: Answers other than OK and those of an unknown outcome.
        acknowledged: How many writes were.
    """

    def __init__(self, items: Items, address: str, threads: int = 4, first_key: int = 10**6):
        """Starts them."""
        self.items = items
        self.errors: list[AzimuthError] = []
        self.acknowledged = 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(address, first_key + 1000 * i))
            for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends and joins them."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a client thread does not end"

    def _run(self, address: str, first: int) -> None:
        rng = np.random.default_rng(first)
        with Client(address, timeout=30, retries=0) as db:
            while not self._stop.is_set():
                keys = (first + rng.choice(1000, rng.integers(1, 30), replace=False)).tolist()
                try:
                    if rng.random() < 0.2:
                        self.items.delete(db, keys)
                    else:
                        self.items.upsert(db, keys)
                except UNKNOWN_OUTCOME:
                    # The next write of the same keys would not know what to expect of them.
                    return
                except AzimuthError as error:
                    with self._lock:
                        self.errors.append(error)
                else:
                    with self._lock:
                        self.acknowledged += 1
