"""Searches in one process each, ours and those of libraries, which take turns on one set."""

from __future__ import annotations

import shutil
import statistics
from contextlib import ExitStack
from typing import Any

from curves import Point, at_recall, of_round, thin
from driven import ENOUGH_RECALL, Driven, measure, point_at, sweep
from memory import APART, resident
from results import Results
from servers import Bench, say
from sets import SearchSet, prepare
from systems import HNSWLIB, LIBRARIES, OURS, Systems, run_build

TARGETS = (0.95, 0.99)
ASKED = (0.80, 0.90, 0.95, 0.99)
# On curves: where queries are unlike the rows, what 0.99 gives may be a little less.
ASKED_ON_CURVES = (*ASKED, 0.995)
LIMITS = (1, 10, 100)
CHECKED_FROM = 0.90  # The contract of less is not measured against.
CONTRACT_SLACK = 0.005
EFFORT_SLACK = 0.03
QPS_TARGETS = {
    "fashion_mnist": ">= 4",
    "arxiv": ">= 4",
    "words": ">= 3.3",
    "sift_photos": ">= 3.3",
    "gen128": ">= 3.3",
    "gen768": ">= 5",
}
BUILD_TARGETS = {"fashion_mnist": ">= 2.2", "arxiv": ">= 1.8"}
MEMORY_TARGETS = {"fashion_mnist": "<= 0.45", "arxiv": "<= 0.6"}
SEARCHES_BEFORE_MEMORY = 10_000


def rounds_and_seconds(bench: Bench) -> tuple[int, float]:
    """Returns how often each point is timed, and how long."""
    return (2, 0.02) if bench.quick else (5, 0.4)


def efforts(driven: Driven, chosen: SearchSet, limit: int) -> list[Point]:
    """Returns the points at which a system is timed: the recalls that we are asked for, or widths.

    An engine that cannot be asked for a recall is swept as libraries are.
    """
    if driven.name == OURS and driven.about["serves_recall"]:
        return [point_at(driven, chosen, f"recall={asked}", limit) for asked in ASKED_ON_CURVES]
    return thin(sweep(driven, chosen, limit, ENOUGH_RECALL), ASKED)


def take_turns(
    running: list[Driven],
    points: dict[str, list[Point]],
    limit: int,
    threads: int,
    rounds: int,
    seconds: float,
) -> None:
    """Times all points of all systems, round by round, a point of each in turn."""
    for _ in range(rounds):
        for place in range(max(len(points[driven.name]) for driven in running)):
            for driven in running:
                if place < len(points[driven.name]):
                    measure(driven, points[driven.name][place], limit, threads, seconds)


def our_rate(points: list[Point], target: float, number: int) -> tuple[float | None, float]:
    """Returns our searches a second at a recall in a round, and the recall that was got.

    Where we were asked for it and gave it, that point; else what our own curve has there.
    """
    asked = next((p for p in points if p.effort == f"recall={target}"), None)
    if asked is not None and asked.recall >= target:
        return asked.qps[number], asked.recall
    return at_recall(of_round(points, number), target), target


def ratio_at(ours: list[Point], theirs: list[Point], target: float) -> dict[str, Any] | None:
    """Returns our rate by theirs at a recall, median of the rounds; None where one has none."""
    ratios, equal = [], []
    got = target
    for number in range(len(ours[0].qps)):
        our, got = our_rate(ours, target, number)
        their_curve = of_round(theirs, number)
        their, at_got = at_recall(their_curve, target), at_recall(their_curve, got)
        if our is None or their is None:
            return None
        ratios.append(our / their)
        if at_got is not None:
            equal.append(our / at_got)
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ratio_of_each_round": [round(ratio, 3) for ratio in ratios],
        "recall_got": round(got, 5),
        "ratio_at_equal_recall": round(statistics.median(equal), 3) if equal else None,
    }


def measure_set(results: Results, systems: Systems, chosen: SearchSet, command: str) -> None:
    """Measures the curves of a set, our ratios to hnswlib, and the memory at rest."""
    rounds, seconds = rounds_and_seconds(systems.bench)
    with ExitStack() as stack:
        running = [
            stack.enter_context(systems.ours(chosen)),
            stack.enter_context(systems.hnswlib(chosen)),
        ]
        if systems.peers_python is not None:
            running += [stack.enter_context(systems.library(name, chosen)) for name in LIBRARIES]
        for driven in running:
            results.note("systems", driven.name, command, systems.describe(driven))
        curves: dict[str, Any] = {}
        for limit, threads, of in ((10, 1, running), (10, 2, running[:2]), (100, 1, running[:2])):
            points = {driven.name: efforts(driven, chosen, limit) for driven in of}
            take_turns(of, points, limit, threads, rounds, seconds)
            curves[f"recall@{limit}, {threads} thread{'s' if threads > 1 else ''}"] = {
                name: [point.as_json() for point in of_system] for name, of_system in points.items()
            }
            if (limit, threads) == (10, 1):
                put_ratios(results, chosen, points, running[0].about["serves_recall"], command)
        results.note("curves", chosen.name, command, {"data_set": chosen.about, **curves})
        index_bytes = running[1].about["index_bytes"]
    put_memory(results, systems, chosen, index_bytes, command)


def put_ratios(
    results: Results,
    chosen: SearchSet,
    points: dict[str, list[Point]],
    by_recall: bool,
    command: str,
) -> None:
    """Sets search.SET.qps_ratio_hnswlib_at_*."""
    for target in TARGETS:
        ratio = ratio_at(points[OURS], points[HNSWLIB], target)
        if ratio is None:
            best = {name: max(p.recall for p in of_system) for name, of_system in points.items()}
            say(f"{chosen.name}: no ratio at {target}: the best recalls are {best}")
            continue
        others = {
            name: None if found is None else found["ratio"]
            for name in points
            if name not in (OURS, HNSWLIB)
            for found in [ratio_at(points[OURS], points[name], target)]
        }
        goal = (
            QPS_TARGETS[chosen.name]
            if target == TARGETS[0] or chosen.name in ("fashion_mnist", "arxiv")
            else ""
        )
        value = ratio.pop("ratio")
        results.put(
            f"search.{chosen.name}.qps_ratio_hnswlib_at_{target}",
            value,
            f"searches a second at recall@10 {target}, one thread, by hnswlib's; median of rounds",
            command,
            target=goal,
            data_set=chosen.about,
            asked_by="recall" if by_recall else "ef, interpolated",
            **ratio,
            ratio_to_others=others,
        )
        say(f"{chosen.name}: {value:.2f} x hnswlib at {target}")


def put_memory(
    results: Results, systems: Systems, chosen: SearchSet, index_bytes: int, command: str
) -> None:
    """Sets search.SET.resident_ratio_hnswlib, of a process that was just started."""
    empty_folder = systems.bench.folder / "empty"
    shutil.rmtree(empty_folder, ignore_errors=True)
    empty_folder.mkdir()
    with systems.ours_on(empty_folder / "data", chosen) as empty:
        base = resident(empty.pid)
    with systems.ours(chosen) as ours:
        before = resident(ours.pid)
        searches = 0
        while searches < (100 if systems.bench.quick else SEARCHES_BEFORE_MEMORY):
            searches += ours.time("default", 10, 1, 0.5)["searches"]
        now = resident(ours.pid)
    at_rest = now.anonymous - base.anonymous + now.of_segments
    ratio = at_rest / index_bytes
    results.put(
        f"search.{chosen.name}.resident_ratio_hnswlib",
        round(ratio, 3),
        "resident bytes of codes, graph, columns and memory of no file, by hnswlib's index",
        command,
        target=MEMORY_TARGETS.get(chosen.name, ""),
        data_set=chosen.about,
        bytes_for_a_vector=round(at_rest / chosen.rows, 1),
        hnswlib_bytes_for_a_vector=round(index_bytes / chosen.rows, 1),
        searches_before=searches,
        anonymous=now.anonymous,
        anonymous_before_the_searches=before.anonymous,
        anonymous_of_an_empty_database=base.anonymous,
        pages_of_segment_files=dict(sorted(now.sections.items())),
        vectors_stand_apart=now.has_codes,
        resident_vectors={name: now.sections[name] for name in APART},
        apart_programs_and_other_files=now.other_files,
    )
    say(f"{chosen.name}: {at_rest / chosen.rows:.0f} bytes a vector, {ratio:.2f} x hnswlib's index")


def measure_build(
    results: Results, systems: Systems, chosen: SearchSet, command: str, repetitions: int
) -> None:
    """Sets search.SET.build_ratio_hnswlib: builds take turns, each on an empty folder."""
    folder = systems.bench.folder / "build"
    ours_all, theirs_all = [], []
    for _ in range(repetitions):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        program = systems.ours_program
        ours_all.append(run_build([program, "build", chosen.metric, chosen.base, folder / "data"]))
        theirs_all.append(run_build(systems.hnswlib_build(chosen, folder / "index")))
    shutil.rmtree(folder, ignore_errors=True)
    ratios = [
        theirs["build_s"] / max(ours["optimize_s"], 1e-3)
        for ours, theirs in zip(ours_all, theirs_all)
    ]
    from_first = [
        theirs["build_s"] / (ours["insert_s"] + ours["optimize_s"])
        for ours, theirs in zip(ours_all, theirs_all)
    ]
    value = round(statistics.median(ratios), 3)
    results.put(
        f"search.{chosen.name}.build_ratio_hnswlib",
        value,
        "rows a second from all inserted until Optimize ended, by hnswlib's addPoint, two threads",
        command,
        target=BUILD_TARGETS.get(chosen.name, ""),
        data_set=chosen.about,
        ratio_of_each_round=[round(ratio, 3) for ratio in ratios],
        ratio_from_the_first_insert=round(statistics.median(from_first), 3),
        rows_per_s=round(statistics.median(chosen.rows / o["optimize_s"] for o in ours_all)),
        rows_per_s_of_hnswlib=round(
            statistics.median(chosen.rows / theirs["build_s"] for theirs in theirs_all)
        ),
        ours=ours_all,
    )
    say(f"{chosen.name}: builds {value:.2f} x as fast as hnswlib")


def measure_contract(results: Results, systems: Systems, chosen: SearchSet, command: str) -> None:
    """Sets search.SET.recall_asked_minus_got_max."""
    _, seconds = rounds_and_seconds(systems.bench)
    cells = []
    with systems.ours(chosen) as ours:
        by_recall = ours.about["serves_recall"]
        for limit in LIMITS:
            for asked in ASKED:
                point = point_at(ours, chosen, f"recall={asked}", limit)
                measure(ours, point, limit, 1, seconds)
                cells.append(
                    {
                        "limit": limit,
                        "asked": asked,
                        "got": round(point.recall, 5),
                        "standard_error": round(point.error, 5),
                        "met": point.recall >= asked - CONTRACT_SLACK - 2 * point.error,
                        "qps": round(point.qps[0]),
                        "distances": round(point.more.get("distances", 0), 1),
                    }
                )
    checked = [cell for cell in cells if cell["asked"] >= CHECKED_FROM]
    results.put(
        f"search.{chosen.name}.recall_asked_minus_got_max",
        round(max(cell["asked"] - cell["got"] for cell in checked), 5),
        "most that a recall asked for is above the one got, at limit 1, 10 and 100",
        command,
        target=f"<= {CONTRACT_SLACK}",
        met=all(cell["met"] for cell in checked),
        data_set=chosen.about,
        asked_by="recall" if by_recall else "ef, guessed: the engine cannot be asked for a recall",
        met_means=f"got >= asked - {CONTRACT_SLACK} - 2 standard errors, from {CHECKED_FROM} on",
        got_minus_asked_max=round(max(cell["got"] - cell["asked"] for cell in checked), 5),
        cells=cells,
    )
    over = sum(cell["got"] - cell["asked"] > EFFORT_SLACK for cell in checked)
    met = sum(cell["met"] for cell in checked)
    say(f"{chosen.name}: {met} of {len(checked)} recalls met, {over} exceeded by {EFFORT_SLACK}")


def prepared(bench: Bench, names: list[str]) -> list[SearchSet]:
    """Returns the sets among these that are there."""
    return [chosen for name in names for chosen in [prepare(bench, name)] if chosen is not None]
