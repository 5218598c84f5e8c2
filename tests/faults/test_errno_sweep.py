"""System calls that fail leave a server that answers, ends or heals, and loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from azimuth_db import Unavailable
from errno_sweep import Case, Filled, Run, all_cases, fill, rocksdb_assertion, spread
from server_process import server_binary
from small_load import SmallLoad

CASES = [
    Case("fdatasync", 25, "ENOSPC", False),
    Case("fdatasync", 30, "EIO", False),
    Case("write", 40, "ENOSPC", True),
    Case("write", 60, "EIO", False),
    Case("create", 25, "ENOSPC", False),
    Case("rename", 12, "EIO", True),
]
READS = [Case("open", 6, "EIO", False, True), Case("pread", 40, "EIO", False, True)]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    return fill(tmp_path_factory.mktemp("filled"), server_binary())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_a_call_that_fails_while_the_server_works(tmp_path: Path, case: Case) -> None:
    run = Run(tmp_path, case, server_binary())
    outcome = run.run()
    assert not outcome.violations, run.server.log()
    assert not outcome.rocksdb_assertion
    assert outcome.where.startswith(case.call)


@pytest.mark.parametrize("case", READS, ids=lambda case: case.rule)
def test_a_read_that_fails_at_a_start(tmp_path: Path, filled: Filled, case: Case) -> None:
    run = Run(tmp_path, case, server_binary(), filled)
    outcome = run.run()
    assert not outcome.violations, run.server.log()
    assert outcome.where.startswith(case.call)


def test_the_sweep_notices_a_record_that_is_gone(tmp_path: Path, filled: Filled) -> None:
    load = filled.load.copy()
    key = next(key for key in load.numbers.keys if load.numbers.oracle.state(key) is None)
    batch = load.numbers.oracle.begin(load.numbers.maker.rows([key]).states())
    load.numbers.oracle.acknowledge(batch)
    run = Run(tmp_path, READS[0], server_binary(), filled._replace(load=load))
    assert any(f"lost: collection 'numbers', key {key}" in text for text in run.run().violations)


def test_the_load_and_a_start_make_the_calls_that_are_swept(filled: Filled) -> None:
    assert all(filled.calls[call] > 5 for call in ("create", "write", "fsync", "fdatasync"))
    assert filled.start_calls["pread"] > 5
    cases = all_cases(filled, ("ENOSPC", "EIO"))
    writes = [case for case in cases if case.call == "write"]
    assert len(writes) == 4 * filled.calls["write"]
    assert len(set(cases)) == len(cases)


def test_fewer_cases_are_spread_over_all_kinds_of_calls() -> None:
    cases = [Case("write", n, "EIO", False) for n in range(1, 101)]
    cases += [Case("mkdir", n, "EIO", False) for n in range(1, 4)]
    assert spread(cases, 1000) == cases
    chosen = spread(cases, 10)
    assert [case.n for case in chosen if case.call == "write"] == list(range(1, 101, 10))
    assert [case.n for case in chosen if case.call == "mkdir"] == [1, 2]


def test_an_assertion_of_rocksdb_is_told_from_our_own() -> None:
    theirs = "azimuthd: ./file/writer.h:312: rocksdb::IOStatus f(): Assertion `x' failed."
    assert rocksdb_assertion(f"a line\n{theirs}\n") == theirs
    assert not rocksdb_assertion("F engine/database.cc:12 check failed: x")


def test_a_write_that_fails_stays_open_and_its_keys_are_left_alone(filled: Filled) -> None:
    load: SmallLoad = filled.load.copy()
    target = load.numbers
    keys = target.keys[:3]

    def fail() -> None:
        raise Unavailable(None, "not there")  # type: ignore[arg-type]

    load._send(target, dict.fromkeys(keys), fail)
    assert target.settled(target.keys[:5]) == target.keys[3:5]
    assert [step for step, _ in load.met.errors] == [""]
