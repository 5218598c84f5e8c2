"""What a database that keeps its promises may hold after a crash, and what it holds instead.

The oracle lives outside of the server and is told of every batch twice: before it is sent (`begin`)
and after it was answered (`acknowledge` or `refuse`). A batch with neither answer is in flight: it
may have happened, whole, or not at all. `check` compares that with everything that can be read.

What it finds, by the name of a violation:
  lost       an acknowledged record is not there (or an older one of the same key is back)
  returned   a deleted record is there, or one that was never written
  changed    a record is there with other contents than any of those that were written for its key
  twice      a key is listed more than once
  torn       a batch in flight was applied in part
  disagree   two ways to read (get, query, count, filter, search) give different answers
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Optional, Union

import numpy as np
import numpy.typing as npt

Key = Union[int, str]


class Stored(NamedTuple):
    """One version of a record: a checksum over all of it, and the field that filters ask for."""

    checksum: str
    group: int


State = Optional[Stored]  # None: there is no record of that key.


@dataclass(frozen=True)
class Violation:
    """One promise that was broken."""

    kind: str
    collection: str
    key: Key | None
    expected: str
    found: str

    def __str__(self) -> str:
        return (
            f"{self.kind}: collection {self.collection!r}, key {self.key!r}: "
            f"expected {self.expected}, found {self.found}"
        )


def checksum(vector: npt.NDArray[np.float32], fields: Mapping[str, object]) -> str:
    """Returns a checksum of a record's contents: every bit of its vector and all of its fields."""
    digest = hashlib.blake2b(np.ascontiguousarray(vector, "<f4").tobytes(), digest_size=8)
    digest.update(repr(sorted(fields.items())).encode())
    return digest.hexdigest()


@dataclass(eq=False)
class Batch:
    """One write on its way: the new state of each of its keys."""

    changes: dict[Key, State]


@dataclass
class Observed:
    """Everything that one collection answered, as (key, contents) where contents were read.

    Attributes:
        by_get: Every key of the universe that exists.
        by_query: The listing of all records, in the order that it came.
        count: The number of records, from the count call.
        counts: Further numbers that must equal it, by where they come from.
        by_filter: The keys that a filter on each group found, in the order that they came.
        by_scan: The keys of an exact search that asks for everything, as they came.
    """

    by_get: dict[Key, Stored]
    by_query: list[tuple[Key, Stored]]
    count: int
    counts: dict[str, int] = field(default_factory=dict)
    by_filter: dict[int, list[Key]] = field(default_factory=dict)
    by_scan: list[Key] | None = None


class Oracle:
    """The model of one collection.

    Thread safety: batches in flight at one time have no key in common (each client thread has keys
    of its own); then the methods may be called from any thread, `check` when none is running.
    """

    def __init__(self, collection: str) -> None:
        self.collection = collection
        self._acknowledged: dict[Key, Stored] = {}
        self._in_flight: list[Batch] = []
        # All that was ever written for a key: tells an old version from damage.
        self._history: dict[Key, set[Stored]] = {}

    def state(self, key: Key) -> State:
        """Returns the last acknowledged version of a key."""
        return self._acknowledged.get(key)

    def begin(self, changes: Mapping[Key, State]) -> Batch:
        """Notes a batch that is about to be sent."""
        batch = Batch(dict(changes))
        for key, state in changes.items():
            if state is not None:
                self._history.setdefault(key, set()).add(state)
        self._in_flight.append(batch)
        return batch

    def acknowledge(self, batch: Batch) -> None:
        """Notes that the server said that the batch is on disk."""
        self._in_flight.remove(batch)
        self._apply(batch)

    def refuse(self, batch: Batch) -> None:
        """Notes that the server said that nothing of the batch was written."""
        self._in_flight.remove(batch)

    def _apply(self, batch: Batch) -> None:
        for key, state in batch.changes.items():
            if state is None:
                self._acknowledged.pop(key, None)
            else:
                self._acknowledged[key] = state

    def check(self, observed: Observed) -> list[Violation]:
        """Compares; then takes what is found of the batches in flight as what happened."""
        violations = self._check_listing(observed)
        pending: set[Key] = set()
        for batch in self._in_flight:
            pending |= batch.changes.keys()
            violations += self._check_batch(batch, observed.by_get)
        self._in_flight.clear()
        for key in self._acknowledged.keys() | observed.by_get.keys():
            if key not in pending:
                found = observed.by_get.get(key)
                violations += self._check_key(key, found, {self._acknowledged.get(key)})
        for key in pending:
            if key in observed.by_get:
                self._acknowledged[key] = observed.by_get[key]
            else:
                self._acknowledged.pop(key, None)
        return violations

    def _violation(self, kind: str, key: Key | None, expected: object, found: object) -> Violation:
        return Violation(kind, self.collection, key, str(expected), str(found))

    def _check_key(self, key: Key, found: State, allowed: set[State]) -> list[Violation]:
        if found in allowed:
            return []
        expected = " or ".join(sorted("nothing" if s is None else str(s) for s in allowed))
        if found is None:
            kind = "lost"
        elif found not in self._history.get(key, ()):
            kind = "changed" if key in self._history else "returned"
        else:
            kind = "returned" if allowed == {None} else "lost"
        return [self._violation(kind, key, expected, "nothing" if found is None else found)]

    def _check_batch(self, batch: Batch, found: Mapping[Key, Stored]) -> list[Violation]:
        violations: list[Violation] = []
        old: list[Key] = []
        new: list[Key] = []
        for key, after in batch.changes.items():
            before, now = self._acknowledged.get(key), found.get(key)
            wrong = self._check_key(key, now, {before, after})
            violations += wrong
            if not wrong and before != after:
                (new if now == after else old).append(key)
        if old and new:
            said = f"{len(new)} new (such as {new[0]!r}), {len(old)} old (such as {old[0]!r})"
            violations.append(self._violation("torn", old[0], "all of a batch or nothing", said))
        return violations

    def _check_listing(self, observed: Observed) -> list[Violation]:
        violations: list[Violation] = []
        listings: list[tuple[str, Iterable[Key]]] = [("query", [k for k, _ in observed.by_query])]
        listings += [(f"filter group == {g}", keys) for g, keys in observed.by_filter.items()]
        if observed.by_scan is not None:
            listings.append(("exact search", observed.by_scan))
        for where, keys in listings:
            for key, times in Counter(keys).items():
                if times > 1:
                    violations.append(self._violation("twice", key, "once", f"{times} in {where}"))

        def compare(where: str, expected: set[Key], found: set[Key]) -> None:
            for key in expected ^ found:
                said = ("by get", f"not by {where}")
                violations.append(
                    self._violation("disagree", key, *(said if key in expected else said[::-1]))
                )

        every = set(observed.by_get)
        compare("query", every, {key for key, _ in observed.by_query})
        for key, stored in observed.by_query:
            if key in every and observed.by_get[key] != stored:
                violations.append(self._violation("disagree", key, observed.by_get[key], stored))
        for group, keys in observed.by_filter.items():
            of_group = {key for key, stored in observed.by_get.items() if stored.group == group}
            compare(f"filter group == {group}", of_group, set(keys))
        if observed.by_scan is not None:
            compare("exact search", every, set(observed.by_scan))
        for where, count in [("count", observed.count), *observed.counts.items()]:
            if count != len(every):
                violations.append(
                    self._violation("disagree", None, f"{len(every)} by get", f"{count} by {where}")
                )
        return violations
