"""One bit of every page of every file is flipped, one flip at a time, and everything is asked.

    python tests/faults/bit_flips.py --server build/dev/server/azimuthd --flips 2000 --seed 7
    python tests/faults/bit_flips.py --only "rocks/000004.log:1234:3"      # one flip, with its log

A small store (two collections, segments with graphs, growing and retired rows, a log that is not
flushed) is copied, one bit is flipped, and a server started on it. Allowed:

- all answers right, at all times (a bad segment file is set aside and built again);
- a clear refusal to start: exit code 1 and a message that names a file (not for segment files);
- DATA_LOSS for some records while all others are right (not for segment files);
- a server that reads only and says DATA_LOSS, when acknowledged commits are missing.

Never: a signal, a hang, a wrong or silently missing record. Prints what is wrong, and at the end a
summary in JSON; exit code 1 after a violation. The position in the summary, file:byte:bit, is what
--only takes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
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

from azimuth_db import AzimuthError, Client, DataLoss
from damaged import check_damaged
from errno_sweep import rocksdb_assertion
from server_process import ServerProcess
from small_load import CALL_TIMEOUT_S, OPTIONS, SmallLoad
from verify import has_verify, run_verify, verify

PAGE = 4096
# Longer than the time after which a commit that was synced is known to be.
WATERMARK_S = 1.3
BUILD_S = 30.0
KINDS = (
    (".seg", "segment"), (".sst", "table"), (".log", "write-ahead log"), ("FORMAT", "format"),
    ("WATERMARK", "watermark"), ("BALLAST", "ballast"), ("LOCK", "lock"), ("CURRENT", "current"),
    ("IDENTITY", "identity"),
)  # fmt: skip


class Flip(NamedTuple):
    """One bit."""

    path: str  # Below the data directory.
    byte: int
    bit: int

    def __str__(self) -> str:
        return f"{self.path}:{self.byte}:{self.bit}"

    @property
    def kind(self) -> str:
        """What file it is in."""
        name = Path(self.path).name
        for end, kind in KINDS:
            if name.endswith(end):
                return kind
        # RocksDB's own text log, its options, its manifest.
        return name.partition("-")[0].partition(".")[0].lower()


@dataclass
class Outcome:
    """What came of a flip."""

    flip: Flip
    kind: str = ""
    rocksdb_assertion: str = ""
    verified: str = ""  # What `azimuthd verify --deep` said of the directory before the start.
    violations: list[str] = field(default_factory=list)


class Store(NamedTuple):
    """The undamaged store."""

    data_dir: Path
    load: SmallLoad


def make_store(folder: Path, binary: str) -> Store:
    """Makes the store; the server that made it was killed."""
    load = SmallLoad()
    server = ServerProcess(folder, *OPTIONS, binary=binary).start()
    with server.client() as db:
        load.run(db, lambda: True)
        load.wait_built(db, BUILD_S)
    if load.met.errors or load.met.violations:
        raise RuntimeError(f"without any fault: {load.met}")
    # Tables are written by the stop, and what follows stays in the log and in memory.
    assert server.stop() == 0, server.log()
    server.options = ("--log-level", "warning", "--growing-idle-ms", "3600000")
    server.start()
    with server.client() as db:
        for _ in range(3):
            load.write_once(db)
        load.write_more(db)
    threading.Event().wait(WATERMARK_S)
    server.kill()
    return Store(server.data_dir, load)


def flips_of(data_dir: Path, chooser: random.Random) -> list[Flip]:
    """Returns one flip for each page of each file."""
    flips = []
    for path in sorted(p for p in data_dir.rglob("*") if p.is_file()):
        size = path.stat().st_size
        name = path.relative_to(data_dir).as_posix()
        for page in range(0, size, PAGE):
            byte = chooser.randrange(page, min(page + PAGE, size))
            flips.append(Flip(name, byte, chooser.randrange(8)))
    return flips


class Trial:
    """One flip on a copy of the store."""

    def __init__(self, folder: Path, store: Store, flip: Flip, binary: str) -> None:
        self.outcome = Outcome(flip)
        self.server = ServerProcess(folder, *OPTIONS, binary=binary)
        shutil.copytree(store.data_dir, self.server.data_dir)
        self._load = store.load
        path = self.server.data_dir / flip.path
        with open(path, "r+b") as file:
            file.seek(flip.byte)
            [value] = file.read(1)
            file.seek(flip.byte)
            file.write(bytes([value ^ 1 << flip.bit]))

    def run(self) -> Outcome:
        """Runs the trial; its folder stays."""
        try:
            self._verify()
            self._start_and_ask("")
            # As set aside and built again, if it was.
            if not self.outcome.violations and self.outcome.kind == "right answers":
                for text in verify(self.server.binary, self.server.data_dir):
                    if not self._names_the_flip(text):
                        self._wrong(f"after right answers: {text}")
                self._start_and_ask("once more: ")
        except AssertionError as error:
            self._wrong(f"hangs: {error}"[:1000])
        finally:
            self.server.kill()
        return self.outcome

    def _names_the_flip(self, finding: str) -> bool:
        """A table stays as it is: its damage may be where no answer looks, and is found there."""
        flip = self.outcome.flip
        says_so = "store.table" in finding or "store.unreadable" in finding
        return flip.kind == "table" and says_so and flip.path in finding

    def _verify(self) -> None:
        """The offline check may find the flip or not, but it must end by itself."""
        if has_verify(self.server.binary):
            code, _, said = run_verify(self.server.binary, self.server.data_dir, "--deep")
            self.outcome.verified = {0: "sound", 1: "damaged", 2: "refused"}.get(code, "died")
            if self.outcome.verified == "died" and not rocksdb_assertion(said):
                self._wrong(said)

    def _wrong(self, text: str) -> None:
        self.outcome.violations.append(f"{self.outcome.flip}: {text}")

    def _start_and_ask(self, when: str) -> None:
        self.server.launch()
        if not self.server.wait_ready():
            self._ended(f"{when}refused to start")
            if when:
                self._wrong(f"{when}refused to start after right answers")
            return
        try:
            with Client(self.server.address, timeout=CALL_TIMEOUT_S, retries=0) as db:
                self._ask(db, when)
        except AzimuthError as error:
            if self.server.exit_code() is None:
                self._wrong(f"{when}{error!r}")
        if self.server.exit_code() is not None:
            self._ended(f"{when}ended by itself")
        self.server.kill()

    def _ask(self, db: Client, when: str) -> None:
        if state_of(db) == "data_loss":
            self.outcome.kind = "reads only, DATA_LOSS"
            return
        load = self._load.copy()
        try:
            violations = load.check(db)
            kind = "right answers"
        except DataLoss:
            violations, kind = check_damaged(db, self._load.copy().targets), "DATA_LOSS"
        self.outcome.violations += [f"{self.outcome.flip}: {when}{v}" for v in violations]
        self.outcome.kind = self.outcome.kind or kind
        if self.outcome.flip.kind == "segment":
            if kind != "right answers":
                self._wrong(f"{when}{kind} for derived data")
            load.wait_built(db, BUILD_S)
            violations = load.check(db)
            self.outcome.violations += [
                f"{self.outcome.flip}: built again: {v}" for v in violations
            ]

    def _ended(self, kind: str) -> None:
        code = self.server.wait()
        self.outcome.kind = kind
        log = self.server.log()
        if code == -6 and (assertion := rocksdb_assertion(log)):
            self.outcome.rocksdb_assertion = assertion
            self.outcome.kind = "rocksdb assertion"
        elif code != 1:
            self._wrong(f"{kind}: exit code {code}")
        elif self.outcome.flip.kind == "segment":
            self._wrong(f"{kind} for derived data: {log[-500:]}")
        elif str(self.server.data_dir) not in log:
            self._wrong(f"{kind}: its log names no file: {log[-500:]}")


def state_of(db: Client) -> str:
    """Returns the state of the store; empty if the client does not know."""
    store = getattr(db.server_info(), "store", None)
    return "" if store is None else str(store.state)


def choose(folder: Path, count: int, seed: int) -> list[Flip]:
    """Returns so many flips: of every page before a second one of any; of some pages if fewer."""
    chooser = random.Random(seed)
    chosen: list[Flip] = []
    while len(chosen) < count:
        every = flips_of(folder, chooser)
        some = count - len(chosen)
        chosen += every if len(every) <= some else chooser.sample(every, some)
    return chosen


def trials(folder: Path, binary: str, options: argparse.Namespace) -> dict[str, Any]:
    """Flips the bits, two stores at a time; returns the summary."""
    store = make_store(folder / "store", binary)
    pages = len(flips_of(store.data_dir, random.Random(0)))
    flips = choose(store.data_dir, options.flips or pages, options.seed)
    size = sum(p.stat().st_size for p in store.data_dir.rglob("*") if p.is_file())
    print(f"seed {options.seed}, {len(flips)} flips, {pages} pages, {size} bytes", flush=True)
    began = time.monotonic()
    outcomes: list[Outcome] = []

    def one(numbered: tuple[int, Flip]) -> None:
        number, flip = numbered
        at = folder / f"flip-{number}"
        outcome = Trial(at, store, flip, binary).run()
        outcomes.append(outcome)
        if outcome.violations:
            print("\n".join(outcome.violations[:5]), flush=True)
        shutil.rmtree(at)
        if len(outcomes) % 100 == 0:
            print(f"{len(outcomes)} flips, {time.monotonic() - began:.0f} s", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(one, enumerate(flips)))
    by_kind: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        by_kind.setdefault(outcome.flip.kind, Counter())[outcome.kind] += 1
    verified: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        verified.setdefault(outcome.kind, Counter())[outcome.verified] += 1
    assertions = [o for o in outcomes if o.rocksdb_assertion]
    return {
        "seed": options.seed,
        "flips": len(flips),
        "pages": pages,
        "bytes": size,
        "outcomes": {kind: dict(counts) for kind, counts in sorted(by_kind.items())},
        "verify_said": {kind: dict(counts) for kind, counts in sorted(verified.items())},
        "rocksdb_assertions": len(assertions),
        "rocksdb_assertion_flips": [f"{o.flip}: {o.rocksdb_assertion}" for o in assertions],
        "flips_with_violations": [str(o.flip) for o in outcomes if o.violations],
        "seconds": round(time.monotonic() - began, 1),
        "violations": [text for o in outcomes for text in o.violations[:5]],
    }


def only(folder: Path, binary: str, text: str, seed: int) -> int:
    """Runs one flip and shows the log."""
    path, byte, bit = text.rsplit(":", 2)
    store = make_store(folder / "store", binary)
    at = store.data_dir / path
    if not at.exists() or at.stat().st_size <= int(byte):
        print(f"{path}: no byte {byte} in it; there are {sorted(store.data_dir.rglob('*'))}")
        return 2
    trial = Trial(folder / "flip", store, Flip(path, int(byte), int(bit)), binary)
    outcome = trial.run()
    print(trial.server.log())
    print("\n".join(outcome.violations))
    print(f"{outcome.flip}: {outcome.kind}")
    return 1 if outcome.violations else 0


def main() -> int:
    """Flips what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--flips", type=int, default=0, help="how many; 0: one for each page")
    parser.add_argument("--seed", type=int, default=None, help="default: a random one")
    parser.add_argument("--jobs", type=int, default=2, help="servers at one time (2)")
    parser.add_argument("--only", help="one flip, such as rocks/000004.log:1234:3")
    parser.add_argument("--server", default=os.environ.get("AZIMUTH_SERVER"))
    options = parser.parse_args()
    if options.server is None:
        parser.error("--server (or AZIMUTH_SERVER) is required")
    if options.seed is None:
        options.seed = random.randrange(2**32)
    folder = Path(tempfile.mkdtemp(prefix="azimuth-flips-"))
    try:
        if options.only:
            return only(folder, options.server, options.only, options.seed)
        summary = trials(folder, options.server, options)
    finally:
        shutil.rmtree(folder)
    print(json.dumps(summary, indent=2))
    return 1 if summary["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
