"""Vector databases, each through its own client, one query at a time, beside our server."""

from __future__ import annotations

import statistics
from typing import Any

from curves import Point, at_recall
from driven import Driven, measure, point_at, sweep
from results import Results
from servers import copy_server, say
from sets import SearchSet
from systems import OURS, Systems

DATABASES = (
    "chroma",
    "duckdb_vss",
    "lancedb",
    "milvus_lite",
    "pgvector",
    "qdrant_edge",
    "zvec",
)
LIMIT = 10
RECALL = 0.95
ROUNDS = 3


def measure_one(running: Driven, chosen: SearchSet, quick: bool) -> dict[str, Any]:
    """Returns a system at its defaults, and its rate when it is tuned to the recall."""
    seconds = 0.02 if quick else 1.0
    default = point_at(running, chosen, "default", LIMIT)
    if running.about.get("serves_recall"):
        points = [point_at(running, chosen, f"recall={RECALL}", LIMIT)]
    else:
        points = sweep(running, chosen, LIMIT, RECALL)
    around = points[-2:]
    for _ in range(1 if quick else ROUNDS):
        for point in (default, *around):
            measure(running, point, LIMIT, 1, seconds)
    tuned = tuned_rate(around)
    about = {name: running.about[name] for name in ("load_s", "index_s") if name in running.about}
    return {
        "server": running.about.get("server", False),
        **about,
        "default": default.as_json(),
        f"qps_at_{RECALL}": None if tuned is None else round(tuned, 1),
        "best_recall": round(max(point.recall for point in points), 5),
        "around": [point.as_json() for point in around],
    }


def tuned_rate(points: list[Point]) -> float | None:
    """Returns the searches a second at the recall, by the medians of the rounds."""
    return at_recall([(point.recall, statistics.median(point.qps)) for point in points], RECALL)


def measure_databases(
    results: Results, systems: Systems, chosen: SearchSet, names: list[str], command: str
) -> None:
    """Measures ours and each of `names`; sets search.SET.client_ratio_NAME_at_0.95."""
    folder = systems.bench.folder / "our_client"
    copy_server(systems.our_data(chosen)[0], folder)
    found: dict[str, dict[str, Any]] = {}
    for name in (OURS, *names):
        try:
            with (
                systems.our_client(chosen, folder)
                if name == OURS
                else systems.database(name, chosen)
            ) as running:
                found[name] = measure_one(running, chosen, systems.bench.quick)
                if name != OURS:
                    results.note("systems", name, command, systems.describe(running))
        except RuntimeError as error:
            # Other people's software: one that does not run here must not end the run.
            if name == OURS:
                raise
            say(f"{name} FAILED: {error}")
            results.note(
                "databases_failed", f"{chosen.name}.{name}", command, {"error": str(error)}
            )
            continue
        tuned = found[name][f"qps_at_{RECALL}"]
        default = found[name]["default"]
        say(
            f"{name}: {default['qps']:.0f}/s at its defaults, recall {default['recall']:.4f}; "
            f"tuned to {RECALL}: {'not reached' if tuned is None else f'{tuned:.0f}/s'}"
        )
    our_rate = found[OURS][f"qps_at_{RECALL}"]
    for name in names:
        their_rate = found.get(name, {}).get(f"qps_at_{RECALL}")
        if their_rate and our_rate:
            results.put(
                f"search.{chosen.name}.client_ratio_{name}_at_{RECALL}",
                round(our_rate / their_rate, 2),
                f"searches a second of one client in Python at recall@10 {RECALL}, by its own",
                command,
                data_set=chosen.about,
            )
    for name, measured in found.items():
        results.note("databases", f"{chosen.name}.{name}", command, measured)
