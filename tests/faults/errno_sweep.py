"""Every system call of the write path fails once, and from then on, one call after the other.

    python tests/faults/errno_sweep.py --server build/dev/server/azimuthd --cases 800
    python tests/faults/errno_sweep.py --only "pwrite@17=EIO:sticky"     # one case, with its log

A first run of a small load (small_load.py) counts the calls. Then there is a run for each of them,
each error and both ways, or for as many as --cases says, spread evenly. What must hold:

- no death by a signal; answers are OK, RESOURCE_EXHAUSTED, UNAVAILABLE or FAILED_PRECONDITION, or
  the server ends by itself with exit code 1; what is acknowledged can be read meanwhile;
- a server whose disk was full takes writes again by itself, within HEAL_S after there is room (but
  for a sync that failed: there it may end, too);
- after a start without faults every acknowledged write is there, of the others all or nothing, and
  `azimuthd verify` finds the directory sound.

Then the calls that read fail at a start on a filled directory: the server refuses clearly, or
answers rightly, or with DATA_LOSS.

Prints a line for every hundred cases and at the end a summary in JSON; exit code 1 after a
violation. Aborts by an assertion of librocksdb (Debian builds it with them) are counted apart.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "crash"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

from azimuth_db import (
    AzimuthError,
    Cancelled,
    Client,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    ResourceExhausted,
    Unavailable,
)
from faults import FaultShim
from server_process import ServerProcess
from small_load import CALL_TIMEOUT_S, OPTIONS, SmallLoad
from verify import verify

WRITE_CALLS = (
    "create", "write", "pwrite", "fsync", "fdatasync", "sync_range", "rename", "unlink", "mkdir",
    "truncate", "allocate", "link", "close",
)  # fmt: skip
READ_CALLS = ("open", "read", "pread", "mmap")
ERRORS = ("ENOSPC", "EIO")
# Errors of calls that do not touch the disk.
OTHER_CALLS = {"mmap": "ENOMEM", "accept": "EMFILE", "open": "EMFILE"}
ALLOWED = (ResourceExhausted, Unavailable, FailedPrecondition)
HEAL_S = 20.0
END_S = 30.0
POLL_S = 0.05


class Case(NamedTuple):
    """One run: the nth call of a kind fails, or all from there on."""

    call: str
    n: int
    error: str
    sticky: bool
    reading: bool = False

    @property
    def changes(self) -> bool:
        """It is a call that changes what is on disk."""
        return self.call in WRITE_CALLS and not self.reading

    @property
    def rule(self) -> str:
        """The rule of the shim."""
        return f"{self.call}@{self.n}={self.error}" + (":sticky" if self.sticky else "")


@dataclass
class Outcome:
    """What came of a case.

    Attributes:
        kind: In a word, for counting.
        where: The call that failed first, and its file.
        violations: What must not be.
    """

    case: Case
    kind: str = ""
    where: str = ""
    rocksdb_assertion: str = ""
    violations: list[str] = field(default_factory=list)


class Stop(Exception):
    """The server's state leaves nothing more to see in this phase."""


class Run:
    """One case on a data directory of its own."""

    def __init__(self, folder: Path, case: Case, binary: str, filled: Filled | None = None) -> None:
        self.outcome = Outcome(case)
        self.load = SmallLoad()
        self.server = ServerProcess(folder, *OPTIONS, binary=binary)
        if filled is not None:
            shutil.copytree(filled.data_dir, self.server.data_dir)
            self.load = filled.load.copy()
        self.shim = FaultShim(folder / "shim", self.server.data_dir, binary)

    def run(self) -> Outcome:
        """Runs the case; its folder stays."""
        case, outcome = self.outcome.case, self.outcome
        try:
            self.server.launch(self.shim.environment(case.rule))
            if not self.server.wait_ready():
                self._ended("refused to start", {1})
            elif case.reading:
                self._read_all()
            else:
                self._load()
        except Stop:
            pass
        except AssertionError as error:
            self._wrong(f"unusable: {error}"[:2000])
        finally:
            outcome.where = self.shim.first_hit()
            self.server.kill()
        if not self.shim.hits():
            outcome.kind = "not reached"
        self._look_again()
        return outcome

    def _wrong(self, text: str) -> None:
        self.outcome.violations.append(f"{self.outcome.case.rule}: {text}")

    def _client(self) -> Client:
        return Client(self.server.address, timeout=CALL_TIMEOUT_S, retries=0)

    def _alive(self) -> bool:
        return self.server.exit_code() is None

    def _ended(self, kind: str, codes: set[int]) -> None:
        """Looks at how the server has ended, and ends the phase."""
        code = self.server.wait()
        self.outcome.kind = kind
        if code == -6 and (assertion := rocksdb_assertion(self.server.log())):
            self.outcome.rocksdb_assertion = assertion
            self.outcome.kind = "rocksdb assertion"
        elif code not in codes:
            self._wrong(f"{kind}: exit code {code}, expected {sorted(codes)}")
        elif code == 1 and not re.search(r"azimuthd: |Z E ", self.server.log()):
            self._wrong(f"{kind}: its log says nothing: {self.server.log()[-500:]}")
        raise Stop

    def _load(self) -> None:
        case, met = self.outcome.case, self.load.met
        with self._client() as db:
            self.load.run(db, self._alive)
            self.outcome.violations += [f"{case.rule}: {v}" for v in met.violations]
            self._wait_for_end(met.errors)
            for step, error in met.errors:
                # What a server that ends has not answered is cancelled.
                if self._alive() or not isinstance(error, Cancelled):
                    self._judge(step, error)
            if not self._alive():
                self._ended("ended by itself", set() if self._heals else {1})
            hit = self.shim.hits() > 0
        if hit:
            self.shim.clear()
            self._heal()
        self._stop()

    def _judge(self, step: str, error: AzimuthError) -> None:
        waits = step.startswith(("build", "merge"))
        if isinstance(error, DeadlineExceeded) and waits:
            return
        if not isinstance(error, ALLOWED):
            self._wrong(f"{step}: {error!r}")

    def _wait_for_end(self, errors: list[tuple[str, AzimuthError]]) -> None:
        """A server that says that it is not there is about to end."""
        if not any(
            isinstance(error, (Unavailable, Cancelled)) and "not_applied" not in error.message
            for _, error in errors
        ):
            return
        deadline = time.monotonic() + END_S
        while self._alive() and time.monotonic() < deadline:
            threading.Event().wait(POLL_S)

    @property
    def _heals(self) -> bool:
        """Whether the server must go on once the fault is over, without a restart."""
        case = self.outcome.case
        # A sync that failed says nothing of what is on disk, and a listener that failed is deaf:
        # then a server may end, too.
        return case.error == "ENOSPC" and "sync" not in case.call

    def _heal(self) -> None:
        """There is room again: a full disk is over; any other error may have ended the writes."""
        deadline = time.monotonic() + HEAL_S
        last: AzimuthError | None = None
        while self._alive():
            try:
                with self._client() as db:
                    self.load.write_once(db)
                    self.load.wait_built(db, max(deadline - time.monotonic(), 1))
                self.outcome.kind = "healed" if self.load.met.errors else "not noticed"
                return
            except AzimuthError as error:
                last = error
                self._judge("build, after the fault", error)
            if self.outcome.case.error == "EIO":
                self.outcome.kind = "read-only"
                return
            if time.monotonic() > deadline:
                self._wrong(f"not healed after {HEAL_S:g} s: {last!r}")
                return
            threading.Event().wait(POLL_S)
        self._ended("ended by itself", set() if self._heals else {1})

    def _stop(self) -> None:
        before = self.shim.hits()
        self.server.terminate()
        try:
            code = self.server.wait()
        except subprocess.TimeoutExpired:
            self._wrong("SIGTERM: does not end")
            return
        if before == 0 and self.shim.hits() > 0:
            # What fails at the stop itself may be said.
            self.outcome.kind, allowed = f"stopped with {code}", {0, 1}
        else:
            allowed = {0} if self.outcome.kind in ("healed", "not noticed") else {0, 1}
        if code == -6 and (assertion := rocksdb_assertion(self.server.log())):
            self.outcome.rocksdb_assertion = assertion
        elif code not in allowed:
            self._wrong(f"SIGTERM: exit code {code}, expected {sorted(allowed)}")

    def _read_all(self) -> None:
        """The store was opened although reads failed."""
        kind = "right answers"
        try:
            with self._client() as db:
                self.outcome.violations += [str(v) for v in self.load.copy().check(db)]
        except DataLoss:
            kind = "DATA_LOSS"
        except Unavailable as error:
            self._wait_for_end([("check", error)])
            if not self._alive():
                self._ended("ended by itself", {1})
            self._wrong(f"read: {error!r}")
        except AzimuthError as error:
            self._wrong(f"read: {error!r}")
        self.outcome.kind = kind

    def _look_again(self) -> None:
        """Without faults everything is there."""
        # A first start may have failed before there was a data directory.
        begun = (self.server.data_dir / "FORMAT").exists()
        for text in verify(self.server.binary, self.server.data_dir):
            if begun or not re.search("not a data directory|no such directory", text):
                self._wrong(text)
        try:
            self.server.start()
            with self._client() as db:
                violations = self.load.check(db)
                self.outcome.violations += [f"{self.outcome.case.rule}: {v}" for v in violations]
                self.load.write_once(db)
        except (AssertionError, AzimuthError) as error:
            self._wrong(f"started without faults: {error!r}"[:3000])
        finally:
            self.server.kill()


def rocksdb_assertion(log: str) -> str:
    """Returns the line of a failed assertion of librocksdb, if there is one."""
    for line in log.splitlines():
        if "Assertion" in line and "rocksdb" in line:
            return line.strip()
    return ""


class Filled(NamedTuple):
    """A data directory after the load, killed, and what is in it."""

    data_dir: Path
    load: SmallLoad
    calls: dict[str, int]  # Of the load, with the stop.
    start_calls: dict[str, int]  # Of a start on it and reading all.


def fill(folder: Path, binary: str) -> Filled:
    """Runs the load without faults, twice: to count with a stop, and to keep without one."""
    counted = Run(folder / "counted", Case("any", 10**9, "EIO", False), binary)
    counted.run()
    if counted.outcome.violations:
        raise RuntimeError(f"without any fault: {counted.outcome.violations}")
    calls = counted.shim.counts()
    kept = ServerProcess(folder / "kept", *OPTIONS, binary=binary)
    load = SmallLoad()
    kept.start()
    with kept.client() as db:
        load.run(db, lambda: True)
    # The watermark is written once a second.
    threading.Event().wait(1.2)
    kept.kill()
    read = Run(
        folder / "read",
        Case("any", 10**9, "EIO", False, True),
        binary,
        Filled(kept.data_dir, load, {}, {}),
    )
    read.run()
    if read.outcome.violations:
        raise RuntimeError(f"without any fault: {read.outcome.violations}")
    return Filled(kept.data_dir, load, calls, read.shim.counts())


def all_cases(filled: Filled, errors: tuple[str, ...]) -> list[Case]:
    """Returns every case."""
    ways = [(error, sticky) for error in errors for sticky in (False, True)]
    cases = [
        Case(call, n, error, sticky)
        for call in WRITE_CALLS
        for n in range(1, filled.calls[call] + 1)
        for error, sticky in ways
    ]
    cases += [
        Case(call, n, error, sticky)
        for call, error in OTHER_CALLS.items()
        for n in range(1, filled.calls[call] + 1)
        for sticky in (False, True)
    ]
    cases += [
        Case(call, n, "EIO", sticky, reading=True)
        for call in READ_CALLS
        for n in range(1, filled.start_calls[call] + 1)
        for sticky in (False, True)
    ]
    return cases


def spread(cases: list[Case], most: int) -> list[Case]:
    """Returns at most so many of them, evenly, with a few of every kind of call."""
    if len(cases) <= most:
        return cases
    groups: dict[Any, list[Case]] = {}
    for case in cases:
        groups.setdefault((case.call, case.error, case.sticky, case.reading), []).append(case)
    share = most / len(cases)
    chosen = []
    for group in groups.values():
        wanted = min(len(group), max(round(len(group) * share), 2))
        chosen += [group[i * len(group) // wanted] for i in range(wanted)]
    return chosen


def sweep(folder: Path, binary: str, options: argparse.Namespace) -> dict[str, Any]:
    """Runs the cases, two at a time; returns the summary."""
    filled = fill(folder, binary)
    everything = all_cases(filled, tuple(options.errors.split(",")))
    if options.others is None:
        cases = spread(everything, options.cases)
    else:
        cases = spread([case for case in everything if case.changes], options.cases)
        cases += spread([case for case in everything if not case.changes], options.others)
    print(f"{len(cases)} of {len(everything)} cases", flush=True)
    began = time.monotonic()
    outcomes: list[Outcome] = []

    def one(case: Case) -> None:
        at = folder / case.rule.replace(":", "-") if not case.reading else folder / f"r-{case.rule}"
        outcome = Run(at, case, binary, filled if case.reading else None).run()
        outcomes.append(outcome)
        if outcome.violations:
            print("\n".join(outcome.violations), flush=True)
        else:
            shutil.rmtree(at)
        if len(outcomes) % 100 == 0:
            print(f"{len(outcomes)} cases, {time.monotonic() - began:.0f} s", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(one, cases))
    assertions = Counter(o.rocksdb_assertion for o in outcomes if o.rocksdb_assertion)
    return {
        "calls": {name: n for name, n in filled.calls.items() if n},
        "calls_of_a_start": {name: n for name, n in filled.start_calls.items() if n},
        "errno_cases": len(cases),
        "errno_cases_in_all": len(everything),
        "errno_cases_of_changes": sum(case.changes for case in everything),
        "outcomes": dict(Counter(o.kind for o in outcomes).most_common()),
        "outcomes_of_reads": dict(Counter(o.kind for o in outcomes if o.case.reading)),
        "rocksdb_assertions": sum(assertions.values()),
        "rocksdb_assertions_by_place": dict(assertions),
        "rocksdb_assertion_cases": [
            f"{o.case.rule} ({o.where})" for o in outcomes if o.rocksdb_assertion
        ],
        "seconds": round(time.monotonic() - began, 1),
        "violations": [text for o in outcomes for text in o.violations],
    }


def only(folder: Path, binary: str, text: str) -> int:
    """Runs one case and shows the log."""
    call, _, rest = text.partition("@")
    number, _, action = rest.partition("=")
    error, _, sticky = action.partition(":")
    reading = call in READ_CALLS and error == "EIO"
    case = Case(call, int(number), error, bool(sticky), reading)
    filled = fill(folder / "filled", binary) if reading else None
    run = Run(folder / "case", case, binary, filled)
    outcome = run.run()
    print(run.server.log())
    print(f"met: {run.load.met.errors}")
    print(outcome)
    return 1 if outcome.violations else 0


def main() -> int:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=800, help="at most so many (800)")
    parser.add_argument(
        "--others", type=int, help="so many, at most, of calls that change nothing; apart then"
    )
    parser.add_argument("--errors", default=",".join(ERRORS), help="of calls that change the disk")
    parser.add_argument("--jobs", type=int, default=2, help="servers at one time (2)")
    parser.add_argument("--only", help="one case, such as pwrite@17=EIO:sticky")
    parser.add_argument("--server", default=os.environ.get("AZIMUTH_SERVER"))
    options = parser.parse_args()
    if options.server is None:
        parser.error("--server (or AZIMUTH_SERVER) is required")
    folder = Path(tempfile.mkdtemp(prefix="azimuth-errno-"))
    if options.only:
        return only(folder, options.server, options.only)
    summary = sweep(folder, options.server, options)
    print(json.dumps(summary, indent=2))
    if summary["violations"]:
        print(f"the data directories are kept: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
