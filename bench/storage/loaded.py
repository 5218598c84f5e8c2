"""Collections of generated rows that several parts start from, loaded once and copied."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from azimuth_db import Client, Collection, VectorField
from datasets import recall
from generated import Array, Mixture, exact
from results import revision
from servers import TIMEOUT_S, Bench, copy_server, running, say

COLLECTION = "rows"
FIELD = "v"
LIMIT = 10
BATCH_ROWS = 5000
QUERY_STREAM = 2
QUERIES = 1000


@dataclass(frozen=True)
class Loaded:
    """A data directory at rest: `rows` rows of a mixture, key i being row i, optimized.

    Attributes:
        folder: Of its server, which does not run; holds `data`. Copy it, do not change it.
        rows: How many.
        mixture: Where they come from.
        load_s: Seconds that the writes took, from one client.
        optimize_s: Seconds from then until Optimize ended.
        recall: recall@10 at rest by the server's default, of the `queries`.
    """

    folder: Path
    rows: int
    mixture: Mixture
    load_s: float
    optimize_s: float
    recall: float

    @property
    def seconds(self) -> float:
        """Seconds from the first write until all was indexed and merged."""
        return self.load_s + self.optimize_s

    def queries(self) -> Array:
        """Returns vectors that are not in the collection."""
        return self.mixture.rows(0, QUERIES, QUERY_STREAM)

    def copy_to(self, folder: Path) -> None:
        """Makes a copy, in place of what is there."""
        copy_server(self.folder, folder)


def unsealed_rows(collection: Collection) -> int:
    """Returns how many rows are in no segment file."""
    segments = collection.stats().segments
    return sum(segment.rows for segment in segments if segment.state != "sealed")


def write_rows(collection: Collection, base: Array, first_key: int) -> None:
    """Inserts rows in batches, keys from `first_key` on."""
    for start in range(0, len(base), BATCH_ROWS):
        part = np.ascontiguousarray(base[start : start + BATCH_ROWS])
        collection.insert(np.arange(start, start + len(part)) + first_key, {FIELD: part})


def load(bench: Bench, rows: int) -> Loaded:
    """Returns a loaded collection: one that is kept and was made by the same revision, or anew."""
    mixture = Mixture()
    folder = bench.kept / f"loaded_{rows}x{mixture.tag}"
    note = folder / "loaded.json"
    made_from = {"rows": rows, "mixture": mixture.name, "revision": revision()}
    if note.exists():
        kept: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
        if {key: kept.pop(key) for key in made_from} == made_from:
            say(f"{rows} rows: those that are kept in {folder}")
            return Loaded(folder, rows, mixture, **kept)
    shutil.rmtree(folder, ignore_errors=True)
    base = mixture.write(bench.kept / f"rows_{rows}x{mixture.tag}.npy", rows)
    server = bench.server(folder)
    with running(server) as client:
        measured = _load(client, base, Loaded(folder, rows, mixture, 0, 0, 0).queries())
        if server.stop() != 0:
            raise RuntimeError(f"the server did not stop as it should:\n{server.log()}")
    note.write_text(json.dumps({**made_from, **measured}) + "\n", encoding="utf-8")
    return Loaded(folder, rows, mixture, **measured)


def _load(client: Client, base: Array, queries: Array) -> dict[str, float]:
    collection = client.create_collection(COLLECTION, {FIELD: VectorField(base.shape[1], "l2")})
    start = time.monotonic()
    write_rows(collection, base, 0)
    written = time.monotonic()
    collection.optimize(timeout=TIMEOUT_S)
    ended = time.monotonic()
    stats = collection.stats()
    if stats.row_count != len(base) or stats.unindexed_rows != 0:
        raise RuntimeError(f"expected {len(base)} rows, all indexed, and found {stats}")
    _, truth = exact(base, queries, LIMIT)
    found = collection.search_batch(queries, LIMIT, output_fields=[])
    at_rest = recall(found.distances, truth, LIMIT)
    say(
        f"{len(base)} rows loaded in {written - start:.1f} s, optimized in {ended - written:.1f} s "
        f"to {len(stats.segments)} segment(s), recall {at_rest:.4f}"
    )
    return {"load_s": written - start, "optimize_s": ended - written, "recall": at_rest}
