"""One write of the load: how it is sent, again with the same id if need be, and what may come back.

What a write finds of each of its keys is known but for records that are about to end. From that
follows whether it must fail, may fail, and how many records it must say that it found.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Union

from azimuth_db import (
    Aborted,
    AlreadyExists,
    AzimuthError,
    Cancelled,
    Collection,
    DeadlineExceeded,
    DeleteResult,
    NotFound,
    Unavailable,
    UpdateResult,
    WriteResult,
)
from oracle import FOREVER_US, Batch, Key, Oracle, Presence, Span, State, presence

# Answers after which nobody knows whether the write happened.
UNKNOWN_OUTCOME = (Unavailable, DeadlineExceeded, Cancelled)


class Need(enum.Enum):
    """What a write asks of each of its keys, or fails as a whole."""

    NOTHING = "nothing"
    ABSENT = "to be absent"
    PRESENT = "to be present"


class Answer(NamedTuple):
    """What the server says that it did."""

    found: int  # Records that existed before.
    total: int | None  # Those, and the keys without a record; None if it does not say.
    as_of: int
    replayed: bool


Result = Union[WriteResult, UpdateResult, DeleteResult, int]


def answer_of(result: Result) -> Answer:
    """Returns what a result says; an int is that of a truncation."""
    if isinstance(result, WriteResult):
        total = result.inserted + result.replaced
        return Answer(result.replaced, total, result.as_of, result.replayed)
    if isinstance(result, UpdateResult):
        total = result.updated + result.missing
        return Answer(result.updated, total, result.as_of, result.replayed)
    if isinstance(result, DeleteResult):
        return Answer(result.deleted, None, result.as_of, result.replayed)
    return Answer(result, None, 0, False)


class Before(NamedTuple):
    """What is known of a key before a write."""

    state: State
    version: int | None


@dataclass(eq=False)
class Write:
    """One write that is or was under way.

    Attributes:
        name: What it is, for violations.
        before: Its keys.
        call: Sends it.
        began: When it was first sent, in microseconds since 1970.
        repeatable: Whether it has a request id.
        need: What it asks of the keys.
        if_version: Another condition.
        counts_ended: Whether it counts records that have ended and are not swept yet.
        batch: Its changes, once the oracle knows of it.
    """

    name: str
    before: dict[Key, Before]
    call: Callable[[Collection], Result]
    began: int
    repeatable: bool = True
    need: Need = Need.NOTHING
    if_version: int | None = None
    counts_ended: bool = False
    batch: Batch = field(default_factory=lambda: Batch({}))

    def must_fail(self, until: int = FOREVER_US) -> bool:
        """Returns whether it cannot work, whenever it happens until then."""
        return any(not can_hold for can_hold, _ in self._conditions(Span(self.began, until)))

    def judge(self, answer: Answer | AzimuthError, ended: int) -> str:
        """Returns what was expected, if the answer was not."""
        span = Span(self.began, ended)
        if isinstance(answer, AzimuthError):
            may_fail = any(can_break for _, can_break in self._conditions(span))
            return "" if may_fail and isinstance(answer, self._refusals()) else f"{self.name}: OK"
        if self.must_fail(ended):
            return f"{self.name} to be refused"
        there = [presence(known.state, span) for known in self.before.values()]
        least = sum(not can_lack for _, can_lack in there)
        most = sum(can_be for can_be, _ in there)
        if self.counts_ended:
            most = len(self.before)
        if self.need is Need.ABSENT:
            least = most = 0
        if not least <= answer.found <= most:
            return f"{self.name} of {len(self.before)} keys: {least} to {most} found"
        if answer.total not in (None, len(self.before)):
            return f"{self.name}: {len(self.before)} in all"
        return ""

    def _conditions(self, span: Span) -> list[tuple[bool, bool]]:
        """Returns of each condition whether it can hold and whether it can be broken."""
        conditions: list[tuple[bool, bool]] = []
        for state, version in self.before.values():
            there = presence(state, span)
            absent = Presence(there.can_lack, there.can_be)
            if self.need is not Need.NOTHING:
                conditions.append(there if self.need is Need.PRESENT else absent)
            if self.if_version == 0:
                conditions.append(absent)
            elif self.if_version is not None:
                conditions.append(there if version == self.if_version else (False, True))
        return conditions

    def _refusals(self) -> tuple[type[AzimuthError], ...]:
        types: list[type[AzimuthError]] = []
        if self.need is not Need.NOTHING:
            types.append(AlreadyExists if self.need is Need.ABSENT else NotFound)
        if self.if_version is not None:
            types.append(Aborted)
        return tuple(types)


def send(write: Write, items: Collection) -> Answer | AzimuthError:
    """Sends it; raises what leaves the outcome unknown."""
    try:
        return answer_of(write.call(items))
    except UNKNOWN_OUTCOME:
        raise
    except AzimuthError as error:
        return error


def repeat(
    write: Write, items: Collection, oracle: Oracle, clock: Callable[[], int]
) -> list[tuple[str, str]]:
    """Sends a write that was in flight in a crash again; returns what was expected and was found.

    It must be done exactly once: if it was found to have happened, the first answer comes back, and
    its records have the version of then.
    """
    answer = send(write, items)
    expected = write.judge(answer, clock())
    wrong = [(expected, repr(answer))] if expected else []
    applied = write.batch.applied
    if isinstance(answer, AzimuthError):
        return [*wrong, (f"{write.name}: its first answer", repr(answer))] if applied else wrong
    if applied is not None and applied != answer.replayed:
        said = "its first answer" if applied else "to be done now"
        wrong.append((f"{write.name}: {said}", repr(answer)))
    oracle.settle(write.batch, answer.as_of)
    span = Span(write.began, FOREVER_US)
    sure = [k for k, s in write.batch.changes.items() if not presence(s, span).can_lack]
    for key, record in zip(sure, items.get(sure, output_fields=[]) if sure else []):
        if record is None or record.version != answer.as_of:
            found = "nothing" if record is None else f"version {record.version}"
            wrong.append((f"{write.name}: key {key!r} at version {answer.as_of}", found))
    return wrong
