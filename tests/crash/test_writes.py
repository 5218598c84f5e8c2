"""What may be answered to a write, and what a repeated one must do."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from azimuth_db import (
    Aborted,
    AlreadyExists,
    AzimuthError,
    Internal,
    NotFound,
    Record,
    WriteResult,
)
from oracle import Batch, Key, Oracle, Stored
from writes import Answer, Before, Need, Write, repeat

NOW = 1_700_000_000_000_000
SECOND = 1_000_000
LASTING = Before(Stored("a", ()), 7)
ENDING = Before(Stored("a", (), NOW + SECOND), 7)
ENDED = Before(Stored("a", (), NOW - SECOND), 7)
NONE = Before(None, None)


def error(kind: type[AzimuthError]) -> AzimuthError:
    return kind(grpc.StatusCode.UNKNOWN, "said so")


def write(*before: Before, **more: Any) -> Write:
    keys: dict[Key, Before] = dict(enumerate(before))
    return Write("write", keys, lambda _: 0, NOW, **more)


def passes(write: Write, answer: Answer | AzimuthError, after_s: int = 0) -> bool:
    return write.judge(answer, NOW + after_s * SECOND) == ""


def answer(found: int, total: int | None = None) -> Answer:
    return Answer(found, total, 9, False)


@pytest.mark.parametrize(
    ("need", "kept", "broken", "refusal"),
    [
        (Need.ABSENT, [NONE, ENDED], LASTING, AlreadyExists),
        (Need.PRESENT, [LASTING, LASTING], ENDED, NotFound),
        (Need.PRESENT, [LASTING, LASTING], NONE, NotFound),
    ],
)
def test_a_need_decides_whether_a_write_works(
    need: Need, kept: list[Before], broken: Before, refusal: type[AzimuthError]
) -> None:
    found = 0 if need is Need.ABSENT else 2
    works, fails = write(*kept, need=need), write(*kept, broken, need=need)
    assert not works.must_fail()
    assert fails.must_fail()
    assert passes(works, answer(found, 2))
    assert not passes(works, error(refusal))
    assert passes(fails, error(refusal))
    assert not passes(fails, error(Internal))
    assert not passes(fails, answer(found, 3))


def test_a_record_that_may_have_ended_leaves_both_open() -> None:
    update = write(LASTING, ENDING, need=Need.PRESENT)
    assert not update.must_fail()
    assert passes(update, answer(2, 2), 2)
    assert passes(update, error(NotFound), 2)
    assert not passes(update, error(NotFound), 0)
    upsert = write(LASTING, ENDING, NONE)
    assert [n for n in range(5) if passes(upsert, answer(n, 3), 2)] == [1, 2]
    assert [n for n in range(5) if passes(upsert, answer(n, 3), 0)] == [2]


def test_a_version_is_compared() -> None:
    assert passes(write(LASTING, if_version=7), answer(1, 1))
    assert not passes(write(LASTING, if_version=7), error(Aborted))
    for other in (write(LASTING, if_version=8), write(LASTING, if_version=0)):
        assert other.must_fail()
        assert passes(other, error(Aborted))
        assert not passes(other, answer(1, 1))
    assert passes(write(NONE, if_version=0), answer(0, 1))
    assert passes(write(ENDED, if_version=7), error(Aborted))


def test_the_numbers_must_be_right() -> None:
    assert not passes(write(LASTING, NONE), answer(1, 3))
    assert not passes(write(LASTING, NONE), answer(2, 2))
    assert passes(write(LASTING, ENDED, NONE, counts_ended=True), answer(2))
    assert not passes(write(LASTING, ENDED, NONE, counts_ended=True), answer(0))


class Items:
    """A collection that has one record."""

    def __init__(self, version: int) -> None:
        self.version = version

    def get(self, keys: list[Key], **_: Any) -> list[Record | None]:
        return [Record(key, {}, {}, self.version) for key in keys]


@pytest.mark.parametrize(
    ("applied", "replayed", "version", "wrong"),
    [
        (True, True, 9, []),
        (False, False, 9, []),
        (None, True, 9, []),
        (True, False, 9, ["write: its first answer"]),
        (False, True, 9, ["write: to be done now"]),
        (True, True, 10, ["write: key 0 at version 9"]),
    ],
)
def test_a_repeated_write_is_done_once(
    applied: bool | None, replayed: bool, version: int, wrong: list[str]
) -> None:
    sent = write(NONE)
    sent.call = lambda _: WriteResult(1, 0, 9, replayed)
    sent.batch = Batch({0: LASTING.state}, applied)
    items: Any = Items(version)
    found = repeat(sent, items, Oracle("items"), lambda: NOW)
    assert [expected for expected, _ in found] == wrong


def test_a_write_that_happened_is_not_refused_when_repeated() -> None:
    def refuse(_: object) -> int:
        raise error(NotFound)

    sent = write(ENDING, need=Need.PRESENT)
    sent.call = refuse
    items: Any = Items(9)
    for applied, wrong in ((True, ["write: its first answer"]), (False, [])):
        sent.batch = Batch({0: ENDING.state}, applied)
        found = repeat(sent, items, Oracle("items"), lambda: NOW + 2 * SECOND)
        assert [expected for expected, _ in found] == wrong
