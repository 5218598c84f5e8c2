"""60 000 images: recall and work of graph searches, before and after a kill, and with filters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from azimuth_db import CollectionStats, VectorField
from datasets import DataSet, dataset_folder, recall
from server_process import ServerProcess

QUERIES = 100
LIMIT = 10


class Loaded:
    """The server that holds the data set."""

    def __init__(self, folder: Path, data: DataSet) -> None:
        self.server = ServerProcess(folder)
        self.base = data.array("base").reshape(60_000, 784)
        self.labels = data.array("base_label").astype(np.int64)
        self.queries = data.array("queries").reshape(-1, 784)[:QUERIES].astype(np.float32)
        self.truth: Any = data.truth("default")[2][:QUERIES]
        self.stats: CollectionStats | None = None

    def check_searches(self) -> None:
        """Unfiltered searches: recall, work and path."""
        with self.server.client() as db:
            found = db.collection("images").search_batch(self.queries, LIMIT, output_fields=[])
        assert {work.path for work in found.work} == {"graph"}
        assert recall(found.distances, self.truth, LIMIT) >= 0.9
        assert np.mean([work.distances_computed for work in found.work]) < 6000


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    data = DataSet(dataset_folder("fashion-mnist"))
    made = Loaded(tmp_path_factory.mktemp("fashion-mnist"), data)
    made.server.start()
    try:
        with made.server.client() as db:
            images = db.create_collection(
                "images", {"image": VectorField(784, "l2")}, {"label": "int64"}
            )
            images.insert(np.arange(60_000), made.base, {"label": made.labels})
            made.stats = images.wait_indexed(timeout=1200)
        yield made
    finally:
        made.server.kill()


def test_fashion_mnist_is_found_by_graph_with_little_work(loaded: Loaded) -> None:
    assert loaded.stats is not None
    assert loaded.stats.row_count == 60_000
    loaded.check_searches()


def test_fashion_mnist_survives_a_kill_without_building_again(loaded: Loaded) -> None:
    with loaded.server.client() as db:
        before = [(s.id, s.state, s.rows) for s in db.collection("images").stats().segments]
    loaded.server.restart(hard=True)
    with loaded.server.client() as db:
        stats = db.collection("images").stats()
        assert (stats.row_count, stats.unindexed_rows) == (60_000, 0)
        assert [(s.id, s.state, s.rows) for s in stats.segments] == before
    loaded.check_searches()


def test_fashion_mnist_filtered_by_label_gives_limit_hits_of_it(loaded: Loaded) -> None:
    with loaded.server.client() as db:
        images = db.collection("images")
        for label in range(10):
            found = images.search_batch(
                loaded.queries, LIMIT, filter="label == $l", params={"l": label}, output_fields=[]
            )
            assert (found.counts == LIMIT).all()
            assert (loaded.labels[found.keys] == label).all()
            assert {work.rows_matching for work in found.work} == {6000}
            of_label = loaded.base[loaded.labels == label].astype(np.float64)
            products = loaded.queries.astype(np.float64) @ of_label.T
            squares = (loaded.queries.astype(np.float64) ** 2).sum(1)[:, np.newaxis]
            true = np.sort(squares + (of_label**2).sum(1) - 2 * products, axis=1)
            assert recall(found.distances, true, LIMIT) >= 0.9
