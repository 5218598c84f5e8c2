"""What a database that keeps its promises may hold after a crash, and what it holds instead.

The oracle lives outside of the server and is told of every batch twice: before it is sent (`begin`)
and after it was answered (`acknowledge` or `refuse`). A batch with neither answer is in flight: it
may have happened, whole, or not at all. `check` compares that with everything that can be read, and
says of each batch in flight which of the two it was.

Records may end. A record whose time has passed is absent; while it is about to pass, as far as the
oracle's clock can tell (TOLERANCE_US), both answers are right.

What it finds, by the name of a violation:
  lost       an acknowledged record is not there (or an older one of the same key is back)
  returned   a deleted or ended record is there, or one that was never written
  changed    a record is there with other contents than any of those that were written for its key
  version    a record has another version than the batch that wrote it was answered with
  twice      a key is listed more than once
  torn       a batch in flight was applied in part
  disagree   two ways to read (get, query, count, filter, search) give different answers
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Optional, Union

import numpy as np
import numpy.typing as npt

Key = Union[int, str]

# The server and the oracle read the same clock, though not at the same instant.
TOLERANCE_US = 50_000
FOREVER_US = 2**62


def now_us() -> int:
    """Returns microseconds since 1970."""
    return time.time_ns() // 1000


class Span(NamedTuple):
    """From before something was asked until after it was answered, in microseconds since 1970."""

    began: int
    ended: int


NO_SPAN = Span(0, 0)


class Stored(NamedTuple):
    """One version of a record: all of it."""

    vector: str  # See `digest`.
    fields: tuple[tuple[str, object], ...]  # By name.
    expires_at: int = 0  # Microseconds since 1970; 0: never.

    @property
    def group(self) -> object:
        """The field that filters ask for."""
        return dict(self.fields).get("group")

    def updated(
        self, vector: str | None, fields: Mapping[str, object], expires_at: int | None
    ) -> Stored:
        """Returns what an update makes of it; None stands for what it does not name."""
        return Stored(
            self.vector if vector is None else vector,
            in_order({**dict(self.fields), **fields}),
            self.expires_at if expires_at is None else expires_at,
        )


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


def digest(vector: npt.NDArray[np.float32]) -> str:
    """Returns a checksum of every bit of a vector."""
    data = np.ascontiguousarray(vector, "<f4").tobytes()
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def in_order(fields: Mapping[str, object]) -> tuple[tuple[str, object], ...]:
    """Returns fields as `Stored` has them."""
    return tuple(sorted(fields.items()))


class Presence(NamedTuple):
    """Whether a record can have been there, and can have been absent, at some time of a span."""

    can_be: bool
    can_lack: bool


def presence(state: State, span: Span) -> Presence:
    """Returns what its end says of a record; both are true while it is about to end."""
    if state is None:
        return Presence(False, True)
    if state.expires_at == 0:
        return Presence(True, False)
    return Presence(
        state.expires_at > span.began - TOLERANCE_US, state.expires_at <= span.ended + TOLERANCE_US
    )


def visible(state: State, span: Span) -> set[State]:
    """Returns what a read during a span may find of a key in this state."""
    can_be, can_lack = presence(state, span)
    found: set[State] = {state} if can_be else set()
    return found | {None} if can_lack else found


@dataclass(eq=False)
class Batch:
    """One write on its way: the new state of each of its keys.

    Attributes:
        changes: The states.
        applied: Set by `Oracle.check` of a batch in flight: whether it had happened; None if that
            cannot be told.
    """

    changes: dict[Key, State]
    applied: bool | None = None


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
        versions: The versions, of the keys that exist.
        stored: The number of records, with those that have ended and are not yet swept.
        span: When all that was read.
    """

    by_get: dict[Key, Stored]
    by_query: list[tuple[Key, Stored]]
    count: int
    counts: dict[str, int] = field(default_factory=dict)
    by_filter: dict[int, list[Key]] = field(default_factory=dict)
    by_scan: list[Key] | None = None
    versions: dict[Key, int] = field(default_factory=dict)
    stored: int | None = None
    span: Span = NO_SPAN


class Oracle:
    """The model of one collection.

    Thread safety: batches in flight at one time have no key in common (each client thread has keys
    of its own); then the methods may be called from any thread, `check` when none is running.

    Attributes:
        as_of: The largest sequence number of an acknowledged batch.
    """

    def __init__(self, collection: str) -> None:
        self.collection = collection
        self.as_of = 0
        self._acknowledged: dict[Key, Stored] = {}
        self._versions: dict[Key, int] = {}
        self._in_flight: list[Batch] = []
        # Hashes of all that was ever written for a key: tells an old version from damage.
        self._history: dict[Key, set[int]] = {}

    def state(self, key: Key) -> State:
        """Returns the last acknowledged version of a key, ended or not."""
        return self._acknowledged.get(key)

    def version(self, key: Key) -> int | None:
        """Returns the version of that, if it is known."""
        return self._versions.get(key)

    def was_written(self, key: Key, stored: Stored) -> bool:
        """Returns whether some batch ever had these contents for the key."""
        return hash(stored) in self._history.get(key, ())

    def begin(self, changes: Mapping[Key, State]) -> Batch:
        """Notes a batch that is about to be sent."""
        batch = Batch(dict(changes))
        for key, state in changes.items():
            if state is not None:
                self._history.setdefault(key, set()).add(hash(state))
        self._in_flight.append(batch)
        return batch

    def acknowledge(self, batch: Batch, as_of: int = 0) -> None:
        """Notes that the server said that the batch is on disk, with this sequence number."""
        self._in_flight.remove(batch)
        self.settle(batch, as_of)

    def refuse(self, batch: Batch) -> None:
        """Notes that the server said that nothing of the batch was written."""
        self._in_flight.remove(batch)

    def settle(self, batch: Batch, as_of: int) -> None:
        """Notes that a batch that was in flight in an earlier `check` is acknowledged after all."""
        self.as_of = max(self.as_of, as_of)
        for key, state in batch.changes.items():
            self._put(key, state, as_of or None)

    def _put(self, key: Key, state: State, version: int | None) -> None:
        self._versions.pop(key, None)
        if state is None:
            self._acknowledged.pop(key, None)
            return
        self._acknowledged[key] = state
        if version is not None:
            self._versions[key] = version

    def check(self, observed: Observed) -> list[Violation]:
        """Compares; then takes what is found of the batches in flight as what happened."""
        violations = self._check_listing(observed)
        pending: set[Key] = set()
        for batch in self._in_flight:
            pending |= batch.changes.keys()
            violations += self._check_batch(batch, observed)
        self._in_flight.clear()
        for key in self._acknowledged.keys() | observed.by_get.keys():
            if key not in pending:
                violations += self._check_key(key, observed, [self._acknowledged.get(key)])
                violations += self._check_version(key, observed)
        for key in pending:
            self._put(key, observed.by_get.get(key), observed.versions.get(key))
        return violations

    def _violation(self, kind: str, key: Key | None, expected: object, found: object) -> Violation:
        return Violation(kind, self.collection, key, str(expected), str(found))

    def _check_key(self, key: Key, observed: Observed, states: list[State]) -> list[Violation]:
        found = observed.by_get.get(key)
        allowed: set[State] = set()
        for state in states:
            allowed |= visible(state, observed.span)
        if found in allowed:
            return []
        expected = " or ".join(sorted("nothing" if s is None else str(s) for s in allowed))
        if found is None:
            kind = "lost"
        elif not self.was_written(key, found):
            kind = "changed" if key in self._history else "returned"
        else:
            kind = "returned" if allowed == {None} else "lost"
        return [self._violation(kind, key, expected, "nothing" if found is None else found)]

    def _check_version(self, key: Key, observed: Observed) -> list[Violation]:
        expected, found = self._versions.get(key), observed.versions.get(key)
        if expected is None or found is None or expected == found:
            return []
        return [self._violation("version", key, expected, found)]

    def _check_batch(self, batch: Batch, observed: Observed) -> list[Violation]:
        violations: list[Violation] = []
        old: list[Key] = []
        new: list[Key] = []
        for key, after in batch.changes.items():
            before, now = self._acknowledged.get(key), observed.by_get.get(key)
            wrong = self._check_key(key, observed, [before, after])
            violations += wrong
            if wrong:
                continue
            was, became = visible(before, observed.span), visible(after, observed.span)
            if now not in was:
                new.append(key)
            elif now not in became:
                old.append(key)
                violations += self._check_version(key, observed)
        if old and new:
            said = f"{len(new)} new (such as {new[0]!r}), {len(old)} old (such as {old[0]!r})"
            violations.append(self._violation("torn", old[0], "all of a batch or nothing", said))
        elif old or new:
            batch.applied = bool(new)
        return violations

    def _candidates(self, observed: Observed) -> dict[Key, list[Stored]]:
        """Returns all that each key may have been, whether it has ended or not."""
        candidates: dict[Key, list[Stored]] = {k: [s] for k, s in self._acknowledged.items()}
        for batch in self._in_flight:
            for key, state in batch.changes.items():
                if state is not None:
                    candidates.setdefault(key, []).append(state)
        for key, state in [*observed.by_get.items(), *observed.by_query]:
            candidates.setdefault(key, []).append(state)
        return candidates

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

        candidates = self._candidates(observed)
        # They may end between one read and the next.
        ending = {k for k, of_key in candidates.items() if any(_ends(s, observed) for s in of_key)}

        def compare(where: str, expected: set[Key], found: set[Key]) -> None:
            for key in (expected ^ found) - ending:
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
        least, most = len(every - ending), len(every | ending)
        bounds = {name: (number, most) for name, number in observed.counts.items()}
        bounds["count"] = (observed.count, most)
        if observed.stored is not None:
            # A delete, too, leaves a row that has ended to the sweeper.
            bounds["list"] = (observed.stored, len(self._history.keys() | every))
        for where, (number, most_there) in bounds.items():
            if not least <= number <= most_there:
                said = f"{least} to {most_there} by get"
                violations.append(self._violation("disagree", None, said, f"{number} by {where}"))
        return violations


def _ends(state: Stored, observed: Observed) -> bool:
    return all(presence(state, observed.span))
