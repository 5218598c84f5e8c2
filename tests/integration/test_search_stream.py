"""Streams of searches through the client: the same answers, errors in their place."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import azimuth_db
import numpy as np
import numpy.typing as npt
import pytest
from azimuth_db import Client, Collection, VectorField
from server_process import ServerProcess

DIM = 24
ROWS = 3000


def vectors_of(count: int, seed: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, DIM)).astype("f4")


@pytest.fixture
def items(db: Client) -> Collection:
    """A collection with a graph."""
    made = db.create_collection("items", {"v": VectorField(DIM, "l2")}, {"n": "int64"})
    made.insert(np.arange(ROWS), vectors_of(ROWS), {"n": np.arange(ROWS)})
    made.wait_indexed()
    return made


def test_a_stream_answers_as_single_searches_do(items: Collection) -> None:
    queries = vectors_of(200, seed=2)
    with items.search_stream(iter(queries), 10, filter="n < 2000") as stream:
        found = list(stream)
    assert len(found) == len(queries)
    for query, result in zip(queries, found):
        single = items.search(query, 10, filter="n < 2000")
        assert result.keys.tolist() == [single.keys]
        assert [hit.fields for hit in result[0]] == [hit.fields for hit in single]
        assert result.as_of == single.as_of


def test_items_may_be_matrices_of_any_length(items: Collection) -> None:
    queries = vectors_of(1000, seed=3)
    lengths = [1, 400, 2, 300, 97, 200]
    parts = np.split(queries, np.cumsum(lengths)[:-1])
    found = list(items.search_stream(parts, 5, output_fields=[]))
    assert [len(result) for result in found] == lengths
    keys = np.concatenate([result.keys for result in found])
    assert (keys == items.search_batch(queries, 5, output_fields=[]).keys).all()


def test_an_error_of_one_item_is_raised_in_its_place(items: Collection) -> None:
    good = vectors_of(1)[0]
    stream = items.search_stream([good, np.ones(DIM - 1, "f4"), good], 3)
    assert len(next(stream)) == 1
    with pytest.raises(azimuth_db.InvalidArgument, match="multiple of 96"):
        next(stream)
    assert len(next(stream)) == 1
    assert list(stream) == []


def test_what_the_queries_raise_is_raised_after_what_came_before(items: Collection) -> None:
    def queries() -> Iterator[Any]:
        yield vectors_of(1)[0]
        raise KeyError("lost")

    stream = items.search_stream(queries(), 3)
    assert len(next(stream)) == 1
    with pytest.raises(KeyError, match="lost"):
        next(stream)
    assert list(stream) == []
    with pytest.raises(ValueError, match=r"queries\[0\]"):
        next(items.search_stream([np.ones((2, 2, 2))], 3))


def test_errors_that_end_the_stream(db: Client, items: Collection) -> None:
    good = vectors_of(1)[0]
    with pytest.raises(azimuth_db.InvalidArgument, match="1:"):
        next(items.search_stream([good], filter="n = = 1"))
    held = threading.Event()

    def queries() -> Iterator[Any]:
        yield good
        held.wait(30)
        yield good

    with items.search_stream(queries(), 3, timeout=0.5) as stream:
        next(stream)
        with pytest.raises(azimuth_db.DeadlineExceeded, match=r"0\.5 s"):
            next(stream)
    with items.search_stream(queries(), 3) as stream:
        next(stream)
        db.drop_collection("items")
        held.set()
        with pytest.raises(azimuth_db.NotFound, match="items"):
            next(stream)


def test_streams_side_by_side_and_one_that_is_left(items: Collection) -> None:
    queries = vectors_of(300, seed=4)
    wanted = items.search_batch(queries, 5, output_fields=[]).keys
    left = items.search_stream(iter(queries), 5, output_fields=[])
    next(left)

    def search(_: int) -> bool:
        found = list(items.search_stream(iter(queries), 5, output_fields=[]))
        return bool((np.concatenate([result.keys for result in found]) == wanted).all())

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(search, range(12)))
    left.close()
    assert list(left) == []


def test_a_stop_of_the_server_ends_a_stream(server: ServerProcess, items: Collection) -> None:
    ended = threading.Event()

    def queries() -> Iterator[Any]:
        yield vectors_of(1)[0]
        ended.wait(60)

    with items.search_stream(queries(), 3) as stream:
        next(stream)
        assert server.stop() == 0
        with pytest.raises(azimuth_db.Unavailable):
            next(stream)
        ended.set()
