"""How long a killed server takes until it answers, and until it answers as fast as before.

One million rows at rest and 50 000 that no segment file holds yet, killed, nothing in the page
cache. Each repetition starts on a copy of the same killed directory.
"""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import page_cache
from azimuth_db import AzimuthError, Client, Collection
from datasets import recall
from generated import Array, exact
from load import Load, brief, percentile, settled_after, windows
from loaded import COLLECTION, FIELD, LIMIT, Loaded, unsealed_rows, write_rows
from results import Results
from server_process import ServerProcess
from servers import TIMEOUT_S, Bench, copy_server, running, say

POLL_S = 0.001
GIVE_UP_S = 600.0
# What the sample of queries may lack of the recall at rest, all rows there.
RECALL_TOLERANCE = 0.01
# hnswlib at the width that the server takes by default.
PEER_EF = 64
STEADY_FACTOR = 1.2
STEADY_LAST_S = 10


@dataclass(frozen=True)
class Killed:
    """A directory as a kill left it, and what its first answers have to be.

    Attributes:
        folder: Of its server.
        unsealed: Rows without a segment file at the kill, by Stats just before it.
        queries: All of them.
        probes: The numbers of those whose nearest row is one of the unsealed; a right answer to
            one of them is waited for.
        truth: Rows and distances of the exact answers over all rows.
        first_unsealed: Keys from here on are of the unsealed rows.
        recall: What the answers have to reach on average.
    """

    folder: Path
    unsealed: int
    queries: Array
    probes: list[int]
    truth: tuple[Array, Array]
    first_unsealed: int
    recall: float

    def is_right(self, collection: Collection, probe: int) -> bool:
        """Asks a probe and returns whether the answer is right.

        That is, the nearest row and as many of the others as `recall` is in whole rows.
        """
        rows, distances = self.truth
        hits = collection.search(self.queries[probe], LIMIT, field=FIELD, output_fields=[])
        if len(hits) < LIMIT or hits[0].key != rows[probe][0]:
            return False
        found = np.array([[hit.distance for hit in hits]])
        of_ten = recall(found, distances[probe : probe + 1], LIMIT)
        return of_ten >= int(self.recall * LIMIT) / LIMIT

    def recall_of_all(self, collection: Collection) -> float:
        """Returns recall@10 of all queries; 0 if one whose nearest row is unsealed missed it."""
        rows, distances = self.truth
        found = collection.search_batch(self.queries, LIMIT, field=FIELD, output_fields=[])
        of_unsealed = rows[:, 0] >= self.first_unsealed
        if not (found.keys[of_unsealed, 0] == rows[of_unsealed, 0]).all():
            return 0.0
        return recall(found.distances, distances, LIMIT)


def make_killed(bench: Bench, base: Loaded, more: int) -> tuple[Killed, Path]:
    """Adds rows to a copy of `base` and kills its server; returns it and a file of all rows."""
    rows_path = bench.kept / f"rows_{base.rows + more}x{base.mixture.tag}.npy"
    rows = base.mixture.write(rows_path, base.rows + more)
    queries = base.queries()
    truth = exact(rows, queries, LIMIT)
    probes = np.flatnonzero(truth[0][:, 0] >= base.rows).tolist()
    if not probes:
        raise RuntimeError(f"the nearest row of none of {len(queries)} queries is unsealed")
    folder = bench.folder / "killed"
    base.copy_to(folder)
    server = bench.server(folder)
    added = np.array(rows[base.rows :])
    with running(server) as client:
        collection = client.collection(COLLECTION)
        collection.stats()
        write_rows(collection, added, base.rows)
        unsealed = unsealed_rows(collection)
        server.kill()
    say(f"killed with {unsealed} of {more} rows unsealed")
    if unsealed < more // 2:
        raise RuntimeError(f"only {unsealed} of {more} rows were unsealed at the kill")
    killed = Killed(
        folder, unsealed, queries, probes, truth, base.rows, base.recall - RECALL_TOLERANCE
    )
    return killed, rows_path


@dataclass(frozen=True)
class Start:
    """One start of a killed server. Seconds from exec."""

    launched: float  # time.monotonic()
    listens_s: float
    first_answer_s: float
    all_answers_s: float  # Once all queries were answered as well.
    recall: float
    unsealed: int  # Just after.


def start_and_wait(server: ServerProcess, killed: Killed) -> Start:
    """Starts a server and polls it until it answers as it has to."""
    port_file = server.folder / "port"
    port_file.unlink(missing_ok=True)
    launched = time.monotonic()
    server.launch()
    while not port_file.exists():
        if server.exit_code() is not None or time.monotonic() - launched > GIVE_UP_S:
            raise RuntimeError(f"the server does not start:\n{server.log()}")
        time.sleep(POLL_S)
    listens = time.monotonic() - launched
    with Client(port_file.read_text().strip(), timeout=TIMEOUT_S, retries=0) as client:
        collection = client.collection(COLLECTION)
        probes = itertools.cycle(killed.probes)
        while not _right(killed, collection, next(probes)):
            if time.monotonic() - launched > GIVE_UP_S:
                raise RuntimeError(f"after {GIVE_UP_S:g} s there is no right answer")
            time.sleep(POLL_S)
        answered = time.monotonic() - launched
        found = killed.recall_of_all(collection)
        all_answered = time.monotonic() - launched
        unsealed = unsealed_rows(collection)
    if found < killed.recall:
        raise RuntimeError(f"after a right answer recall is {found}, expected {killed.recall}")
    return Start(launched, listens, answered, all_answered, found, unsealed)


def _right(killed: Killed, collection: Collection, probe: int) -> bool:
    try:
        return killed.is_right(collection, probe)
    except AzimuthError:
        return False


def measure_steady(
    bench: Bench, server: ServerProcess, start: Start, queries: Path, seconds: float
) -> dict[str, Any]:
    """Searches one at a time; returns when p99 was as it is in the end, and what it was.

    The end are the last seconds of the time; `at_rest` is what comes after an Optimize, for it may
    be that merges are not done by then.
    """
    address = (server.folder / "port").read_text().strip()
    options: dict[str, Any] = {"address": address, "collection": COLLECTION, "field": FIELD}
    options |= {"vectors": queries, "closed_loop": 1}
    load = Load(bench.build, **options, seconds=seconds, samples=bench.folder / "steady.samples")
    changes = _watch(address, start.launched, seconds)
    report = load.wait()
    samples = load.samples()
    begin = float(samples[0, 0])
    p99 = windows(samples, begin, seconds, 0.99)
    last = samples[samples[:, 0] >= begin + seconds - min(STEADY_LAST_S, seconds / 2)]
    final = percentile(last[:, 2], 0.99)
    settled = settled_after(p99, STEADY_FACTOR * final)
    return {
        "steady_s": None if settled is None else round(begin + settled - start.launched, 2),
        "first_window_begins_s": round(begin - start.launched, 2),
        "final_p99_ms": round(final, 3),
        "final_p50_ms": round(percentile(last[:, 2], 0.5), 3),
        "p99_ms_by_second": [round(value, 2) for value in p99],
        "segments_and_unsealed_rows": changes,
        "errors": report["errors"],
        "left_for_optimize": _optimize(address),
        "at_rest": brief(Load(bench.build, **options, seconds=STEADY_LAST_S).wait()),
    }


def _watch(address: str, launched: float, seconds: float) -> list[dict[str, float]]:
    """Returns when after exec there were how many unsealed rows and segments, at each change."""
    end = time.monotonic() + seconds
    changes: list[dict[str, float]] = []
    with Client(address, timeout=TIMEOUT_S) as client:
        collection = client.collection(COLLECTION)
        while time.monotonic() < end:
            segments = len(collection.stats().segments)
            seen = {"unsealed": unsealed_rows(collection), "segments": segments}
            if not changes or {**changes[-1], **seen} != changes[-1]:
                changes.append({"after_s": round(time.monotonic() - launched, 1), **seen})
            time.sleep(0.5)
    return changes


def _optimize(address: str) -> dict[str, float]:
    """Returns the seconds of what was left to do, and the segments before and after."""
    with Client(address, timeout=TIMEOUT_S) as client:
        collection = client.collection(COLLECTION)
        before = len(collection.stats().segments)
        start = time.monotonic()
        collection.optimize(timeout=TIMEOUT_S)
        seconds = round(time.monotonic() - start, 2)
        after = len(collection.stats().segments)
    return {"seconds": seconds, "segments_before": before, "segments_after": after}


class Peer:
    """hnswlib with the same rows: an index in a file, built once."""

    def __init__(self, bench: Bench, rows_path: Path) -> None:
        """Builds the index if it is not kept."""
        self._binary = bench.build / "bench/peers/azimuth_hnswlib_load_bench"
        self._index = rows_path.with_suffix(".hnswlib")
        if not self._index.exists():
            written = self._index.with_suffix(".tmp")
            command = [str(self._binary), "build", str(rows_path), str(written)]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            written.replace(self._index)
            say(f"hnswlib: {out.strip()}")

    def start(self, killed: Killed, queries: Path) -> dict[str, float]:
        """Loads the index from a cold cache; returns seconds from exec, and the recall."""
        cold = page_cache.drop(self._index)
        command = [str(self._binary), "load", str(self._index), str(queries), str(LIMIT)]
        launched = time.monotonic()
        with subprocess.Popen([*command, str(PEER_EF)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            first = process.stdout.read(1)
            answered = time.monotonic() - launched
            out = json.loads(first + process.stdout.read())
        rows, distances = killed.truth
        labels = np.array(out["labels"])
        hits = (labels[:, :, None] == rows[:, None, :]).any(2).sum()
        return {
            "first_answer_s": answered,
            "load_s": out["load_s"],
            "recall": float(hits / distances.size),
            "resident_bytes": cold["resident_bytes"],
        }


def restart(
    results: Results, bench: Bench, base: Loaded, command: str, more: int, repetitions: int
) -> None:
    """Measures the three figures storage.restart_*."""
    steady_s = 8 if bench.quick else 120
    killed, rows_path = make_killed(bench, base, more)
    queries = bench.folder / "queries.npy"
    np.save(queries, killed.queries)
    peer = Peer(bench, rows_path)
    starts: list[Start] = []
    colds: list[dict[str, Any]] = []
    peers: list[dict[str, float]] = []
    steady: dict[str, Any] = {}
    for repetition in range(repetitions):
        folder = bench.folder / "restarted"
        copy_server(killed.folder, folder)
        server = bench.server(folder)
        colds.append(page_cache.drop(folder, Path(server.binary)))
        try:
            starts.append(start_and_wait(server, killed))
            if repetition == repetitions - 1:
                steady = measure_steady(bench, server, starts[-1], queries, steady_s)
        finally:
            server.kill()
        peers.append(peer.start(killed, queries))
        say(
            f"first right answer {starts[-1].first_answer_s:.2f} s after exec (listens after "
            f"{starts[-1].listens_s:.2f} s), hnswlib {peers[-1]['first_answer_s']:.2f} s; "
            f"{colds[-1]['resident_bytes'] >> 20} of {colds[-1]['bytes'] >> 20} MiB were still in "
            f"memory ({colds[-1]['method']})"
        )
    say(f"steady: {steady}")
    _put(results, command, base, killed, starts, colds, peers, steady)


def _put(
    results: Results,
    command: str,
    base: Loaded,
    killed: Killed,
    starts: list[Start],
    colds: list[dict[str, Any]],
    peers: list[dict[str, float]],
    steady: dict[str, Any],
) -> None:
    first = statistics.median(start.first_answer_s for start in starts)
    of_peer = statistics.median(peer["first_answer_s"] for peer in peers)
    about = {
        "data_set": f"{base.rows} rows at rest and {len(starts)} x {killed.unsealed} unsealed, "
        f"{base.mixture.name}, l2",
        "unsealed_at_the_kill": killed.unsealed,
    }
    results.put(
        "storage.restart_first_answer_s",
        round(first, 3),
        "s from exec to the first right answer, nothing in the page cache; median",
        command,
        target="<= 1.5",
        **about,
        first_answer_s=[round(start.first_answer_s, 3) for start in starts],
        listens_s=[round(start.listens_s, 3) for start in starts],
        all_answers_s=[round(start.all_answers_s, 3) for start in starts],
        recall_after=[round(start.recall, 4) for start in starts],
        recall_expected=round(killed.recall, 4),
        unsealed_after_the_answer=[start.unsealed for start in starts],
        page_cache=colds,
    )
    if steady["steady_s"] is not None:
        results.put(
            "storage.restart_steady_p99_s",
            steady["steady_s"],
            f"s from exec until p99 of a second is within {STEADY_FACTOR} x its final value",
            command,
            target="<= 10",
            **about,
            **steady,
        )
    else:
        say("WARNING: p99 never came to rest: storage.restart_steady_p99_s is not kept")
    results.put(
        "storage.restart_ratio_hnswlib_load",
        round(first / of_peer, 3),
        "our first answer / hnswlib's (loads its file, answers), each from exec; medians",
        command,
        **about,
        hnswlib_first_answer_s=[round(peer["first_answer_s"], 3) for peer in peers],
        hnswlib_load_s=[round(peer["load_s"], 3) for peer in peers],
        hnswlib_recall=round(peers[-1]["recall"], 4),
        hnswlib=f"M 16, efConstruction 200, ef {PEER_EF}, -O3 -march=native, all rows",
        hnswlib_resident_bytes=[int(peer["resident_bytes"]) for peer in peers],
    )
