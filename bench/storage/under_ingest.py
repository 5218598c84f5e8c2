"""What searches take while rows come in: open loop, at 25 % of the capacity.

The data are 200 000 generated rows of 128: rows that come in have to be new ones, and a generator
has as many as a sweep needs, of the distribution that the searches meet; a data set that ends would
have to be written again and again, which measures replacements.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from load import Load, brief
from loaded import COLLECTION, FIELD, Loaded
from results import Results
from servers import Bench, running, say

SEARCH_SHARE = 0.25
INGEST_SHARE = 0.30
SWEEP = (0.30, 0.60, 0.90, 1.20)
CONNECTIONS = (2, 3, 4)
BATCH = 100
POOL_ROWS = 200_000
POOL_STREAM = 3
WARMUP_S = 2.0
INDEXED_RATE = "storage.indexed_rows_per_s"
PICTURE = "search_under_ingest.png"
TABLE = "search_under_ingest.md"


class UnderIngest:
    """Loads of one collection. Every point starts on a copy of it as it was loaded."""

    def __init__(self, bench: Bench, base: Loaded, seconds: float) -> None:
        """Writes the files of queries and of what comes in."""
        self._bench = bench
        self._base = base
        self._seconds = seconds
        self._folder = bench.folder / "under_ingest"
        self._queries = bench.folder / "queries_under_ingest.npy"
        self._pool = bench.folder / "ingested.npy"
        np.save(self._queries, base.queries())
        np.save(self._pool, base.mixture.rows(0, min(POOL_ROWS, base.rows), POOL_STREAM))

    def capacity(self) -> dict[str, Any]:
        """Returns searches a second in a closed loop, by connections, and the most of them."""
        self._base.copy_to(self._folder)
        rates: dict[str, float] = {}
        with running(self._bench.server(self._folder)) as client:
            for connections in CONNECTIONS:
                load = self._searches(
                    client.address, closed_loop=connections, connections=connections
                )
                report = load.wait()
                if report["errors"]:
                    raise RuntimeError(f"searches failed: {report}")
                rates[str(connections)] = round(report["done_per_s"], 1)
        say(f"capacity, searches a second by connections: {rates}")
        return {"by_connections": rates, "searches_per_s": max(rates.values())}

    def point(self, searches_per_s: float, rows_per_s: float) -> dict[str, Any]:
        """Searches at rest, then while rows come in; returns what both took."""
        self._base.copy_to(self._folder)
        with running(self._bench.server(self._folder)) as client:
            collection = client.collection(COLLECTION)
            rest = self._searches(client.address, rate=searches_per_s, connections=2).wait()
            ingest = Load(
                self._bench.build,
                address=client.address,
                mode="upsert",
                collection=COLLECTION,
                field=FIELD,
                vectors=self._pool,
                batch=BATCH,
                first_key=self._base.rows,
                rate=rows_per_s / BATCH,
                seconds=self._seconds + 2 * WARMUP_S,
            )
            under = self._searches(client.address, rate=searches_per_s, connections=2).wait()
            written = ingest.stop()
            stats = collection.stats()
        for what, report in (("at rest", rest), ("under ingest", under)):
            if report["errors"]:
                raise RuntimeError(f"searches {what} failed: {report}")
        ratio = under["latency_ms"]["p99"] / rest["latency_ms"]["p99"]
        say(
            f"{rows_per_s:.0f} rows/s offered, {written['done_per_s'] * BATCH:.0f} written: p99 "
            f"{rest['latency_ms']['p99']:.2f} ms at rest, {under['latency_ms']['p99']:.2f} ms "
            f"meanwhile, {ratio:.2f} x; {stats.unindexed_rows} rows wait for their index"
        )
        return {
            "ratio": round(ratio, 3),
            "rows_per_s_offered": round(rows_per_s),
            "rows_per_s_written": round(written["done_per_s"] * BATCH),
            "at_rest": brief(rest),
            "under_ingest": brief(under),
            "ingest": brief(written),
            "unindexed_rows_at_the_end": stats.unindexed_rows,
            "segments_at_the_end": len(stats.segments),
        }

    def _searches(self, address: str, **options: Any) -> Load:
        return Load(
            self._bench.build,
            address=address,
            collection=COLLECTION,
            field=FIELD,
            vectors=self._queries,
            seconds=self._seconds,
            warmup=WARMUP_S,
            **options,
        )


def indexed_rate(results: Results, base: Loaded) -> tuple[float, str]:
    """Returns the rows a second that can be loaded and indexed, and where that is from.

    The figure is of longer rows than those of this part, which can be indexed faster as a rule.
    """
    rate, source = base.rows / base.seconds, "the load of these rows, until Optimize ended"
    if results.path.exists():
        figures = json.loads(results.path.read_text(encoding="utf-8"))["figures"]
        if INDEXED_RATE in figures and float(figures[INDEXED_RATE]["value"]) > rate:
            return float(figures[INDEXED_RATE]["value"]), f"the figure {INDEXED_RATE}"
    return rate, source


def under_ingest(
    results: Results,
    bench: Bench,
    base: Loaded,
    command: str,
    *,
    seconds: float,
    repetitions: int,
    docs: Path,
) -> None:
    """Measures storage.search_p99_under_ingest_ratio; the sweep goes to a table and a picture."""
    rate, source = indexed_rate(results, base)
    say(f"{rate:.0f} rows a second are 100 % ({source})")
    runs = UnderIngest(bench, base, seconds)
    capacity = runs.capacity()
    searches = SEARCH_SHARE * capacity["searches_per_s"]
    points = {share: [runs.point(searches, share * rate)] for share in SWEEP}
    for _ in range(repetitions - 1):
        points[INGEST_SHARE].append(runs.point(searches, INGEST_SHARE * rate))
    median = statistics.median(point["ratio"] for point in points[INGEST_SHARE])
    results.put(
        "storage.search_p99_under_ingest_ratio",
        round(median, 3),
        f"p99 of searches while rows come in at {INGEST_SHARE:.0%} of the rate / at rest; median",
        command,
        target="<= 3",
        data_set=f"{base.rows} rows, {base.mixture.name}, l2; ingest in batches of {BATCH}",
        rows_per_s_indexed=round(rate),
        rate_from=source,
        capacity=capacity,
        seconds_of_each=seconds,
        repetitions=points[INGEST_SHARE],
        sweep={f"{share:.0%}": points[share][0] for share in SWEEP},
    )
    docs.mkdir(parents=True, exist_ok=True)
    table = table_of(points, searches, rate)
    (docs / TABLE).write_text(table, encoding="utf-8")
    print(table)
    plot({share: points[share][0] for share in SWEEP}, docs / PICTURE)


def table_of(points: dict[float, list[dict[str, Any]]], searches: float, rate: float) -> str:
    """Returns the sweep as a page."""
    lines = [
        "# Searches while rows come in",
        "",
        f"Written by `./dev bench storage --part under_ingest`. {searches:.0f} searches a second "
        f"(open loop, {SEARCH_SHARE:.0%} of the capacity); 100 % are {rate:.0f} rows a second. "
        "Milliseconds.",
        "",
        f"![p99 of searches by the rate of ingest]({PICTURE})",
        "",
        "| ingest | rows/s written | p50 at rest | p99 at rest | p50 | p95 | p99 | p99.9 | max "
        "| p99 / at rest | rows unindexed at the end |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for share, runs in sorted(points.items()):
        for run in runs:
            rest, under = run["at_rest"], run["under_ingest"]
            cells = [f"{share:.0%}", str(run["rows_per_s_written"])]
            cells += [f"{rest[key]:.2f}" for key in ("p50_ms", "p99_ms")]
            cells += [
                f"{under[key]:.2f}" for key in ("p50_ms", "p95_ms", "p99_ms", "p999_ms", "max_ms")
            ]
            cells += [f"{run['ratio']:.2f}", str(run["unindexed_rows_at_the_end"])]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(points: dict[float, dict[str, Any]], path: Path) -> None:
    """Draws latencies by the rate of ingest, the rate 0 being at rest."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rest = {
        key: statistics.median(point["at_rest"][key] for point in points.values())
        for key in ("p50_ms", "p99_ms", "p999_ms")
    }
    shares = [0.0, *sorted(points)]
    figure, axes = pyplot.subplots(figsize=(6.4, 4.0), dpi=120)
    for key, label in (("p999_ms", "p99.9"), ("p99_ms", "p99"), ("p50_ms", "p50")):
        values = [rest[key], *(points[share]["under_ingest"][key] for share in shares[1:])]
        axes.plot([100 * share for share in shares], values, marker="o", label=label)
    axes.axhline(3 * rest["p99_ms"], color="grey", linestyle=":", label="3 x p99 at rest")
    axes.set_yscale("log")
    axes.set_xlabel("rows offered, % of the rate at which they can be indexed")
    axes.set_ylabel("latency of a search, ms")
    axes.set_title(f"Searches at {SEARCH_SHARE:.0%} of capacity while rows come in")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
