"""What a snapshot costs writers, and what a restore costs beside loading the rows again."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
from azimuth_db import Client
from load import Array, Load, percentile
from loaded import COLLECTION, FIELD, Loaded
from results import Results
from servers import Bench, running, say

BATCH = 10
# The writer replaces these keys again and again, so that the collection stays as large as it was.
KEYS = 10_000
WRITER_STREAM = 4
PAUSE_S = 2.0
WRITER_SECONDS_MAX = 3600.0
RESTORED = "restored"
GIVE_UP_S = 600.0


def snapshot(results: Results, bench: Bench, base: Loaded, command: str, repetitions: int) -> None:
    """Measures storage.snapshot_stall_p999_ms and storage.restore_ratio_reload."""
    if not hasattr(Client, "create_snapshot"):
        say("SKIPPED: this client has no snapshots")
        return
    folder = bench.folder / "snapshot"
    base.copy_to(folder)
    written = bench.folder / "written.npy"
    np.save(written, base.mixture.rows(0, KEYS, WRITER_STREAM))
    with running(bench.server(folder)) as client:
        # First the restore: of a collection at rest, as it would be loaded again.
        restores = [_restore(client, base) for _ in range(repetitions)]
        samples_path = bench.folder / "writer.samples"
        writer = Load(
            bench.build,
            address=client.address,
            mode="upsert",
            collection=COLLECTION,
            field=FIELD,
            vectors=written,
            batch=BATCH,
            key_count=min(KEYS, base.rows),
            closed_loop=1,
            seconds=WRITER_SECONDS_MAX,
            samples=samples_path,
        )
        spans = [_take_one(client, restores[0]["snapshot_s"]) for _ in range(repetitions)]
        report = writer.stop()
    samples = writer.samples()
    pairs = [(_during(samples, *span), _during(samples, *rest)) for rest, span in spans]
    _put_stall(results, command, base, pairs, spans, report)
    _put_restore(results, command, base, restores)


def _restore(client: Client, base: Loaded) -> dict[str, float]:
    """Takes a snapshot, restores it under a new name and searches; removes both."""
    start = time.monotonic()
    taken = client.create_snapshot(COLLECTION)
    snapshot_s = time.monotonic() - start
    queries = base.queries()
    start = time.monotonic()
    client.restore_snapshot(taken.id, as_name=RESTORED)
    restored_s = time.monotonic() - start
    collection = client.collection(RESTORED)
    while collection.search(queries[0], field=FIELD, output_fields=[]).work.path != "graph":
        if time.monotonic() - start > GIVE_UP_S:
            raise RuntimeError(f"after {GIVE_UP_S:g} s no search of what was restored is by graph")
        time.sleep(0.001)
    answered_s = time.monotonic() - start
    rows = collection.stats().row_count
    if rows != base.rows:
        raise RuntimeError(f"{rows} rows were restored of {base.rows}")
    client.drop_collection(RESTORED)
    client.delete_snapshot(taken.id)
    say(
        f"snapshot of {taken.bytes >> 20} MiB in {snapshot_s:.2f} s; restored in {restored_s:.2f} "
        f"s, answers by graph after {answered_s:.2f} s"
    )
    return {
        "snapshot_s": snapshot_s,
        "restored_s": restored_s,
        "answers_by_graph_s": answered_s,
        "bytes": taken.bytes,
    }


def _take_one(client: Client, about_s: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Takes a snapshot under writes; returns the time before that is as long, and its own."""
    time.sleep(PAUSE_S + about_s)
    start = time.monotonic()
    taken = client.create_snapshot(COLLECTION)
    end = time.monotonic()
    client.delete_snapshot(taken.id)
    return (start - (end - start), start), (start, end)


def _during(samples: Array, start: float, end: float) -> Array:
    """Returns the latencies of the calls that ran at some time from `start` to `end`."""
    due, done = samples[:, 0], samples[:, 0] + samples[:, 2] / 1e3
    found: Array = samples[(done >= start) & (due <= end), 2]
    return found


def _corrected(latencies: Array) -> Array:
    """Returns the latencies and those of writes that a stall kept from being sent.

    One writer that waits sends nothing meanwhile, so that a stall of a second is one write among
    thousands. Had the writes gone on at their usual pace, each would have waited for what was left.
    """
    usual = percentile(latencies, 0.5)
    more = [np.arange(latency - usual, usual, -usual) for latency in latencies[latencies > usual]]
    found: Array = np.concatenate([latencies, *more])
    return found


def _shape(latencies: Array) -> dict[str, Any]:
    return {
        "writes": len(latencies),
        "p50_ms": round(percentile(latencies, 0.5), 3),
        "p99_ms": round(percentile(latencies, 0.99), 3),
        "p999_ms": round(percentile(latencies, 0.999), 3),
        "max_ms": round(percentile(latencies, 1.0), 3),
        "p999_of_a_steady_writer_ms": round(percentile(_corrected(latencies), 0.999), 3),
    }


def _put_stall(
    results: Results,
    command: str,
    base: Loaded,
    pairs: list[tuple[Array, Array]],
    spans: list[tuple[tuple[float, float], tuple[float, float]]],
    report: dict[str, Any],
) -> None:
    during = [_shape(of_snapshot) for of_snapshot, _ in pairs]
    without = [_shape(at_rest) for _, at_rest in pairs]
    stall = statistics.median(shape["p999_ms"] for shape in during)
    say(f"writes during a snapshot: {during}; in the same time without: {without}")
    if report["errors"]:
        say(f"WARNING: {report['errors']} writes failed: {report['first_error']}")
    results.put(
        "storage.snapshot_stall_p999_ms",
        stall,
        "ms, p99.9 of a synced write while a snapshot is taken; median of snapshots",
        command,
        target="<= 100",
        data_set=f"{base.rows} rows, {base.mixture.name}; one writer, {BATCH} records a call",
        during=during,
        the_same_time_without=without,
        snapshot_s=[round(end - start, 2) for _, (start, end) in spans],
        errors=report["errors"],
    )


def _put_restore(
    results: Results, command: str, base: Loaded, restores: list[dict[str, float]]
) -> None:
    seconds = statistics.median(restore["answers_by_graph_s"] for restore in restores)
    results.put(
        "storage.restore_ratio_reload",
        round(seconds / base.seconds, 4),
        "seconds of a restore until a search by graph / of loading the rows until Optimize ends",
        command,
        data_set=f"{base.rows} rows, {base.mixture.name}",
        answers_by_graph_s=[round(restore["answers_by_graph_s"], 2) for restore in restores],
        restored_s=[round(restore["restored_s"], 2) for restore in restores],
        snapshot_at_rest_s=[round(restore["snapshot_s"], 2) for restore in restores],
        snapshot_bytes=int(restores[-1]["bytes"]),
        reload_s=round(base.seconds, 1),
        reload_writes_s=round(base.load_s, 1),
        reload_optimize_s=round(base.optimize_s, 1),
    )
