"""A thread that reads while others write, and checks what can be told of a read at such a time."""

from __future__ import annotations

import random
import threading
from collections import Counter

from azimuth_db import AzimuthError, Client, Collection
from oracle import Key, Violation
from workload import DIM, GROUPS, Target, stored_of
from writes import UNKNOWN_OUTCOME

PAUSE_S = 0.005
KEYS_PER_GET = 20
LIMIT = 50


class Reader:
    """Gets, queries, searches and counts.

    Whatever it finds has been written at some time, stands once in its listing, and is as its
    filter says; the answer is not older than the newest write that was acknowledged before, which
    it asks for with `min_seq`.
    """

    def __init__(self, targets: list[Target], seed: int, stop: threading.Event) -> None:
        self.reads = 0
        self.violations: list[Violation] = []
        self._targets = targets
        self._random = random.Random(seed)
        self._stop = stop

    def run(self, db: Client) -> None:
        """Reads until it is told to stop or the server is gone."""
        kinds = [self._get, self._query, self._search, self._count]
        while not self._stop.wait(PAUSE_S):
            target = self._random.choice(self._targets)
            try:
                self._random.choice(kinds)(target, db.collection(target.name))
            except UNKNOWN_OUTCOME:
                return
            except AzimuthError as error:
                self._wrong(target, None, "a read to be answered with OK", repr(error))
                return
            self.reads += 1

    def _get(self, target: Target, items: Collection) -> None:
        keys = self._random.sample(target.keys, KEYS_PER_GET)
        records = items.get(keys, output_vectors=["v"], min_seq=target.oracle.as_of)
        for key, record in zip(keys, records):
            if record is None:
                continue
            stored = stored_of(record)
            if record.key != key or not target.oracle.was_written(key, stored):
                self._wrong(target, key, "contents that were written", repr(record))

    def _query(self, target: Target, items: Collection) -> None:
        group, min_seq = self._random.randrange(GROUPS), target.oracle.as_of
        found = items.query(
            "group == $g", LIMIT, params={"g": group}, output_vectors=["v"], min_seq=min_seq
        )
        self._once(target, [record.key for record in found])
        self._not_before(target, found.as_of, min_seq)
        for record in found:
            stored = stored_of(record)
            if stored.group != group or not target.oracle.was_written(record.key, stored):
                self._wrong(target, record.key, f"a record of group {group}", repr(record))

    def _search(self, target: Target, items: Collection) -> None:
        query = [self._random.gauss(0, 1) for _ in range(DIM)]
        exact, min_seq = self._random.random() < 0.3, target.oracle.as_of
        found = items.search(query, LIMIT, exact=exact, min_seq=min_seq)
        self._once(target, found.keys)
        self._not_before(target, found.as_of, min_seq)

    def _count(self, target: Target, items: Collection) -> None:
        count = items.count(min_seq=target.oracle.as_of)
        if count > len(target.keys):
            self._wrong(target, None, f"at most {len(target.keys)} records", str(count))

    def _once(self, target: Target, keys: list[Key]) -> None:
        for key, times in Counter(keys).items():
            if times > 1:
                self._wrong(target, key, "a key once in a listing", f"{times} times")

    def _not_before(self, target: Target, as_of: int, min_seq: int) -> None:
        if as_of < min_seq:
            self._wrong(target, None, f"an answer as of {min_seq} or later", f"as of {as_of}")

    def _wrong(self, target: Target, key: Key | None, expected: str, found: str) -> None:
        self.violations.append(Violation("read", target.name, key, expected, found))
