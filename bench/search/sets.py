"""The sets that searches are measured on: real ones of AZIMUTH_DATASETS, and generated ones."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DataSet
from generated import Array, Mixture, exact
from servers import Bench, say

QUERIES = 1000
TRUTH_DEPTH = 100
TRUTH_QUERIES_AT_ONCE = 100
QUERY_STREAM = 2
QUICK_ROWS = 2000
QUICK_QUERIES = 100
# As recall of tests/integration/datasets.py: what is as near as the last true one counts.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Source:
    """Where a set comes from.

    Attributes:
        metric: "l2" or "cosine".
        about: What it is, in words.
        folder: Of a real set, below AZIMUTH_DATASETS; empty of a generated one.
        truth: The name of its ground truth.
        mixture: Makes a generated one.
        rows: How many a generated one has.
    """

    metric: str
    about: str
    folder: str = ""
    truth: str = "default"
    mixture: Callable[[], Mixture] | None = None
    rows: int = 0


SOURCES = {
    "fashion_mnist": Source("l2", "Fashion-MNIST, 60 000 x 784", "fashion-mnist"),
    "arxiv": Source("cosine", "arXiv abstracts, 50 000 x 256, titles asked", "arxiv", "title"),
    "words": Source("cosine", "word vectors, 108 610 x 100", "words"),
    "sift_photos": Source("l2", "SIFT of photographs, 100 000 x 128", "sift-photos"),
    "gen128": Source(
        "l2", "generated, 1 000 000 x 128", mixture=lambda: Mixture(128), rows=1_000_000
    ),
    "gen768": Source(
        "cosine", "generated, 200 000 x 768", mixture=lambda: Mixture(768), rows=200_000
    ),
}


@dataclass(frozen=True)
class SearchSet:
    """One set as files: rows as they are, and of length 1 where the metric is the cosine.

    Attributes:
        name: Of SOURCES.
        metric: "l2" or "cosine".
        about: What it is, in words.
        folder: Of its files.
        rows: How many.
        dim: Numbers in a row.
    """

    name: str
    metric: str
    about: str
    folder: Path
    rows: int
    dim: int

    @property
    def base(self) -> Path:
        """The rows as they are."""
        return self.folder / "base.npy"

    @property
    def queries(self) -> Path:
        """The queries as they are."""
        return self.folder / "queries.npy"

    @property
    def library_metric(self) -> str:
        """What libraries are told: "l2", or "ip" over rows of length 1."""
        return "l2" if self.metric == "l2" else "ip"

    @property
    def library_base(self) -> Path:
        """The rows for libraries."""
        return self.base if self.metric == "l2" else self.folder / "base_unit.npy"

    @property
    def library_queries(self) -> Path:
        """The queries for libraries."""
        return self.queries if self.metric == "l2" else self.folder / "queries_unit.npy"

    @cached_property
    def _scored(self) -> tuple[Array, Array, Array]:
        truth = np.load(self.folder / "truth.npy")
        return np.load(self.library_base, mmap_mode="r"), np.load(self.library_queries), truth

    def recalls(self, ids: Array) -> Array:
        """Returns the recall of each query, of ids of all queries; -1 is nothing found.

        Whatever a system says of distances, it is judged by the true ones of the rows it found.
        """
        base, queries, truth = self._scored
        limit = ids.shape[1]
        found = np.empty(len(ids))
        for i, (row, query) in enumerate(zip(ids, queries.astype(np.float64))):
            known = np.unique(row[row >= 0])
            distances = ((base[known].astype(np.float64) - query) ** 2).sum(1)
            bound = truth[i, limit - 1] * (1 + TOLERANCE) + TOLERANCE
            found[i] = (distances <= bound).sum() / limit
        return found


def prepare(bench: Bench, name: str) -> SearchSet | None:
    """Returns a set, made unless it is kept; None, with a line, when its data is not there."""
    source = SOURCES[name]
    folder = bench.kept / "sets" / (f"{name}_quick" if bench.quick else name)
    note = folder / "set.json"
    if not note.exists():
        if source.folder and not _data_folder(source).is_dir():
            say(f"SKIPPED: {name} needs {source.folder} in the folder AZIMUTH_DATASETS")
            return None
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shape = _make(source, folder, bench.quick)
        note.write_text(json.dumps({"rows": shape[0], "dim": shape[1]}), encoding="utf-8")
    known: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
    return SearchSet(name, source.metric, source.about, folder, known["rows"], known["dim"])


def _data_folder(source: Source) -> Path:
    return Path(os.environ.get("AZIMUTH_DATASETS", "/nonexistent")) / source.folder


def _make(source: Source, folder: Path, quick: bool) -> tuple[int, ...]:
    given = None
    if source.mixture is None:
        base, queries, given = _real(source)
    else:
        mixture = source.mixture()
        rows = QUICK_ROWS if quick else source.rows
        base = mixture.write(folder / "base.npy", rows)
        queries = mixture.rows(0, QUERIES, QUERY_STREAM)
    if quick:
        base, queries, given = base[:QUICK_ROWS], queries[:QUICK_QUERIES], None
    if source.mixture is None:
        np.save(folder / "base.npy", np.ascontiguousarray(base, np.float32))
    base = np.load(folder / "base.npy", mmap_mode="r")
    queries = np.ascontiguousarray(queries, np.float32)
    np.save(folder / "queries.npy", queries)
    if source.metric == "cosine":
        base, queries = _unit(np.asarray(base)), _unit(queries)
        np.save(folder / "base_unit.npy", base)
        np.save(folder / "queries_unit.npy", queries)
    truth = np.concatenate(
        [
            exact(base, queries[first : first + TRUTH_QUERIES_AT_ONCE], TRUTH_DEPTH)[1]
            for first in range(0, len(queries), TRUTH_QUERIES_AT_ONCE)
        ]
    )
    if given is not None:
        # Squared distances of rows of length 1 are twice the cosine's.
        np.testing.assert_allclose(
            truth / (1 if source.metric == "l2" else 2), given, rtol=1e-4, atol=1e-5
        )
    np.save(folder / "truth.npy", truth)
    shape: tuple[int, ...] = base.shape
    return shape


def _real(source: Source) -> tuple[Array, Array, Array]:
    """Returns rows, queries, and the distances of the set's own ground truth."""
    data = DataSet(_data_folder(source))
    queries_name, ids, distances = data.truth(source.truth)
    base, queries = data.array("base"), data.array(queries_name)
    return (
        base.reshape(len(base), -1),
        queries.reshape(len(queries), -1)[: len(ids)][:QUERIES],
        distances[:QUERIES, :TRUTH_DEPTH],
    )


def _unit(rows: Array) -> Array:
    unit = rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return np.ascontiguousarray(unit, np.float32)
