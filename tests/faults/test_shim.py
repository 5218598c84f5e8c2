"""The shim fails the calls that it is told to fail, and no other ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from faults import CALLS, FaultShim, shim_library
from server_process import server_binary

ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
CHILD = """
import errno, mmap, os, signal, socket, sys, time
folder = sys.argv[1]
def path(name):
    return os.path.join(folder, name)
def make(name):
    return os.open(path(name), os.O_CREAT | os.O_RDWR)
def code(call, *arguments):
    try:
        call(*arguments)
        return "OK"
    except OSError as error:
        return errno.errorcode[error.errno]
def codes(times, call, *arguments):
    print(*(code(call, *arguments) for _ in range(times)), flush=True)
"""


@pytest.fixture
def shim(tmp_path: Path) -> FaultShim:
    (tmp_path / "data").mkdir()
    return FaultShim(tmp_path / "shim", tmp_path / "data", server_binary())


def start(shim: FaultShim, tmp_path: Path, rules: str, code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD + code, str(tmp_path / "data")],
        env={**ENVIRONMENT, **shim.environment(rules)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(shim: FaultShim, tmp_path: Path, rules: str, code: str) -> str:
    process = start(shim, tmp_path, rules, code)
    said, wrong = process.communicate(timeout=60)
    assert process.returncode == 0, wrong
    return said.strip()


def test_only_the_nth_call_fails(shim: FaultShim, tmp_path: Path) -> None:
    said = run(shim, tmp_path, "write@2=ENOSPC", "fd = make('a'); codes(4, os.write, fd, b'x')")
    assert said == "OK ENOSPC OK OK"
    assert (tmp_path / "data/a").read_bytes() == b"xxx"
    assert shim.hits() == 1
    assert shim.first_hit() == shim.last_hit() == "write a"
    assert shim.counts()["write"] == 4


def test_a_sticky_rule_fails_all_later_calls_and_a_range_some(
    shim: FaultShim, tmp_path: Path
) -> None:
    code = "fd = make('a'); codes(5, os.write, fd, b'x')"
    assert run(shim, tmp_path, "write@3=EIO:sticky", code) == "OK OK EIO EIO EIO"
    assert shim.hits() == 3
    assert run(shim, tmp_path, "write@2-3=EIO", code) == "OK EIO EIO OK OK"


def test_a_glob_chooses_files_and_counts_only_them(shim: FaultShim, tmp_path: Path) -> None:
    code = """
os.mkdir(path('rocks')); log = make('rocks/1.log'); other = make('rocks/1.sst')
codes(2, os.fsync, other); codes(2, os.fsync, log); codes(1, os.fsync, other)
"""
    said = run(shim, tmp_path, "fsync(rocks/*.log)@2=EIO", code)
    assert said.split("\n") == ["OK OK", "OK EIO", "OK"]
    assert shim.first_hit() == "fsync rocks/1.log"


def test_files_elsewhere_and_paths_that_only_begin_alike_do_not_count(
    shim: FaultShim, tmp_path: Path
) -> None:
    (tmp_path / "data2").mkdir()
    code = """
fd = os.open(folder + '2/a', os.O_CREAT | os.O_WRONLY); codes(2, os.write, fd, b'x')
os.chdir(folder); fd = os.open('b', os.O_CREAT | os.O_WRONLY); codes(1, os.write, fd, b'x')
os.close(fd); fd = os.open(folder + '2/c', os.O_CREAT | os.O_WRONLY); codes(1, os.write, fd, b'x')
"""
    said = run(shim, tmp_path, "write@1=EIO:sticky", code)
    assert said.split("\n") == ["OK OK", "EIO", "OK"]
    assert shim.counts()["create"] == 1


CALLS_THAT_FAIL = {
    "open": "os.open(path('a'), os.O_RDONLY)",
    "create": "os.close(make('b'))",
    "close": "os.close(make('b'))",
    "read": "os.read(os.open(path('a'), os.O_RDONLY), 1)",
    "pread": "os.pread(os.open(path('a'), os.O_RDONLY), 1, 0)",
    "write": "os.writev(make('b'), [b'x', b'y'])",
    "pwrite": "os.pwrite(make('b'), b'x', 0)",
    "fsync": "os.fsync(os.open(folder, os.O_RDONLY))",
    "fdatasync": "os.fdatasync(make('b'))",
    "rename": "os.rename(path('a'), path('b'))",
    "unlink": "os.unlink(path('a'))",
    "mkdir": "os.mkdir(path('d'))",
    "truncate": "os.ftruncate(make('b'), 7)",
    "allocate": "os.posix_fallocate(make('b'), 0, 100)",
    "mmap": "mmap.mmap(os.open(path('a'), os.O_RDONLY), 1, prot=mmap.PROT_READ)",
    "link": "os.link(path('a'), path('b'))",
    "accept": "socket.create_server(('127.0.0.1', 0)).accept()",
}


@pytest.mark.parametrize("call", CALLS_THAT_FAIL)
def test_every_kind_of_call_can_fail_and_is_not_made_then(
    shim: FaultShim, tmp_path: Path, call: str
) -> None:
    (tmp_path / "data/a").write_bytes(b"x")
    code = f"codes(1, lambda: {CALLS_THAT_FAIL[call]})"
    assert run(shim, tmp_path, f"{call}@1=EACCES", code) == "EACCES"
    assert shim.counts()[call] >= 1
    assert (tmp_path / "data/a").read_bytes() == b"x"
    assert not (tmp_path / "data/d").exists()


def test_a_group_is_several_calls(shim: FaultShim, tmp_path: Path) -> None:
    code = """
fd = make('a'); codes(1, os.fdatasync, fd); codes(1, os.fsync, fd); codes(1, os.write, fd, b'x')
"""
    assert run(shim, tmp_path, "sync@2=EIO", code).split("\n") == ["OK", "EIO", "OK"]
    assert run(shim, tmp_path, "space@1=ENOSPC", "codes(2, make, 'b')") == "ENOSPC OK"


def test_a_short_write_writes_half(shim: FaultShim, tmp_path: Path) -> None:
    code = "fd = make('a'); print(os.write(fd, b'abcdef'), os.writev(fd, [b'gh', b'ij']))"
    assert run(shim, tmp_path, "write@1-2=short", code) == "3 2"
    assert (tmp_path / "data/a").read_bytes() == b"abcgh"


def test_a_call_can_be_slow(shim: FaultShim, tmp_path: Path) -> None:
    code = """
fd = make('a'); began = time.monotonic(); os.fsync(fd); print(time.monotonic() - began >= 0.05)
"""
    assert run(shim, tmp_path, "fsync@1=sleep:50", code) == "True"


def test_a_skipped_sync_says_that_it_worked(shim: FaultShim, tmp_path: Path) -> None:
    assert run(shim, tmp_path, "sync@1=skip", "codes(2, os.fsync, make('a'))") == "OK OK"
    assert shim.hits() == 1


def test_the_process_can_die_before_a_call(shim: FaultShim, tmp_path: Path) -> None:
    code = "fd = make('a'); codes(9, os.write, fd, b'x')"
    process = start(shim, tmp_path, "write@3=kill", code)
    process.communicate(timeout=60)
    assert process.returncode == -9
    assert (tmp_path / "data/a").read_bytes() == b"xx"
    assert shim.counts()["write"] == 3


def test_rules_change_while_the_process_runs(shim: FaultShim, tmp_path: Path) -> None:
    code = "fd = make('a')\nfor _ in sys.stdin: codes(2, os.write, fd, b'x')"
    process = start(shim, tmp_path, "", code)
    assert process.stdin is not None
    assert process.stdout is not None
    for rules, expected in (
        ("", "OK OK"),
        ("write@1=ENOSPC:sticky", "ENOSPC ENOSPC"),
        ("write@2=EIO", "OK EIO"),
        ("", "OK OK"),
    ):
        shim.set(rules)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline().strip() == expected
    process.communicate(timeout=60)


def test_the_clock_can_be_moved_and_stopped(shim: FaultShim, tmp_path: Path) -> None:
    code = """
began = time.monotonic(); first = time.time(); time.sleep(0.01)
print(round((first - float(sys.stdin.read())) / 3600), time.time() > first)
print(time.monotonic() - began < 60)
"""
    for rules, expected in (
        ("clock@1=offset:-7200000:sticky", "-2 True\nTrue"),
        ("clock@1=freeze:sticky", "0 False\nTrue"),
    ):
        now = subprocess.run(["date", "+%s"], capture_output=True, text=True, check=True).stdout
        process = start(shim, tmp_path, rules, code)
        said, _ = process.communicate(now, timeout=60)
        assert said.strip() == expected


@pytest.mark.parametrize(
    "rules",
    [
        "write",
        "write@0=EIO",
        "write@1=ENOTHING",
        "wrote@1=EIO",
        "write@3-2=EIO",
        "write@1=EIO:once",
    ],
)
def test_rules_that_cannot_be_read_end_the_process(
    shim: FaultShim, tmp_path: Path, rules: str
) -> None:
    process = start(shim, tmp_path, rules, "")
    _, wrong = process.communicate(timeout=60)
    assert process.returncode == 70
    assert rules in wrong


def test_the_calls_here_and_in_the_library_are_the_same() -> None:
    header = (Path(__file__).parent / "shim/fault_shim.h").read_text()
    names = header[header.index("kCallNames[kCallCount] = {") :].partition("};")[0]
    assert tuple(names.split('"')[1::2]) == CALLS


def test_a_library_that_is_not_there_is_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AZIMUTH_FAULT_SHIM", raising=False)
    with pytest.raises(RuntimeError, match="build the target azimuth_fault_shim"):
        shim_library(str(tmp_path / "build/dev/server/azimuthd"))
