"""A thread that makes, fills, truncates and drops a third collection again and again."""

from __future__ import annotations

import random
import threading

from azimuth_db import AzimuthError, Client
from oracle import Oracle, Violation
from workload import Target, Writer
from writes import UNKNOWN_OUTCOME

TEMPORARY = "temporary"


class Temporary(Target):
    """The collection that comes and goes.

    `exists` is None while a create or a drop is in flight.
    """

    def __init__(self) -> None:
        super().__init__(TEMPORARY, "l2", "int64")
        self.exists: bool | None = False


class CollectionMaker:
    """The client thread that makes, fills, truncates and drops the third collection."""

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
        choice = self._random.random()
        if choice < 0.2:
            return self._drop(db)
        items = db.collection(target.name)
        return self.writer.truncate(items) if choice < 0.3 else self.writer.step(items)

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
