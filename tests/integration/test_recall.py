"""Recall as a contract: what is asked for is found, whatever a collection has been through.

8 000 abstracts in one segment and in five, by each quantization: as they were written, with 30 %
of them deleted, with new ones that no graph has yet, and with both. The queries are abstracts, and
titles, which are unlike the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from azimuth_db import Collection, VectorField
from datasets import Array, DataSet, dataset_folder
from server_process import ServerProcess

ROWS = 8000
TAIL = 1000
QUERIES = 300
QUANTIZATIONS = ("auto", "none", "sq8", "sq4", "rabitq4", "pca4")
RECALLS = (0.8, 0.9, 0.95, 0.99)
LIMITS = (1, 10, 100)
# What a recall may lack, besides two standard errors of the queries.
TOLERANCE = 0.005


class Papers:
    """The rows and the queries, all of unit length."""

    def __init__(self, data: DataSet) -> None:
        rows = unit(data.array("base"))
        order = np.random.default_rng(1).permutation(len(rows))[: ROWS + TAIL]
        self.rows = rows[order]
        self.queries = {
            "abstracts": unit(data.array("queries_abstract")[:QUERIES]),
            "titles": unit(data.array("queries_title")[:QUERIES]),
        }
        self.live = np.zeros(ROWS + TAIL, bool)

    def distances(self, queries: Array) -> Array:
        """Returns the distances of each query to the nearest 100 rows that are live, ascending."""
        distances = 1 - queries @ self.rows[self.live].T
        return np.sort(np.partition(distances, max(LIMITS), axis=1)[:, : max(LIMITS)], axis=1)


def unit(vectors: Array) -> Array:
    """Returns the vectors scaled to length 1, as float64."""
    wide = vectors.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


class Loaded:
    """A server with all rows in `segments` segments of one size, which stay as they are."""

    def __init__(self, folder: Path, papers: Papers, segments: int) -> None:
        self.papers = papers
        self.segments = segments
        self.segment_rows = str(ROWS // segments)
        limits = ("--growing-rows-max", self.segment_rows, "--graph-rows-min", self.segment_rows)
        self.server = ServerProcess(folder, *limits, "--segment-rows-max", self.segment_rows)

    def load(self) -> None:
        self.server.start()
        with self.server.client() as db:
            made = db.create_collection(
                "papers",
                {name: VectorField(256, "cosine", quantization=name) for name in QUANTIZATIONS},
            )
            self._insert(made, 0, ROWS)
            stats = made.wait_indexed(timeout=600)
        sealed = [segment for segment in stats.segments if segment.state == "sealed"]
        assert [segment.rows for segment in sealed] == [int(self.segment_rows)] * self.segments
        for segment in sealed:
            chosen = segment.quantization.pop("auto")
            assert chosen in QUANTIZATIONS[2:]
            assert segment.quantization == {name: name for name in QUANTIZATIONS[1:]}
        # From here on nothing is built: rows that come stay without a graph, those that go in it.
        self.server.stop()
        limits = ("--growing-rows-max", "100000", "--graph-rows-min", "100000")
        self.server.options = (*limits, "--segment-rows-max", self.segment_rows)
        self.server.start()

    def _insert(self, into: Collection, begin: int, end: int) -> None:
        for start in range(begin, end, 2000):
            part = slice(start, min(end, start + 2000))
            rows = self.papers.rows[part]
            into.insert(np.arange(part.start, part.stop), dict.fromkeys(QUANTIZATIONS, rows))
        self.papers.live[begin:end] = True

    def add_tail(self, papers: Collection) -> None:
        self._insert(papers, ROWS, ROWS + TAIL)
        assert papers.stats().segments[-1].state == "growing"

    def delete_30_percent(self, papers: Collection) -> None:
        gone = np.random.default_rng(2).permutation(ROWS)[: ROWS * 3 // 10]
        papers.delete(keys=gone)
        self.papers.live[gone] = False
        assert sum(segment.retired_rows for segment in papers.stats().segments) == len(gone)


@pytest.fixture(params=[1, 5], ids=["one segment", "five segments"])
def loaded(tmp_path: Path, request: Any) -> Iterator[Loaded]:
    made = Loaded(tmp_path, Papers(DataSet(dataset_folder("arxiv"))), request.param)
    try:
        made.load()
        yield made
    finally:
        made.server.kill()


def shortfalls(state: str, papers: Papers, collection: Collection) -> list[str]:
    """Searches in every way that there is, and returns where less was found than was asked for."""
    missed = []
    for kind, queries in papers.queries.items():
        nearest = papers.distances(queries)
        for field in QUANTIZATIONS:
            for limit in LIMITS:
                works = []
                for recall in RECALLS:
                    found = collection.search_batch(
                        queries, limit, field=field, recall=recall, output_fields=[]
                    )
                    assert (found.counts == limit).all()
                    hits = found.distances <= nearest[:, limit - 1 : limit] + 1e-5
                    shares = hits.mean(axis=1)
                    got, error = shares.mean(), shares.std() / np.sqrt(len(shares))
                    if got < recall - TOLERANCE - 2 * error:
                        where = f"{state}, {kind}, {field}, limit {limit}"
                        missed.append(f"{where}: {got:.4f} of {recall} (+- {error:.4f})")
                    works.append(np.mean([work.distances_computed for work in found.work]))
                # It is no scan that finds so much, and less is less work.
                assert works[0] <= works[-1]
                few = papers.live.sum() / 2
                assert limit == 100 or state != "whole" or works[0] < few
    return missed


def test_the_recall_that_is_asked_for_is_found(loaded: Loaded) -> None:
    with loaded.server.client() as db:
        papers = db.collection("papers")
        state = "whole"
        missed = shortfalls(state, loaded.papers, papers)
        # One after the other; each of them comes first once.
        steps = [("30 % deleted", loaded.delete_30_percent), ("a tail", loaded.add_tail)]
        for name, step in steps if loaded.segments == 1 else reversed(steps):
            step(papers)
            state += f", {name}"
            missed += shortfalls(state, loaded.papers, papers)
    assert missed == [], "\n".join(missed)
