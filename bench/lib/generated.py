"""Generated vectors: a mixture of Gaussians of any length, and exact answers over it.

The clusters are narrow in most directions and wide in a few of their own, and overlap: a walk over
a graph misses some neighbours, as it does on real data.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

CHUNK_ROWS = 10_000


class Mixture:
    """Row i is the same whatever is asked for, and so are rows of another `stream`.

    Attributes:
        dim: Numbers in a row.
        name: What tells it apart from others.
        tag: The same for names of files.
    """

    def __init__(self, dim: int = 128, seed: int = 7, clusters: int = 500, inner: int = 24) -> None:
        """Draws the clusters."""
        self.dim = dim
        self.name = f"mixture of {clusters} Gaussians in {inner} of {dim} dimensions, seed {seed}"
        self.tag = f"{dim}_{zlib.crc32(self.name.encode()):08x}"
        self._seed = seed
        random = np.random.default_rng([seed, 0])
        self._centers = random.standard_normal((clusters, dim), np.float32) * np.float32(0.5)
        self._bases = random.standard_normal((clusters, inner, dim), np.float32) / np.float32(
            np.sqrt(inner)
        )

    def rows(self, first: int, count: int, stream: int = 1) -> Array:
        """Returns rows as float32."""
        end = first + count
        chunks = range(first // CHUNK_ROWS, -(-end // CHUNK_ROWS))
        found = np.concatenate([self._chunk(chunk, stream) for chunk in chunks])
        start = chunks.start * CHUNK_ROWS
        return found[first - start : end - start]

    def write(self, path: Path, count: int) -> Array:
        """Writes the first rows to an .npy file, if it is not there, and returns it mapped."""
        if not path.exists():
            written = path.with_suffix(".tmp")
            shape = (count, self.dim)
            out = np.lib.format.open_memmap(str(written), "w+", dtype=np.float32, shape=shape)
            for first in range(0, count, CHUNK_ROWS):
                part = min(CHUNK_ROWS, count - first)
                out[first : first + part] = self.rows(first, part)
            out.flush()
            written.replace(path)
        mapped: Array = np.load(path, mmap_mode="r")
        return mapped

    def _chunk(self, chunk: int, stream: int) -> Array:
        random = np.random.default_rng([self._seed, stream, chunk])
        clusters = random.integers(len(self._centers), size=CHUNK_ROWS)
        inner = random.standard_normal((CHUNK_ROWS, self._bases.shape[1]), np.float32)
        noise = np.float32(0.1)
        rows = noise * random.standard_normal((CHUNK_ROWS, self.dim), np.float32)
        rows += self._centers[clusters]
        order = np.argsort(clusters, kind="stable")
        ends = np.searchsorted(clusters[order], np.arange(len(self._centers) + 1))
        for cluster, base in enumerate(self._bases):
            members = order[ends[cluster] : ends[cluster + 1]]
            rows[members] += inner[members] @ base
        return rows


def exact(base: Array, queries: Array, k: int) -> tuple[Array, Array]:
    """Returns the row numbers and squared distances of the k nearest rows to each query.

    Products in float32 propose candidates, differences in float64 rank them.
    """
    candidates = k + 20
    wide = queries.astype(np.float64)
    best_rows = np.empty((len(queries), 0), np.int64)
    best = np.empty((len(queries), 0))
    for first in range(0, len(base), 50_000):
        part = np.asarray(base[first : first + 50_000], np.float32)
        near = (part * part).sum(1) - 2 * (queries @ part.T)
        keep = min(candidates, len(part))
        places = np.argpartition(near, keep - 1, axis=1)[:, :keep]
        differences = part[places].astype(np.float64) - wide[:, None, :]
        distances = np.einsum("qcd,qcd->qc", differences, differences)
        best_rows = np.concatenate([best_rows, places + first], axis=1)
        best = np.concatenate([best, distances], axis=1)
        order = np.argsort(best, axis=1, kind="stable")[:, :k]
        best_rows = np.take_along_axis(best_rows, order, 1)
        best = np.take_along_axis(best, order, 1)
    return best_rows, best
