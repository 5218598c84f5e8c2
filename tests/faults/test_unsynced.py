"""What is synced survives a power failure, what is not may be gone; the server copes with it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import FaultShim
from oracle import Violation
from power_failure import PAGE, Journal
from server_process import server_binary
from unsynced import UnsyncedHarness

ROUNDS = min(6, int(os.environ.get("AZIMUTH_CRASH_ROUNDS", "6")))
CHILD = """
import os, sys
folder = sys.argv[1]
def path(name):
    return os.path.join(folder, name)
def make(name):
    return os.open(path(name), os.O_CREAT | os.O_RDWR)
def sync_dir(name='.'):
    fd = os.open(path(name), os.O_RDONLY); os.fsync(fd); os.close(fd)
"""
Look = Callable[[Path], object]


def outcomes(
    folder: Path, code: str, look: Look, before: str = "", seeds: int = 60, kill: str = ""
) -> set[object]:
    """Returns what `look` finds after power failures with many seeds, at the end of `code`."""
    found = set()
    for seed in range(seeds):
        at = folder / str(seed)
        data = at / "data"
        data.mkdir(parents=True)
        if before:
            subprocess.run([sys.executable, "-c", CHILD + before, str(data)], check=True)
        shim = FaultShim(at / "shim", data, server_binary())
        journal = Journal(at / "forget", data)
        journal.begin()
        environment = {**os.environ, **shim.environment(kill, forget=journal.folder)}
        run = subprocess.run(
            [sys.executable, "-S", "-c", CHILD + code, str(data)], env=environment, check=False
        )
        assert run.returncode == (-9 if kill else 0)
        journal.power_failure(random.Random(seed))
        found.add(look(data))
    return found


def content(name: str) -> Look:
    def look(data: Path) -> bytes | None:
        path = data / name
        return path.read_bytes() if path.exists() else None

    return look


def names(data: Path) -> tuple[str, ...]:
    return tuple(sorted(p.relative_to(data).as_posix() for p in data.rglob("*")))


def test_bytes_that_are_not_synced_are_lost_from_the_end(tmp_path: Path) -> None:
    code = """
fd = make('a'); os.write(fd, b'abc'); os.fsync(fd); sync_dir(); os.write(fd, b'def')
os.write(fd, b'gh')
"""
    found = outcomes(tmp_path, code, content("a"))
    kept = {text for text in found if isinstance(text, bytes) and b"\0" not in text}
    assert {b"abc", b"abcdefgh"} <= kept
    assert kept <= {b"abcdefgh"[:n] for n in range(3, 9)}
    assert len(kept) > 2
    # A torn page: zeros in what was not synced, and nowhere else.
    assert all(text is not None and text.startswith(b"abc") for text in found)


def test_a_torn_page_has_zeros_only_where_nothing_was_synced(tmp_path: Path) -> None:
    code = f"""
fd = make('a'); os.write(fd, b'x' * {PAGE + 100}); os.fdatasync(fd); sync_dir()
os.write(fd, b'y' * {3 * PAGE})
"""

    def look(data: Path) -> tuple[bool, bool]:
        text = (data / "a").read_bytes()
        return text.startswith(b"x" * (PAGE + 100)), b"\0" in text

    assert outcomes(tmp_path, code, look) == {(True, False), (True, True)}


def test_what_is_written_over_comes_back_or_stays(tmp_path: Path) -> None:
    code = "fd = make('a'); os.pwrite(fd, b'XY', 1)"
    before = "fd = make('a'); os.write(fd, b'abcd')"
    assert outcomes(tmp_path, code, content("a"), before) == {b"abcd", b"aXcd", b"aXYd"}
    code += "; os.fdatasync(fd)"
    assert outcomes(tmp_path / "synced", code, content("a"), before) == {b"aXYd"}


def test_a_write_during_a_sync_is_not_covered_by_it(tmp_path: Path) -> None:
    code = """
import threading
fd = make('a'); os.write(fd, b'ab'); sync_dir()
began = threading.Event()
def sync():
    began.set(); os.fsync(fd)
thread = threading.Thread(target=sync); thread.start(); began.wait(); thread.join()
os.write(fd, b'cd')
"""
    assert b"ab" in outcomes(tmp_path, code, content("a"), seeds=20)


def test_a_truncation_is_taken_back_whole(tmp_path: Path) -> None:
    before = "fd = make('a'); os.write(fd, b'abcd')"
    code = "os.ftruncate(make('a'), 1)"
    assert outcomes(tmp_path, code, content("a"), before, seeds=20) == {b"abcd", b"a"}
    code = "os.open(path('a'), os.O_WRONLY | os.O_TRUNC)"
    assert outcomes(tmp_path / "open", code, content("a"), before, seeds=20) == {b"abcd", b""}


def test_names_need_a_sync_of_their_directory(tmp_path: Path) -> None:
    code = "fd = make('a'); os.fsync(fd)"
    assert outcomes(tmp_path / "1", code, names, seeds=20) == {(), ("a",)}
    assert outcomes(tmp_path / "2", code + "; sync_dir()", names, seeds=20) == {("a",)}
    code = "os.mkdir(path('d')); make('d/a'); sync_dir('d')"
    assert outcomes(tmp_path / "3", code, names, seeds=20) == {(), ("d", "d/a")}


def test_a_rename_is_whole_or_not_at_all(tmp_path: Path) -> None:
    before = "os.write(make('a'), b'old')"
    code = """
fd = make('a.tmp'); os.write(fd, b'new'); os.fsync(fd); os.rename(path('a.tmp'), path('a'))
"""
    assert outcomes(tmp_path / "1", code, content("a"), before, seeds=20) == {b"old", b"new"}
    found = outcomes(tmp_path / "2", code + "sync_dir()", names, before, seeds=20)
    assert found == {("a",)}


def test_a_rename_without_a_sync_before_it_may_leave_an_empty_file(tmp_path: Path) -> None:
    code = """
os.write(make('a.tmp'), b'new'); os.rename(path('a.tmp'), path('a')); sync_dir()
"""
    found = outcomes(tmp_path, code, content("a"), "os.write(make('a'), b'old')", seeds=40)
    assert {b"", b"new"} <= found
    assert b"old" not in found


def test_a_removed_file_may_be_back(tmp_path: Path) -> None:
    before = "os.write(make('a'), b'old')"
    code = "os.unlink(path('a'))"
    assert outcomes(tmp_path, code, content("a"), before, seeds=20) == {b"old", None}


@pytest.mark.parametrize("call", ["rename", "unlink", "write", "truncate"])
def test_a_death_just_before_a_call_leaves_what_was_before(tmp_path: Path, call: str) -> None:
    before = "os.write(make('a'), b'abcd')"
    calls = {
        "rename": "os.rename(path('a'), path('b'))",
        "unlink": "os.unlink(path('a'))",
        "write": "os.write(make('a'), b'XY')",
        "truncate": "os.ftruncate(make('a'), 0)",
    }
    kill = f"{call}@1=kill"
    assert outcomes(tmp_path, calls[call], content("a"), before, seeds=4, kill=kill) == {b"abcd"}


def test_a_change_that_failed_is_not_taken_back(tmp_path: Path) -> None:
    code = """
fd = make('a'); os.write(fd, b'ab'); os.fsync(fd); sync_dir()
try:
    os.rename(path('nothing'), path('a'))
except OSError:
    os.unlink(path('a')); sync_dir()
"""
    assert outcomes(tmp_path, code, names, seeds=10) == {()}


def test_power_failures_break_no_promise(tmp_path: Path) -> None:
    seed = int(os.environ.get("AZIMUTH_CRASH_SEED", random.randrange(2**32)))
    harness = UnsyncedHarness(tmp_path, seed)
    try:
        for _ in range(ROUNDS):
            if harness.round():
                break
    finally:
        harness.close()
    summary = harness.summary
    kept = f"seed {seed}, {harness.server.data_dir}, its log:\n{harness.server.log()}"
    assert not summary.violations, "\n".join([*summary.violations[:20], kept])
    assert summary.power_failures >= ROUNDS
    assert summary.names_lost + summary.files_cut > 0


class LyingDisk(UnsyncedHarness):
    """On a disk whose syncs do nothing."""

    def _environment(self) -> dict[str, str]:
        environment = super()._environment()
        self._shim.set("sync@1=skip:sticky")
        return environment


def test_the_harness_notices_a_disk_that_only_says_that_it_syncs(tmp_path: Path) -> None:
    harness = LyingDisk(tmp_path, 5)
    harness.failpoints = []  # Only kills under load.
    found: list[Violation] = []
    try:
        for _ in range(10):
            found = found or harness.round()
    finally:
        harness.close()
    assert {violation.kind for violation in found} <= {"lost", "returned", "unusable", "verify"}
    assert found
