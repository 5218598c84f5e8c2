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
from collection_maker import CollectionMaker, Temporary
from oracle import Key, Observed, Span, Violation, now_us
from reader import Reader
from server_process import TINY_SEGMENTS, ServerProcess, has_failpoints
from workload import GROUPS, THREADS_PER_COLLECTION, Target, Writer, stored_of
from writes import repeat

ROOT = Path(__file__).resolve().parents[2]
LOAD_S = (0.05, 1.0)
RECOVERY_KILL_S = (0.0, 0.3)
FAILPOINT_LOAD_S = 3.0
JOIN_S = 60.0
CALL_TIMEOUT_S = 30.0
SEARCH_SAMPLE = 200
GRAPH_SHARE_MIN = 0.95
LIST_LIMIT = 16384
# A failpoint that was armed so often and never reached is one that the load does not come by.
ATTEMPTS_MAX = 3
# Kills happen at one of so many first visits; 3 for all others.
VISITS = {
    "commit": 60,
    "delete.after_choose": 5,
    "read": 40,
    "recover.after_open": 1,
    "recover.mid_rows": 100,
    "sweep.after_choose": 2,
    "truncate.after_catalog": 2,
}


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
        self._attempts: dict[str, int] = {}
        self._next_failpoint = 0
        self.server.start()
        with self._client() as db:
            for target in self.targets:
                target.create(db)

    def close(self) -> None:
        """Ends the server."""
        self.server.kill()

    def _client(self) -> Client:
        # The load repeats its writes by itself, and knows what comes of it.
        return Client(self.server.address, timeout=CALL_TIMEOUT_S, retries=0)

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
        visit = self._random.randint(1, VISITS.get(name, VISITS.get(name.split(".")[0], 3)))
        self._attempts[name] = self._attempts.get(name, 0) + 1
        self.server.kill()
        self.server.launch({"AZIMUTH_FAILPOINTS": f"{name}=kill@{visit}"})
        violations: list[Violation] = []
        if self.server.wait_ready():
            violations = self._load(FAILPOINT_LOAD_S, expect_death=True, failpoint=name)
        else:
            violations = self._died(name)
        hit = self.summary.failpoints_hit
        self.summary.failpoints_missed = [
            n for n, times in self._attempts.items() if times >= ATTEMPTS_MAX and n not in hit
        ]
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
        reader = Reader(self.targets, seed + 2000, stop)
        runs: list[Callable[[Client], None]] = [*(w.run for w in writers), maker.run, reader.run]
        clients = [self._client() for _ in runs]
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
                    violations.append(
                        Violation("lost", target.name, None, "a collection", "nothing")
                    )
                    continue
                items = db.collection(target.name)
                violations += self._check(items, target, listed[target.name], began)
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

    def _check(
        self, items: Collection, target: Target, listed_rows: int, began: int
    ) -> list[Violation]:
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
            counts={"stats": items.stats().row_count},
            versions={record.key: record.version for record in records},
            stored=listed_rows,
        )
        for group in range(GROUPS):
            found = items.query("group == $g", LIST_LIMIT, params={"g": group}, output_fields=[])
            observed.by_filter[group] = [record.key for record in found]
        if records:
            everything = items.search(
                records[0].vectors["v"], LIST_LIMIT, exact=True, output_fields=[]
            )
            observed.by_scan = everything.keys
        observed.span = Span(began, now_us())
        self.summary.records_checked += len(records)
        return target.oracle.check(observed) + self._check_searches(items, target, records)

    def _check_searches(
        self, items: Collection, target: Target, records: list[Record]
    ) -> list[Violation]:
        """Every vector (of a sample) finds itself: exactly by scan, nearly always by graph."""
        lasting = [record for record in records if record.expires_at is None]
        sample = self._random.sample(lasting, min(SEARCH_SAMPLE, len(lasting)))
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
