"""How fast a bulk load is, durable and with builds on, beside RocksDB alone; and until all of it is
indexed, beside hnswlib. What it costs on disk.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from azimuth_db import Collection, VectorField
from generated import Array, Mixture
from loaded import FIELD
from results import Results
from server_process import ServerProcess
from servers import Bench, running, say

DIM = 784
BATCH_ROWS = 1000


@dataclass
class Measured:
    """What the repetitions gave, one number of each.

    Attributes:
        raw_first: Rows a second of RocksDB alone, of the rows that stand apart.
        raw: The same, of those after them.
        first: Rows a second of the load, of the rows that stand apart.
        rate: The same, of those after them.
        indexed: Rows a second from the first batch until Optimize ended.
        hnswlib: Rows a second of hnswlib's own build of the same vectors.
        details: Of the last repetition.
    """

    raw_first: list[float] = field(default_factory=list)
    raw: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    indexed: list[float] = field(default_factory=list)
    hnswlib: list[float] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


def raw_writes(bench: Bench, rows: int, apart: int) -> tuple[float, float]:
    """Returns the two rates of RocksDB alone."""
    folder = bench.folder / "raw"
    shutil.rmtree(folder, ignore_errors=True)
    binary = bench.build / "bench/peers/azimuth_raw_writes"
    command = [str(binary), str(folder), str(rows), str(DIM), str(BATCH_ROWS), str(apart)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    shutil.rmtree(folder)
    rates = json.loads(out)
    return rates["first_rows_per_s"], rates["rows_per_s"]


def written_bytes(pid: int) -> int:
    """Returns what a process has had written to disk so far."""
    text = Path(f"/proc/{pid}/io").read_text(encoding="utf-8")
    return int(dict(line.split(": ") for line in text.splitlines())["write_bytes"])


def disk_bytes(folder: Path) -> int:
    """Returns the bytes of all files below a folder, as the disk has them."""
    total = 0
    for root, _, names in os.walk(folder):
        total += sum(os.lstat(os.path.join(root, name)).st_blocks * 512 for name in names)
    return total


class Marks:
    """Batches of the vectors, and when the first rows had been taken."""

    def __init__(self, vectors: Array, apart: int) -> None:
        """Begins when the first batch is asked for."""
        self.vectors, self.apart = vectors, apart
        self.start = self.middle = 0.0

    def batches(self) -> Iterator[dict[str, Any]]:
        """Yields all of them."""
        self.start = time.monotonic()
        for first in range(0, len(self.vectors), BATCH_ROWS):
            if first == self.apart:
                self.middle = time.monotonic()
            end = first + BATCH_ROWS
            yield {"keys": np.arange(first, end), "vectors": {FIELD: self.vectors[first:end]}}


def load(
    server: ServerProcess, collection: Collection, vectors: Array, apart: int, measured: Measured
) -> None:
    """One load and its Optimize."""
    assert server._process is not None
    pid = server._process.pid
    before = written_bytes(pid)
    marks = Marks(vectors, apart)
    done = collection.ingest(marks.batches(), mode="insert")
    end = time.monotonic()
    if done.inserted != len(vectors):
        raise RuntimeError(f"expected {len(vectors)} new rows, got {done}")
    segments = collection.stats().segments
    collection.optimize(timeout=3600.0)
    indexed = time.monotonic()
    raw = vectors.nbytes + 8 * len(vectors)
    measured.first.append(apart / (marks.middle - marks.start))
    measured.rate.append((len(vectors) - apart) / (end - marks.middle))
    measured.indexed.append(len(vectors) / (indexed - marks.start))
    measured.details = {
        "growing_segments_closed_meanwhile": sum(s.state != "growing" for s in segments),
        "segment_files_built_meanwhile": sum(s.state == "sealed" for s in segments),
        "seconds_of_the_load": round(end - marks.start, 2),
        "seconds_of_optimize": round(indexed - end, 1),
        "bytes_written_for_each_raw_byte": round((written_bytes(pid) - before) / raw, 2),
        "rocksdb_bytes_for_each_raw_byte": round(disk_bytes(server.data_dir / "rocks") / raw, 2),
        "disk_bytes_for_each_raw_byte": round(disk_bytes(server.data_dir) / raw, 2),
    }


def logged_rate(bench: Bench, vectors: Array, apart: int) -> float:
    """Returns rows a second of a load, after the first, whose commits all go through the log."""
    folder = bench.folder / "logged"
    binary = str(bench.build / "server/azimuthd")
    server = ServerProcess(folder, "--bulk-commit-kb", str(1 << 22), binary=binary)
    marks = Marks(vectors, apart)
    with running(server) as db:
        collection = db.create_collection("rows", {FIELD: VectorField(DIM, "l2")})
        collection.ingest(marks.batches(), mode="insert")
        rate = (len(vectors) - apart) / (time.monotonic() - marks.middle)
    shutil.rmtree(folder)
    return rate


def hnswlib_rate(bench: Bench, vectors: Array) -> float:
    """Returns rows a second of hnswlib's build."""
    path, index = bench.folder / "vectors.npy", bench.folder / "hnswlib.index"
    np.save(path, vectors)
    binary = bench.build / "bench/peers/azimuth_hnswlib_load_bench"
    command = [str(binary), "build", str(path), str(index)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    path.unlink()
    index.unlink()
    built = json.loads(out)
    return built["rows"] / built["build_s"]


def ingest(
    results: Results, bench: Bench, command: str, rows: int, apart: int, repetitions: int
) -> None:
    """Measures storage.ingest_share_of_rocksdb and storage.indexed_rows_per_s."""
    vectors = np.ascontiguousarray(Mixture(DIM).rows(0, rows))
    measured = Measured()
    loads = os.getloadavg()[0]
    for repetition in range(repetitions):
        raw_first, raw = raw_writes(bench, rows, apart)
        measured.raw_first.append(raw_first)
        measured.raw.append(raw)
        folder = bench.folder / "ingest"
        shutil.rmtree(folder, ignore_errors=True)
        server = bench.server(folder)
        with running(server) as db:
            collection = db.create_collection("rows", {FIELD: VectorField(DIM, "l2")})
            load(server, collection, vectors, apart, measured)
        shutil.rmtree(folder)
        say(
            f"{repetition + 1}: RocksDB {raw:.0f} rows/s, the load {measured.rate[-1]:.0f}, "
            f"indexed {measured.indexed[-1]:.0f}"
        )
    measured.details["rows_per_s_without_row_tables"] = round(logged_rate(bench, vectors, apart))
    measured.hnswlib.append(hnswlib_rate(bench, vectors))
    _put(results, command, measured, rows, apart, loads)


def _put(
    results: Results, command: str, measured: Measured, rows: int, apart: int, loads: float
) -> None:
    shares = [ours / raw for ours, raw in zip(measured.rate, measured.raw)]
    firsts = [ours / raw for ours, raw in zip(measured.first, measured.raw_first)]
    share = statistics.median(shares)
    what = f"{rows} x {DIM} float32, batches of {BATCH_ROWS}, one client, synced, builds on"
    results.put(
        "storage.ingest_share_of_rocksdb",
        round(share, 3),
        "rows a second of a load, to those of RocksDB alone with the same options and syncs",
        command,
        target=">= 0.6",
        met=share >= 0.6,
        data=what,
        without_the_first_rows=apart,
        share_of_each_repetition=[round(value, 3) for value in shares],
        share_of_the_first_rows=round(statistics.median(firsts), 3),
        rows_per_s=round(statistics.median(measured.rate)),
        rows_per_s_of_rocksdb=round(statistics.median(measured.raw)),
        **measured.details,
        load_average_before=round(loads, 2),
    )
    indexed = statistics.median(measured.indexed)
    results.put(
        "storage.indexed_rows_per_s",
        round(indexed),
        "rows a second from the first batch until Optimize ended",
        command,
        data=what,
        of_each_repetition=[round(value) for value in measured.indexed],
        rows_per_s_of_hnswlib_build=round(measured.hnswlib[0]),
        ratio_hnswlib_build=round(indexed / measured.hnswlib[0], 3),
        load_average_before=round(loads, 2),
    )
    say(f"the load has {share:.2f} of the speed of RocksDB alone")
