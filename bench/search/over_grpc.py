"""Searches through gRPC, server and client on the same two processors, beside hnswlib on both."""

from __future__ import annotations

import math
import os
import statistics
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from curves import Point, at_recall, thin
from driven import ENOUGH_RECALL, Driven, measure, point_at, sweep
from load import Load, brief
from results import Results
from server_process import ServerProcess
from servers import copy_server, running, say
from sets import SearchSet
from systems import Systems

TARGETS = (0.95, 0.99)
THREADS = 2
LIMIT = 10
IN_FLIGHT = (1, 8, 32)
OVERHEAD_IN_FLIGHT = 8
BATCH = 100
BATCHES_IN_FLIGHT = (2, 4)
HALF = 0.5
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Asked:
    """What is measured at one recall: lists have one number of each round.

    Attributes:
        effort: What ours is asked for, "recall=0.95" or "ef=40".
        recall: What that gives in one process.
        theirs: hnswlib's searches a second, both processors.
        ours: Ours in one process, likewise.
        search_us: Processor time of one of ours there.
        unary: Calls a second, by calls in flight.
        server_us: The server's processor time of a call, by calls in flight.
        batch: Queries a second in batches, by batches in flight.
        through: The recall of what came through gRPC.
        reports: The last report of each load.
    """

    effort: str
    recall: float
    theirs: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    search_us: list[float] = field(default_factory=list)
    unary: dict[int, list[float]] = field(default_factory=dict)
    server_us: dict[int, list[float]] = field(default_factory=dict)
    batch: dict[int, list[float]] = field(default_factory=dict)
    through: dict[str, float] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)


class OverGrpc:
    """One server on a copy of the set, and the loads on it."""

    def __init__(self, systems: Systems, chosen: SearchSet, server: ServerProcess) -> None:
        self._build = systems.bench.build
        self._answers = systems.bench.folder / "grpc.answers"
        self._chosen = chosen
        self._server = server
        self.seconds = 0.5 if systems.bench.quick else 3.0

    def load(self, effort: str, **options: Any) -> tuple[dict[str, Any], float, float]:
        """Returns the report of a load, the server's processor time of a call, and the recall.

        The time is right where no calls are left out as a warm-up.
        """
        name, _, value = effort.partition("=")
        self._answers.unlink(missing_ok=True)
        before = self._cpu_seconds()
        load = Load(
            self._build,
            address=self._server.address,
            collection="rows",
            field="v",
            vectors=self._chosen.queries,
            limit=LIMIT,
            answers=self._answers,
            **{name: value},
            **options,
        )
        report = load.wait()
        if report["errors"]:
            raise RuntimeError(f"searches failed: {report}")
        cpu_us = (self._cpu_seconds() - before) * 1e6 / max(report["calls"], 1)
        ids = np.fromfile(self._answers, np.int64).reshape(-1, LIMIT)
        recall = float(self._chosen.recalls(ids[: self._queries()]).mean())
        return report, cpu_us, recall

    def takes(self, effort: str) -> bool:
        """Returns whether the server takes searches with such an effort."""
        try:
            self.load(effort, closed_loop=1, seconds=self.seconds)
        except RuntimeError:
            return False
        return True

    def _queries(self) -> int:
        return len(np.load(self._chosen.queries, mmap_mode="r"))

    def _cpu_seconds(self) -> float:
        assert self._server._process is not None
        stat = Path(f"/proc/{self._server._process.pid}/stat").read_text(encoding="utf-8")
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / TICKS


def our_effort(ours: Driven, through: OverGrpc, chosen: SearchSet, target: float) -> Asked:
    """Returns how ours is asked: by recall where engine and server know it, else by a width.

    The width is the least of a sweep that has the recall.
    """
    by_recall = f"recall={target}"
    if ours.about["serves_recall"] and through.takes(by_recall):
        return Asked(by_recall, point_at(ours, chosen, by_recall, LIMIT).recall)
    points = sweep(ours, chosen, LIMIT, target)
    return Asked(points[-1].effort, points[-1].recall)


def over_grpc(results: Results, systems: Systems, chosen: SearchSet, command: str) -> None:
    """Measures search.SET.grpc_* and search.SET.p99_over_p50_at_half_load."""
    rounds = 1 if systems.bench.quick else 3
    folder = systems.bench.folder / "server"
    copy_server(systems.our_data(chosen)[0], folder)
    server = systems.bench.server(folder)
    with ExitStack() as stack:
        ours = stack.enter_context(systems.ours(chosen))
        theirs = stack.enter_context(systems.hnswlib(chosen))
        stack.enter_context(running(server))
        through = OverGrpc(systems, chosen, server)
        points = thin(sweep(theirs, chosen, LIMIT, ENOUGH_RECALL), TARGETS)
        asked = {target: our_effort(ours, through, chosen, target) for target in TARGETS}
        for _ in range(rounds):
            for target, at in asked.items():
                one_round(ours, theirs, through, points, target, at)
                say(f"{at.effort}: {_brief(at)}")
        half = half_load(through, asked[TARGETS[0]])
    put_figures(results, chosen, asked, half, command)


def one_round(
    ours: Driven,
    theirs: Driven,
    through: OverGrpc,
    points: list[Point],
    target: float,
    at: Asked,
) -> None:
    """Each of them once, one after the other."""
    seconds = through.seconds / 2
    for point in points:
        measure(theirs, point, LIMIT, THREADS, seconds / len(points))
    rate = at_recall([(point.recall, point.qps[-1]) for point in points], target)
    at.theirs.append(float("nan") if rate is None else rate)
    own = ours.time(at.effort, LIMIT, THREADS, seconds)
    at.ours.append(own["qps"])
    at.search_us.append(own["cpu_us"])
    for flying in IN_FLIGHT:
        report, cpu, recall = through.load(
            at.effort, closed_loop=flying, connections=min(flying, 2), seconds=through.seconds
        )
        at.unary.setdefault(flying, []).append(report["done_per_s"])
        at.server_us.setdefault(flying, []).append(cpu)
        at.reports[f"unary, {flying} in flight"] = brief(report)
        at.through["unary"] = recall
    for flying in BATCHES_IN_FLIGHT:
        report, _, recall = through.load(
            at.effort,
            mode="search_batch",
            queries=BATCH,
            closed_loop=flying,
            connections=2,
            seconds=through.seconds,
        )
        at.batch.setdefault(flying, []).append(report["done_per_s"] * BATCH)
        at.reports[f"batch, {flying} in flight"] = brief(report)
        at.through["batch"] = recall


def half_load(through: OverGrpc, at: Asked) -> dict[str, Any]:
    """Returns the report of an open loop at half of the most calls a second that were done."""
    capacity = max(statistics.median(rates) for rates in at.unary.values())
    report, _, _ = through.load(
        at.effort,
        rate=HALF * capacity,
        connections=2,
        seconds=5 * through.seconds,
        warmup=through.seconds / 2,
    )
    return {**brief(report), "capacity_per_s": round(capacity)}


def _best(rates: dict[int, list[float]]) -> list[float]:
    """Returns the rates of the calls in flight that do the most."""
    return max(rates.values(), key=statistics.median)


def _brief(at: Asked) -> str:
    return (
        f"hnswlib {at.theirs[-1]:.0f}/s, ours in one process {at.ours[-1]:.0f}/s, unary "
        f"{ {flying: round(rates[-1]) for flying, rates in at.unary.items()} }, batch "
        f"{ {flying: round(rates[-1]) for flying, rates in at.batch.items()} }"
    )


def _ratios(ours: list[float], theirs: list[float]) -> list[float]:
    return [round(a / b, 3) for a, b in zip(ours, theirs)]


class Putting:
    """Sets figures, each the median of the rounds, and says them."""

    def __init__(self, results: Results, command: str) -> None:
        self._results, self._command = results, command

    def __call__(
        self, figure: str, values: list[float], unit: str, target: str, **more: Any
    ) -> None:
        """Sets one, unless a round has none."""
        if any(map(math.isnan, values)):
            say(f"{figure}: none: hnswlib does not reach the recall")
            return
        value = statistics.median(values)
        self._results.put(figure, round(value, 3), unit, self._command, target=target, **more)
        say(f"{figure}: {value:.3f}")


def notes_of(at: Asked) -> dict[str, Any]:
    """Returns what the figures are made of."""
    return {
        "recall_through_grpc": {kind: round(got, 5) for kind, got in at.through.items()},
        "hnswlib_qps": [round(rate, 1) for rate in at.theirs],
        "in_process_qps": [round(rate, 1) for rate in at.ours],
        "in_process_cpu_us": [round(micros, 2) for micros in at.search_us],
        "unary_per_s": {f: [round(r) for r in rates] for f, rates in at.unary.items()},
        "server_cpu_us": {f: [round(u, 2) for u in us] for f, us in at.server_us.items()},
        "batch_queries_per_s": {f: [round(r) for r in rs] for f, rs in at.batch.items()},
        "loads": at.reports,
    }


def put_figures(
    results: Results,
    chosen: SearchSet,
    asked: dict[float, Asked],
    half: dict[str, Any],
    command: str,
) -> None:
    """Sets the figures; all that they are made of goes to the section "grpc"."""
    name = f"search.{chosen.name}"
    put = Putting(results, command)
    notes: dict[str, Any] = {}
    for target, at in asked.items():
        unary, batch = _best(at.unary), _best(at.batch)
        more = {"asked": at.effort, "recall": round(at.recall, 5), "data_set": chosen.about}
        put(
            f"{name}.grpc_batch_ratio_hnswlib_2cores_at_{target}",
            _ratios(batch, at.theirs),
            f"queries a second in batches of {BATCH}, by hnswlib's in one process, two threads",
            ">= 2.5",
            **more,
        )
        put(
            f"{name}.grpc_unary_ratio_hnswlib_2cores_at_{target}",
            _ratios(unary, at.theirs),
            "unary calls a second, by hnswlib's searches in one process, two threads",
            ">= 1.4" if target == TARGETS[-1] else "",
            **more,
        )
        notes[str(target)] = {**more, **notes_of(at)}
    results.note("grpc", chosen.name, command, {"data_set": chosen.about, **notes, "half": half})
    put_costs(put, chosen, asked, half)


def put_costs(
    put: Putting, chosen: SearchSet, asked: dict[float, Asked], half: dict[str, Any]
) -> None:
    """Sets what gRPC costs beside our own searches in one process."""
    name = f"search.{chosen.name}"
    fast, careful = asked[TARGETS[0]], asked[TARGETS[-1]]
    put(
        f"{name}.grpc_batch_share_of_inprocess",
        _ratios(_best(fast.batch), fast.ours),
        f"queries a second in batches of {BATCH}, by ours in one process, two threads",
        ">= 0.85",
        at_0_99=statistics.median(_ratios(_best(careful.batch), careful.ours)),
    )
    put(
        "search.grpc_server_overhead_us",
        [
            server - search
            for server, search in zip(careful.server_us[OVERHEAD_IN_FLIGHT], careful.search_us)
        ],
        f"server's processor time of a unary call, {OVERHEAD_IN_FLIGHT} in flight, less a search's",
        "<= 20",
        data_set=chosen.about,
        server_cpu_us={f: round(statistics.median(us), 2) for f, us in careful.server_us.items()},
        search_cpu_us=round(statistics.median(careful.search_us), 2),
    )
    put(
        f"{name}.p99_over_p50_at_half_load",
        [half["p99_ms"] / half["p50_ms"]],
        "p99 by p50 of unary calls, open loop at half of the capacity",
        "<= 3",
        load=half,
    )
