"""Streams of searches against the server of the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import azimuth_db
from azimuth_db import Client, Collection, VectorField

if TYPE_CHECKING:
    from conftest import FakeServer


@pytest.fixture
def items(db: Client) -> Collection:
    return db.create_collection("items", {"image": VectorField(3, "l2")}, {"label": "int64"})


@pytest.fixture
def notes(db: Client) -> Collection:
    """A collection with string keys."""
    return db.create_collection("notes", {"v": VectorField(2, "ip")}, key_type="string")


def grid(n: int) -> Any:
    """Returns n vectors (i, 0, 0)."""
    matrix = np.zeros((n, 3), np.float64)
    matrix[:, 0] = np.arange(n)
    return matrix


def fill(items: Collection, n: int = 10) -> None:
    items.insert(np.arange(n), {"image": grid(n)}, {"label": np.arange(n) * 10})


def test_one_result_for_each_item(items: Collection) -> None:
    fill(items, 3)
    queries = [grid(1)[0], grid(2), grid(3)]
    with items.search_stream(iter(queries), limit=2, field="image") as stream:
        found = list(stream)
    assert [len(result) for result in found] == [1, 2, 3]
    assert [result.keys.tolist() for result in found[:2]] == [[[0, 1]], [[0, 1], [1, 0]]]
    assert found[0].warnings == ("careful",)
    assert found[0][0].hits[0].distance == 0


def test_string_keys(notes: Collection) -> None:
    notes.insert(["a", "b"], np.eye(2))
    (result,) = notes.search_stream([np.eye(2)], limit=3)
    assert result.keys.tolist() == [["a", "b", None], ["b", "a", None]]


def test_an_error_of_one_item_does_not_end_it(items: Collection) -> None:
    fill(items, 3)
    wrong = np.array([-1, 0, 0])
    stream = items.search_stream([grid(1), wrong, grid(1)], limit=1, field="image")
    assert next(stream).keys.tolist() == [[0]]
    with pytest.raises(azimuth_db.InvalidArgument, match="not this one"):
        next(stream)
    assert next(stream).keys.tolist() == [[0]]
    assert list(stream) == []


def test_an_error_of_the_call_ends_it(items: Collection) -> None:
    fill(items, 3)
    gone = np.array([-2, 0, 0])
    stream = items.search_stream([grid(1), gone, grid(1)], limit=1, field="image")
    assert len(next(stream)) == 1
    with pytest.raises(azimuth_db.NotFound, match="it is gone"):
        next(stream)
    assert list(stream) == []


def test_what_is_no_vector_is_named(items: Collection) -> None:
    fill(items, 3)
    stream = items.search_stream([grid(1), "text"], limit=1, field="image")
    assert len(next(stream)) == 1
    with pytest.raises((ValueError, TypeError), match=r"queries\[1\]"):
        next(stream)
    assert list(stream) == []


def test_options_are_checked_before_anything_is_sent(items: Collection, server: FakeServer) -> None:
    with pytest.raises(ValueError, match="limit"):
        items.search_stream([grid(1)], limit=0)
    with pytest.raises(ValueError, match="recall, exact and ef"):
        items.search_stream([grid(1)], exact=True, ef=5)
    assert "SearchBatchRequest" not in server.names()
