"""50 000 abstracts: recall of filtered searches at shares from 64 % down to 0.2 % of the rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from azimuth_db import Client, Collection, VectorField
from datasets import DataSet, dataset_folder, recall
from server_process import ServerProcess

LIMIT = 10
FIELDS = {
    "year": "int64",
    "primary_category": "string",
    "num_authors": "int64",
    "created": "string",
}


@pytest.fixture(scope="module")
def data() -> DataSet:
    return DataSet(dataset_folder("arxiv"))


@pytest.fixture(scope="module")
def papers(data: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    server = ServerProcess(tmp_path_factory.mktemp("arxiv")).start()
    try:
        with Client(server.address) as db:
            made = db.create_collection("papers", {"abstract": VectorField(256, "cosine")}, FIELDS)
            docs = data.records("docs")
            columns = {name: [doc.get(name) for doc in docs] for name in FIELDS}
            made.insert(np.arange(50_000), data.array("base"), columns)
            made.wait_indexed(timeout=1200)
            yield made
    finally:
        server.kill()


def filter_of(where: list[dict[str, Any]]) -> tuple[str, dict[str, Any]] | None:
    """Returns the conditions in our language, or None when the core language cannot say them."""
    if any(condition["op"] == "contains" for condition in where):
        return None
    parts = [f"{condition['field']} {condition['op']} $p{i}" for i, condition in enumerate(where)]
    params = {f"p{i}": condition["value"] for i, condition in enumerate(where)}
    return " and ".join(parts), params


@pytest.mark.parametrize("truth", ["abstract", "title"])
def test_arxiv_unfiltered_recall(data: DataSet, papers: Collection, truth: str) -> None:
    queries, _, distances = data.truth(truth)
    found = papers.search_batch(data.array(queries)[:200], LIMIT, output_fields=[])
    assert (found.counts == LIMIT).all()
    assert recall(found.distances, distances[:200], LIMIT) >= 0.9


def test_arxiv_filtered_recall_and_ten_hits_at_every_share(
    data: DataSet, papers: Collection
) -> None:
    asked = 0
    for entry in data.filters():
        written = filter_of(entry["where"])
        if written is None:
            continue
        text, params = written
        queries, _, distances = data.truth(f"filter_{entry['name']}")
        assert papers.count(text, params) == entry["matches"]
        vectors = data.array(queries)[: len(distances)]
        found = papers.search_batch(vectors, LIMIT, filter=text, params=params, output_fields=[])
        assert (found.counts == LIMIT).all(), entry["name"]
        right = recall(found.distances, distances, LIMIT)
        assert right >= 0.9, f"{entry['name']}: recall {right:.3f}"
        asked += 1
    assert asked == 6
