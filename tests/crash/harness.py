"""Rounds of load, SIGKILL, restart and a look at everything, over one growing data directory."""

from __future__ import annotations

import random
import re
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

from azimuth_db import AzimuthError, Client, Collection, Record
from oracle import Key, Observed, Violation
from server_process import TINY_SEGMENTS, ServerProcess, has_failpoints
from workload import (
    GROUPS,
    THREADS_PER_COLLECTION,
    CollectionMaker,
    Target,
    Temporary,
    Writer,
    stored_of,
)

ROOT = Path(__file__).resolve().parents[2]
LOAD_S = (0.05, 1.0)
RECOVERY_KILL_S = (0.0, 0.3)
FAILPOINT_LOAD_S = 3.0
JOIN_S = 60.0
CALL_TIMEOUT_S = 30.0
SEARCH_SAMPLE = 200
GRAPH_SHARE_MIN = 0.95
LIST_LIMIT = 16384


def failpoint_names() -> list[str]:
    """Returns the names of all failpoints, from the list that the server is built with."""
    text = (ROOT / "base" / "failpoint.h").read_text()
    return re.findall(r'^ +X\(k\w+, "([a-z_.]+)"\)', text, re.MULTILINE)


@dataclass
class Summary:
    """What a run did, for its closing line."""

    seed: int
    rounds: int = 0
    kills_under_load: int = 0
    kills_in_recovery: int = 0
    failpoints_hit: dict[str, int] = field(default_factory=dict)
    acknowledged_batches: int = 0
    acknowledged_records: int = 0
    batches_in_flight: int = 0
    collections_made: int = 0
    records_checked: int = 0
    graph_found: int = 0
    graph_asked: int = 0
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)


class Harness:
    """One run. After a violation it is over: the data directory stays as it was found."""

    def __init__(self, folder: Path, seed: int, binary: str | None = None) -> None:
        """Starts a server on a new data directory and makes the collections."""
        self.summary = Summary(seed)
        self.server = ServerProcess(folder, *TINY_SEGMENTS, "--log-level", "warning", binary=binary)
        self._random = random.Random(seed)
        self.targets = [Target("numbers", "l2", "int64"), Target("words", "cosine", "string")]
        self.temporary = Temporary()
        self._failpoints = failpoint_names() if has_failpoints(self.server.binary) else []
        self._next_failpoint = 0
        self.server.start()
        with self.server.client() as db:
            for target in self.targets:
                target.create(db)

    def close(self) -> None:
        """Ends the server."""
        self.server.kill()

    def round(self) -> list[Violation]:
        """Runs one round; returns what was wrong."""
        began = time.monotonic()
        self.summary.rounds += 1
        with_failpoint = bool(self._failpoints) and self.summary.rounds % 3 != 0
        violations = self._failpoint_round() if with_failpoint else self._kill_round()
        if self._random.random() < 0.25:
            self._kill_in_recovery()
        if not violations:
            try:
                self.server.start()
                violations = self.check_everything()
            except (AssertionError, AzimuthError) as error:
                violations = [Violation("unusable", "", None, "a server that works", repr(error))]
        self.summary.violations += [
            f"seed {self.summary.seed}, round {self.summary.rounds}: {v}" for v in violations
        ]
        self.summary.seconds += time.monotonic() - began
        return violations

    # Ways to die. Each ends with no server running.

    def _kill_round(self) -> list[Violation]:
        violations = self._load(self._random.uniform(*LOAD_S), expect_death=False)
        self.summary.kills_under_load += 1
        return violations

    def _failpoint_round(self) -> list[Violation]:
        name = self._failpoints[self._next_failpoint % len(self._failpoints)]
        self._next_failpoint += 1
        visits = {"commit": 60, "drop": 3, "recover.mid_rows": 100}
        most = visits.get(name, visits.get(name.split(".")[0], 3))
        visit = 1 if name == "recover.after_open" else self._random.randint(1, most)
        self.server.kill()
        self.server.launch({"AZIMUTH_FAILPOINTS": f"{name}=kill@{visit}"})
        violations: list[Violation] = []
        if self.server.wait_ready():
            violations = self._load(FAILPOINT_LOAD_S, expect_death=True, failpoint=name)
        else:
            violations = self._died(name)
        return violations

    def _died(self, failpoint: str) -> list[Violation]:
        code = self.server.wait()
        if code == -signal.SIGKILL:
            hit = self.summary.failpoints_hit
            hit[failpoint] = hit.get(failpoint, 0) + 1
            return []
        return [Violation("death", "", None, f"SIGKILL at {failpoint}", f"exit code {code}")]

    def _kill_in_recovery(self) -> None:
        self.server.launch()
        threading.Event().wait(self._random.uniform(*RECOVERY_KILL_S))
        self.server.kill()
        self.summary.kills_in_recovery += 1

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
        runs: list[Callable[[Client], None]] = [*(w.run for w in writers), maker.run]
        clients = [self.server.client(CALL_TIMEOUT_S) for _ in runs]
        threads = [threading.Thread(target=run, args=[db]) for run, db in zip(runs, clients)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + seconds
        while self.server.exit_code() is None and time.monotonic() < deadline:
            threading.Event().wait(min(0.01, max(deadline - time.monotonic(), 0)))
        code = self.server.exit_code()
        violations: list[Violation] = []
        if code is None:
            self.server.kill()
        elif expect_death:
            violations += self._died(failpoint)
        else:
            self.server.wait()
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
        return violations

    def _add(self, writer: Writer) -> None:
        for name, count in vars(writer.counts).items():
            setattr(self.summary, name, getattr(self.summary, name) + count)

    # The look at everything.

    def check_everything(self) -> list[Violation]:
        """Reads all that there is and returns what is wrong, then makes a write."""
        with self.server.client(CALL_TIMEOUT_S) as db:
            listed = {c.name: c.row_count for c in db.list_collections()}
            violations = self._check_temporary(set(listed))
            targets = [*self.targets, self.temporary] if self.temporary.exists else self.targets
            for target in targets:
                if target.name not in listed:
                    violations.append(
                        Violation("lost", target.name, None, "a collection", "nothing")
                    )
                    continue
                violations += self._check(db.collection(target.name), target, listed[target.name])
            for target in self.targets if not violations else ():
                writer = Writer(target, 0, self._random.randrange(2**32), threading.Event())
                # A round that acknowledged nothing would prove little.
                if not writer.upsert(db.collection(target.name)):
                    violations.append(Violation("refused", target.name, None, "a write", "none"))
                violations += writer.violations
                self._add(writer)
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

    def _check(self, items: Collection, target: Target, listed_rows: int) -> list[Violation]:
        records = [
            record
            for i in range(0, len(target.keys), 1000)
            for record in items.get(target.keys[i : i + 1000], output_vectors=["v"])
            if record is not None
        ]
        listing = items.query(limit=LIST_LIMIT, output_vectors=["v"])
        observed = Observed(
            by_get={record.key: stored_of(record) for record in records},
            by_query=[(record.key, stored_of(record)) for record in listing],
            count=items.count(),
            counts={"list": listed_rows, "stats": items.stats().row_count},
        )
        for group in range(GROUPS):
            found = items.query("group == $g", LIST_LIMIT, params={"g": group}, output_fields=[])
            observed.by_filter[group] = [record.key for record in found]
        if records:
            everything = items.search(
                records[0].vectors["v"], LIST_LIMIT, exact=True, output_fields=[]
            )
            observed.by_scan = everything.keys
        self.summary.records_checked += len(records)
        return target.oracle.check(observed) + self._check_searches(items, target, records)

    def _check_searches(
        self, items: Collection, target: Target, records: list[Record]
    ) -> list[Violation]:
        """Every vector (of a sample) finds itself: exactly by scan, nearly always by graph."""
        sample = self._random.sample(records, min(SEARCH_SAMPLE, len(records)))
        if not sample:
            return []
        keys = np.array([record.key for record in sample], object)
        queries = np.array([record.vectors["v"] for record in sample])
        exact = items.search_batch(queries, 1, exact=True, output_fields=[])
        violations = []
        for key, found, distance in zip(keys, exact.keys[:, 0], exact.distances[:, 0]):
            if key != found or not abs(distance) < 1e-5:
                said = f"{found!r} at {distance}"
                violations.append(
                    Violation("search", target.name, _plain(key), "itself at 0", said)
                )
        graph = items.search_batch(queries, 1, output_fields=[])
        hits = int((graph.keys[:, 0] == keys).sum())
        self.summary.graph_found += hits
        self.summary.graph_asked += len(sample)
        if hits < GRAPH_SHARE_MIN * len(sample):
            said = f"{hits} of {len(sample)}"
            violations.append(Violation("search", target.name, None, "95 % by graph", said))
        return violations


def _plain(key: Any) -> Key:
    return key if isinstance(key, str) else int(key)
