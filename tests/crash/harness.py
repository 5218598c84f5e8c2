"""Rounds of load, SIGKILL, restart and a look at everything, over one growing data directory."""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

from azimuth_db import AzimuthError, Client, Collection
from checks import Checked, check_collection, lost, recall
from collection_maker import CollectionMaker, Temporary
from oracle import Violation, now_us
from reader import Reader
from scenes import AT_STOP, VISITS, failpoint_names, set_scene
from server_process import TINY_SEGMENTS, ServerProcess, has_failpoints
from verify import has_verify, verify
from workload import ENDS_AFTER_US, THREADS_PER_COLLECTION, Target, Writer
from writes import repeat

OPTIONS = (
    *TINY_SEGMENTS, "--bulk-commit-kb", "1", "--write-buffer-mb", "1", "--log-level", "warning",
)  # fmt: skip
LOAD_S = (0.05, 0.6)
RECOVERY_KILL_S = (0.0, 0.3)
FAILPOINT_LOAD_S = 3.0
JOIN_S = 60.0
CALL_TIMEOUT_S = 30.0
# Kills in one round of kills of a recovery.
RECOVERY_KILLS = 10
RECALL_QUERIES = 200
RECALL_CHANGE_MAX = 0.001
# A failpoint that was armed so often and never reached is one that the load does not come by.
ATTEMPTS_MAX = 3


@dataclass
class Summary(Checked):
    """What a run did, for its closing line."""

    seed: int = 0
    rounds: int = 0
    kills_under_load: int = 0
    kills_in_recovery: int = 0
    failpoints_hit: dict[str, int] = field(default_factory=dict)
    failpoints_missed: list[str] = field(default_factory=list)
    acknowledged_batches: int = 0
    acknowledged_records: int = 0
    refused_batches: int = 0
    batches_in_flight: int = 0
    batches_repeated: int = 0
    batches_repeated_that_had_happened: int = 0
    truncations: int = 0
    reads: int = 0
    collections_made: int = 0
    verified: int = 0
    recall_measured: int = 0
    recall_change_max: float = 0.0
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)


class Harness:
    """One run. After a violation it is over: the data directory stays as it was found."""

    def __init__(self, folder: Path, seed: int, binary: str | None = None) -> None:
        """Starts a server on a new data directory and makes the collections."""
        self.summary = Summary(seed=seed)
        self.server = ServerProcess(folder, *OPTIONS, binary=binary)
        self._prepare()
        self._random = random.Random(seed)
        self.targets = [Target("numbers", "l2", "int64"), Target("words", "cosine", "string")]
        self.temporary = Temporary()
        self.failpoints = failpoint_names() if has_failpoints(self.server.binary) else []
        self._attempts = dict.fromkeys(self.failpoints, 0)
        self._start_s = RECOVERY_KILL_S[1]
        self._damaged: Path | None = None  # The segment file that this round has damaged.
        self.server.start(self._environment())
        with self._client() as db:
            for target in self.targets:
                target.create(db)

    # What kinds of rounds do their own way.

    def _prepare(self) -> None:
        """Comes before the first start."""

    def _environment(self) -> dict[str, str]:
        """Is asked before every start."""
        return {}

    def _died(self) -> None:
        """Comes after every death of the server, before the next start."""

    def _is_expected(self, finding: str) -> bool:
        """Returns whether a directory may have this finding of verify after a death."""
        return False

    def close(self) -> None:
        """Ends the server."""
        self.server.kill()

    def _client(self) -> Client:
        # The load repeats its writes by itself, and knows what comes of it.
        return Client(self.server.address, timeout=CALL_TIMEOUT_S, retries=0)

    def round(self) -> list[Violation]:
        """Runs one round of load and death; returns what was wrong."""
        return self._round(self._load_and_die)

    def recovery_round(self) -> list[Violation]:
        """Runs one round of a kill under load and kills of the recoveries after it."""
        return self._round(self._kill_recoveries)

    def _round(self, ways: Callable[[], list[Violation]]) -> list[Violation]:
        began = time.monotonic()
        self.summary.rounds += 1
        violations: list[Violation] = []
        self._damaged = None
        try:
            violations = ways() or self._verify()
            if not violations:
                self.server.start(self._environment())
                violations = self.check_everything()
        except (AssertionError, AzimuthError) as error:
            violations = [Violation("unusable", "", None, "a server that works", repr(error))]
        self.summary.violations += [
            f"seed {self.summary.seed}, round {self.summary.rounds}: {v}" for v in violations
        ]
        self.summary.seconds += time.monotonic() - began
        return violations

    def _load_and_die(self) -> list[Violation]:
        with_failpoint = bool(self.failpoints) and self.summary.rounds % 3 != 0
        violations = self._failpoint_round() if with_failpoint else self._kill_round()
        if not violations and self._random.random() < 0.25:
            self._kill_in_recovery(RECOVERY_KILL_S[1])
        return violations

    def _verify(self) -> list[Violation]:
        """Has the directory looked at as the death left it."""
        wrong = verify(self.server.binary, self.server.data_dir)
        self.summary.verified += has_verify(self.server.binary)
        return [
            Violation("verify", "", None, "a sound directory", text)
            for text in wrong
            if not self._is_expected(text)
        ]

    # Ways to die. Each ends with no server running.

    def _kill_round(self) -> list[Violation]:
        violations = self._load(self._random.uniform(*LOAD_S), expect_death=False)
        self.summary.kills_under_load += 1
        return violations

    def _failpoint_round(self) -> list[Violation]:
        name = self._choose_failpoint()
        visit = self._random.randint(1, VISITS.get(name, VISITS.get(name.split(".")[0], 3)))
        self._attempts[name] += 1
        self._kill()
        self._damaged = set_scene(name, self.server.data_dir, self._random)
        armed = {**self._environment(), "AZIMUTH_FAILPOINTS": f"{name}=kill@{visit}"}
        self.server.launch(armed)
        if self.server.wait_ready():
            violations = self._load(FAILPOINT_LOAD_S, expect_death=True, failpoint=name)
        else:
            violations = self._died_at(name)
        hit = self.summary.failpoints_hit
        self.summary.failpoints_missed = [
            n for n, times in self._attempts.items() if times >= ATTEMPTS_MAX and n not in hit
        ]
        return violations

    def _choose_failpoint(self) -> str:
        """Returns the one that was hit least; of those, the one that was armed least."""
        hit = self.summary.failpoints_hit
        return min(self.failpoints, key=lambda name: (hit.get(name, 0), self._attempts[name]))

    def least_hit(self) -> int:
        """Returns how often every failpoint was hit at least."""
        hit = self.summary.failpoints_hit
        return min((hit.get(name, 0) for name in self.failpoints), default=0)

    def _kill(self) -> None:
        self.server.kill()
        self._died()

    def _died_at(self, failpoint: str) -> list[Violation]:
        code = self.server.wait()
        self._died()
        if code == -signal.SIGKILL:
            hit = self.summary.failpoints_hit
            hit[failpoint] = hit.get(failpoint, 0) + 1
            return []
        return [Violation("death", "", None, f"SIGKILL at {failpoint}", f"exit code {code}")]

    def _kill_recoveries(self) -> list[Violation]:
        violations = self._load(self._random.uniform(0.05, 0.3), expect_death=False)
        self.summary.kills_under_load += 1
        for _ in range(RECOVERY_KILLS if not violations else 0):
            # Half of them within the time that a recovery takes, nearly always.
            self._kill_in_recovery(self._random.choice([RECOVERY_KILL_S[1], self._start_s]))
        return violations

    def _kill_in_recovery(self, within_s: float) -> None:
        self.server.launch(self._environment())
        threading.Event().wait(self._random.uniform(RECOVERY_KILL_S[0], within_s))
        self._kill()
        self.summary.kills_in_recovery += 1

    def measure_recall(self) -> list[Violation]:
        """Asks the same of every collection at rest before and after a kill."""
        try:
            before = self._recalls()
            self._kill()
            began = time.monotonic()
            self.server.start(self._environment())
            self._start_s = min(time.monotonic() - began, RECOVERY_KILL_S[1])
            after = self._recalls()
        except (AssertionError, AzimuthError) as error:
            return [Violation("unusable", "", None, "a server that works", repr(error))]
        violations = []
        for name, value in before.items():
            change = abs(after[name] - value)
            self.summary.recall_measured += 1
            self.summary.recall_change_max = max(self.summary.recall_change_max, change)
            if change > RECALL_CHANGE_MAX:
                said = f"{after[name]:.4f}"
                violations.append(Violation("recall", name, None, f"{value:.4f}", said))
        return violations

    def _recalls(self) -> dict[str, float]:
        """Waits until nothing changes by itself and asks."""
        # What is to end has ended.
        threading.Event().wait(ENDS_AFTER_US[1] / 1e6 + 0.2)
        with self._client() as db:
            names = [target.name for target in self.targets]
            for name in names:
                db.collection(name).wait_indexed(CALL_TIMEOUT_S)
            values = {n: recall(db.collection(n), RECALL_QUERIES, self.summary.seed) for n in names}
        return {name: value for name, value in values.items() if value is not None}

    def _load(self, seconds: float, expect_death: bool, failpoint: str = "") -> list[Violation]:
        """Runs the clients for so long, kills the server under them, and joins them."""
        stop = threading.Event()
        seed = self._random.randrange(2**32)
        writers = [
            Writer(target, owner, seed + 10 * i + owner, stop)
            for i, target in enumerate(self.targets)
            for owner in range(THREADS_PER_COLLECTION)
        ]
        maker = CollectionMaker(self.temporary, seed + 1000, stop)
        reader = Reader(self.targets, seed + 2000, stop)
        runs: list[Callable[[Client], None]] = [*(w.run for w in writers), maker.run, reader.run]
        clients = [self._client() for _ in runs]
        threads = [threading.Thread(target=run, args=[db]) for run, db in zip(runs, clients)]
        for thread in threads:
            thread.start()
        # A place that is only passed at a stop needs no long wait.
        deadline = time.monotonic() + (LOAD_S[1] if failpoint.startswith(AT_STOP) else seconds)
        while self.server.exit_code() is None and time.monotonic() < deadline:
            threading.Event().wait(min(0.01, max(deadline - time.monotonic(), 0)))
        code = self.server.exit_code()
        violations: list[Violation] = []
        if code is None and failpoint.startswith(AT_STOP):
            self.server.terminate()
            violations += self._died_at(failpoint)
        elif code is None:
            self._kill()
        elif expect_death:
            violations += self._died_at(failpoint)
        else:
            self.server.wait()
            self._died()
            violations.append(Violation("death", "", None, "a running server", f"exit code {code}"))
        stop.set()
        for thread in threads:
            thread.join(JOIN_S)
            assert not thread.is_alive(), "a client thread does not end"
        for db in clients:
            db.close()
        for writer in [*writers, maker.writer]:
            self._add(writer)
            violations += writer.violations
        self.summary.reads += reader.reads
        return violations + reader.violations

    def _add(self, writer: Writer) -> None:
        for name, count in vars(writer.counts).items():
            setattr(self.summary, name, getattr(self.summary, name) + count)

    # The look at everything.

    def check_everything(self) -> list[Violation]:
        """Reads all that there is and returns what is wrong, then makes writes."""
        with self._client() as db:
            began = now_us()
            listed = {c.name: c.row_count for c in db.list_collections()}
            violations = self._check_temporary(set(listed))
            targets = [*self.targets, self.temporary] if self.temporary.exists else self.targets
            for target in targets:
                if target.name not in listed:
                    violations.append(lost(target))
                    continue
                items = db.collection(target.name)
                stored = listed[target.name]
                violations += check_collection(
                    items, target, stored, began, self._random, self.summary
                )
                if not violations:
                    violations += self._repeat(items, target)
            for target in self.targets if not violations else ():
                writer = Writer(target, 0, self._random.randrange(2**32), threading.Event())
                # A round that acknowledged nothing would prove little.
                if not writer.upsert(db.collection(target.name)):
                    violations.append(Violation("refused", target.name, None, "a write", "none"))
                violations += writer.violations
                self._add(writer)
        return violations

    def _repeat(self, items: Collection, target: Target) -> list[Violation]:
        """Sends again, with its id, what was in flight: it is done once, then or now."""
        violations: list[Violation] = []
        for write in target.in_flight:
            wrong = repeat(write, items, target.oracle, now_us)
            violations += [
                Violation("repeated", target.name, None, expected, found)
                for expected, found in wrong
            ]
            self.summary.batches_repeated += 1
            self.summary.batches_repeated_that_had_happened += write.batch.applied is True
        target.in_flight.clear()
        return violations

    def _check_temporary(self, listed: set[str]) -> list[Violation]:
        """Settles whether the collection that comes and goes is there."""
        there = self.temporary.name in listed
        expected = self.temporary.exists
        self.temporary.exists = there
        if expected is None or expected == there:
            return []
        said = {True: "a collection", False: "nothing"}
        kind = "lost" if expected else "returned"
        return [Violation(kind, self.temporary.name, None, said[expected], said[there])]
