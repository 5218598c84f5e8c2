"""Generated vectors and exact answers over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from generated import CHUNK_ROWS, Mixture, exact


def test_a_row_is_the_same_whatever_is_asked_for(tmp_path: Path) -> None:
    mixture = Mixture(dim=16, clusters=5, inner=4)
    whole = mixture.rows(0, CHUNK_ROWS + 50)
    assert whole.dtype == np.float32
    assert whole.shape == (CHUNK_ROWS + 50, 16)
    part = mixture.rows(CHUNK_ROWS - 3, 10)
    np.testing.assert_array_equal(part, whole[CHUNK_ROWS - 3 : CHUNK_ROWS + 7])
    np.testing.assert_array_equal(mixture.write(tmp_path / "rows.npy", len(whole)), whole)
    again = Mixture(dim=16, clusters=5, inner=4)
    np.testing.assert_array_equal(again.rows(0, 10), whole[:10])
    assert again.tag == mixture.tag != Mixture(dim=16, clusters=5, inner=4, seed=8).tag


def test_streams_and_rows_differ() -> None:
    mixture = Mixture(dim=16, clusters=5, inner=4)
    rows = np.concatenate([mixture.rows(0, 100), mixture.rows(0, 100, stream=2)])
    assert len(np.unique(rows, axis=0)) == 200


def test_exact_answers_are_those_of_all_differences() -> None:
    mixture = Mixture(dim=16, clusters=5, inner=4)
    base, queries = mixture.rows(0, 60_000), mixture.rows(0, 5, stream=2)
    rows, distances = exact(base, queries, 10)
    for query, of_query, found in zip(queries, rows, distances):
        differences = ((base.astype(np.float64) - query) ** 2).sum(1)
        np.testing.assert_array_equal(of_query, np.argsort(differences, kind="stable")[:10])
        np.testing.assert_allclose(found, np.sort(differences)[:10], rtol=1e-12)


def test_exact_gives_all_rows_when_there_are_fewer_than_it_looks_at() -> None:
    base = np.array([[0.0], [3.0], [1.0]], np.float32)
    rows, distances = exact(base, np.array([[1.0]], np.float32), 3)
    assert rows.tolist() == [[2, 0, 1]]
    assert distances.tolist() == [[0.0, 1.0, 4.0]]
