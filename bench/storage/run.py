#!/usr/bin/env python3
# targets: azimuthd azimuth_group_commit_bench azimuth_load azimuth_hnswlib_load_bench
# targets: azimuth_raw_writes
"""What storage costs and saves: `./dev bench storage`; figures go to bench/results/storage.json.

- group_commit: how much more small synced writes 32 writers get than one.
- recall: what is left of recall@10 after generations of replaced records and merges, against a
  collection that is freshly loaded with the same records.
- ingest: how fast a bulk load is beside RocksDB alone, and until all is indexed beside hnswlib.
- restart: how long a killed server of a million rows takes to its first right answer.
- under_ingest: what searches take while rows come in.
- snapshot: what a snapshot costs writers, and a restore beside a load.

All write to a folder on a real disk: AZIMUTH_BENCH_DIR, or else the build folder.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from azimuth_db import Collection, VectorField

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "bench/lib"), str(ROOT / "tests/integration")]

from datasets import DataSet, recall  # noqa: E402
from ingest import ingest  # noqa: E402
from loaded import Loaded, load  # noqa: E402
from restart import restart  # noqa: E402
from results import Results  # noqa: E402
from server_process import ServerProcess  # noqa: E402
from servers import Bench, say  # noqa: E402
from snapshot import snapshot  # noqa: E402
from under_ingest import under_ingest  # noqa: E402

COMMAND = "./dev bench storage"
PARTS = ("group_commit", "recall", "ingest", "restart", "under_ingest", "snapshot")
WRITERS = (1, 8, 32)
SEED = 20
LIMIT = 10
EF = 64
REPLACED_SHARE = 0.02
TIMEOUT_S = 3600.0

Array = npt.NDArray[Any]


# Group commit.


def measure_group_commit(binary: Path, folder: Path, repetitions: int) -> dict[str, list[float]]:
    """Returns calls a second by benchmark name, one number per repetition."""
    out = folder / "group_commit.json"
    command = [str(binary), f"--benchmark_out={out}", "--benchmark_out_format=json"]
    command += [f"--benchmark_repetitions={repetitions}"]
    command += ["--benchmark_enable_random_interleaving=true"]
    subprocess.run(command, check=True, env={**os.environ, "AZIMUTH_BENCH_DIR": str(folder)})
    rates: dict[str, list[float]] = {}
    for run in json.loads(out.read_text(encoding="utf-8"))["benchmarks"]:
        if run.get("error_occurred"):
            raise RuntimeError(f"{run['name']}: {run['error_message']}")
        if run["run_type"] == "iteration":
            name = run["run_name"].split("/")[0]
            key = f"{name}/{run['threads']}" if name == "BM_Upsert" else name
            rates.setdefault(key, []).append(run["items_per_second"])
    return rates


def group_commit(results: Results, build: Path, folder: Path, quick: bool) -> None:
    """Measures storage.group_commit_gain_32_writers."""
    load = os.getloadavg()[0]
    binary = build / "bench/azimuth_group_commit_bench"
    rates = measure_group_commit(binary, folder, 1 if quick else 5)
    median = {name: statistics.median(of_name) for name, of_name in rates.items()}
    gain = median["BM_Upsert/32"] / median["BM_Upsert/1"]
    results.put(
        "storage.group_commit_gain_32_writers",
        round(gain, 2),
        "ratio of writes a second, 32 writers to 1",
        f"{COMMAND} --part group_commit",
        target=">= 8",
        writes_per_second={str(n): round(median[f"BM_Upsert/{n}"]) for n in WRITERS},
        syncs_per_second_of_the_disk=round(median["BM_Sync"]),
        repetitions=len(rates["BM_Upsert/1"]),
        load_average_before=round(load, 2),
    )
    say(f"group commit: 32 writers get {gain:.2f} times the writes of one")
    if gain > max(WRITERS):
        say("WARNING: sharing cannot give that much: the machine was busy; measure again")


# Recall over generations.


class Generations:
    """Records whose vectors change: key k has the row `of_key[k]` of `base`; `pool` is the rest."""

    def __init__(self, base: Array, rows: int) -> None:
        self.base = base
        self.random = np.random.default_rng(SEED)
        order = self.random.permutation(len(base))
        self.of_key, self.pool = order[:rows].copy(), order[rows:].copy()

    def load(self, collection: Collection) -> None:
        """Writes all records in random order, and optimizes to one segment."""
        keys = self.random.permutation(len(self.of_key))
        for part in np.array_split(keys, max(1, len(keys) // 5000)):
            collection.upsert(part, self.base[self.of_key[part]])
        optimize_to_one(collection, len(self.of_key))

    def replace_some(self, collection: Collection) -> tuple[float, float]:
        """One generation; returns the seconds of its writes and of its merge."""
        count = int(len(self.of_key) * REPLACED_SHARE)
        keys = self.random.choice(len(self.of_key), count, replace=False)
        places = self.random.choice(len(self.pool), count, replace=False)
        self.of_key[keys], self.pool[places] = self.pool[places], self.of_key[keys]
        start = time.monotonic()
        collection.upsert(keys, self.base[self.of_key[keys]])
        written = time.monotonic()
        optimize_to_one(collection, len(self.of_key))
        return written - start, time.monotonic() - written


def optimize_to_one(collection: Collection, rows: int) -> None:
    """Optimizes; RuntimeError unless that leaves one segment with `rows` live rows."""
    collection.optimize(timeout=TIMEOUT_S)
    stats = collection.stats()
    if stats.row_count != rows or stats.unindexed_rows != 0 or len(stats.segments) != 1:
        raise RuntimeError(f"expected {rows} rows in one segment file, got {stats}")


def recall_of(collection: Collection, queries: Array) -> float:
    """Returns recall@10 at ef 64 against an exact search of the same collection."""
    exact = collection.search_batch(queries, LIMIT, exact=True, output_fields=[])
    found = collection.search_batch(queries, LIMIT, ef=EF, output_fields=[])
    paths = {work.path for work in found.work}
    if paths != {"graph"}:
        raise RuntimeError(f"expected searches by graph, got {paths}")
    return recall(found.distances, exact.distances, LIMIT)


def measure_recall(
    server: ServerProcess, data: Generations, queries: Array, generations: int
) -> dict[str, Any]:
    """Returns the recalls and times of an aged and of a fresh collection."""
    writes, merges = [], []
    recalls: dict[str, float] = {}
    vectors = {"image": VectorField(data.base.shape[1], "l2")}
    with server.client(timeout=TIMEOUT_S) as db:
        aged = db.create_collection("aged", vectors)
        start = time.monotonic()
        data.load(aged)
        loaded = time.monotonic() - start
        recalls["0"] = recall_of(aged, queries)
        say(f"loaded {len(data.of_key)} records in {loaded:.1f} s, recall {recalls['0']:.4f}")
        for generation in range(1, generations + 1):
            write, merge = data.replace_some(aged)
            writes.append(write)
            merges.append(merge)
            if generation % 10 == 0 or generation == generations:
                recalls[str(generation)] = recall_of(aged, queries)
                say(
                    f"generation {generation}: {statistics.mean(merges[-10:]):.2f} s a merge, "
                    f"recall {recalls[str(generation)]:.4f}"
                )
        db.drop_collection("aged")
        fresh = db.create_collection("fresh", vectors)
        data.load(fresh)
        fresh_recall = recall_of(fresh, queries)
        say(f"freshly loaded: recall {fresh_recall:.4f}")
    return {
        "recall_aged": round(recalls[str(generations)], 4),
        "recall_fresh": round(fresh_recall, 4),
        "recall_after_generations": {of: round(value, 4) for of, value in recalls.items()},
        "seconds_per_generation_mean": round(statistics.mean(writes) + statistics.mean(merges), 3),
        "seconds_of_its_merge_mean": round(statistics.mean(merges), 3),
        "seconds_to_load_and_optimize": round(loaded, 1),
    }


def recall_over_generations(
    results: Results, build: Path, folder: Path, rows: int, generations: int
) -> None:
    """Measures storage.recall_loss_50_generations (another name for another number of them)."""
    root = os.environ.get("AZIMUTH_DATASETS")
    if not root or not (Path(root) / "fashion-mnist").is_dir():
        say("SKIPPED: recall needs the data set fashion-mnist in the folder AZIMUTH_DATASETS")
        return
    source = DataSet(Path(root) / "fashion-mnist")
    base = source.array("base").reshape(60_000, 784)
    queries = source.array("queries").reshape(-1, 784)[:1000].astype(np.float32)
    if not 1000 <= rows <= len(base) - rows * REPLACED_SHARE:
        raise ValueError(f"--rows {rows}: expected 1000 to {int(len(base) / (1 + REPLACED_SHARE))}")
    load = os.getloadavg()[0]
    server = ServerProcess(folder, binary=str(build / "server/azimuthd"))
    server.start()
    try:
        measured = measure_recall(server, Generations(base, rows), queries, generations)
    finally:
        server.kill()
    loss = measured["recall_fresh"] - measured["recall_aged"]
    results.put(
        f"storage.recall_loss_{generations}_generations",
        round(loss, 4),
        f"recall@{LIMIT} at ef {EF}, fresh less aged",
        f"{COMMAND} --part recall --rows {rows} --generations {generations}",
        target="<= 0.01",
        **measured,
        data_set=f"fashion-mnist, {rows} records, {len(queries)} queries",
        replaced_share_per_generation=REPLACED_SHARE,
        load_average_before=round(load, 2),
    )
    say(f"recall: {loss:+.4f} lost over {generations} generations")


# Parts that start from a loaded collection.


def run_loaded_parts(results: Results, bench: Bench, parts: Sequence[str]) -> None:
    """Runs restart, snapshot and under_ingest, as far as they are among `parts`."""
    repetitions = 1 if bench.quick else 3
    large: Loaded | None = None
    if "restart" in parts or "snapshot" in parts:
        large = load(bench, 40_000 if bench.quick else 1_000_000)
    if "restart" in parts and large is not None:
        command = f"{COMMAND} --part restart"
        more = 9_000 if bench.quick else 50_000
        restart(results, bench, large, command, more, repetitions)
        results.save()
    if "snapshot" in parts and large is not None:
        snapshot(results, bench, large, f"{COMMAND} --part snapshot", repetitions)
        results.save()
    if "under_ingest" in parts:
        under_ingest(
            results,
            bench,
            load(bench, 20_000 if bench.quick else 200_000),
            f"{COMMAND} --part under_ingest",
            seconds=3.0 if bench.quick else 30.0,
            repetitions=repetitions,
            docs=bench.folder if bench.quick else ROOT / "docs",
        )
        results.save()


def read_parts(text: str) -> list[str]:
    """Returns the parts of a list with commas. argparse says what is wrong with it."""
    parts = text.split(",")
    for part in parts:
        if part not in PARTS:
            allowed = ", ".join(PARTS)
            raise argparse.ArgumentTypeError(f"there is no part {part!r}; there are {allowed}")
    return parts


def main(arguments: Sequence[str]) -> int:
    """Runs the parts and writes the figures after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--part", type=read_parts, action="extend", help=f"only these, of {','.join(PARTS)}"
    )
    parser.add_argument(
        "--rows", type=int, default=50_000, help="records of the part recall (default: 50000)"
    )
    parser.add_argument(
        "--generations", type=int, default=50, help="of the part recall (default: 50)"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small numbers, one repetition; keeps no figures unless --out",
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="keep loaded data and indexes there, and take those of the same revision from there",
    )
    parser.add_argument("--build", type=Path, default=ROOT / "build/release", help="build folder")
    parser.add_argument("--out", type=Path, help="default: bench/results/storage.json")
    options = parser.parse_args(arguments)
    parent = Path(os.environ.get("AZIMUTH_BENCH_DIR") or options.build)
    if options.generations < 1:
        parser.error(f"--generations {options.generations}: expected at least 1")
    with tempfile.TemporaryDirectory(prefix="bench_storage_", dir=parent) as made:
        folder = Path(made)
        if options.quick:
            options.rows, options.generations = 3000, 2
            options.out = options.out or folder / "storage.json"
        results = Results(options.out or ROOT / "bench/results/storage.json")
        parts = options.part or PARTS
        if "group_commit" in parts:
            group_commit(results, options.build, folder, options.quick)
            results.save()
        if "recall" in parts:
            recall_over_generations(
                results, options.build, folder, options.rows, options.generations
            )
            results.save()
        kept = options.keep or folder
        kept.mkdir(parents=True, exist_ok=True)
        bench = Bench(options.build, folder, kept, options.quick)
        if "ingest" in parts:
            sizes = (12_000, 4_000, 1) if options.quick else (300_000, 100_000, 5)
            ingest(results, bench, f"{COMMAND} --part ingest", *sizes)
            results.save()
        run_loaded_parts(results, bench, parts)
        print(results.path.read_text(encoding="utf-8"), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
