"""Searches against brute force: distances, order, filters, batches, deleted and replaced rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import reference
from azimuth_db import Client, Collection, VectorField
from server_process import TINY_SEGMENTS

METRICS = ("l2", "ip", "cosine")
DIM = 24


def vectors_of(count: int, seed: int = 1) -> npt.NDArray[np.float32]:
    """Clustered rather than uniform, so that graphs have something to walk along."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(32, DIM))
    return (centres[rng.integers(0, 32, count)] + rng.normal(size=(count, DIM))).astype("f4")


def scores_of(distances: npt.NDArray[Any], metric: str) -> npt.NDArray[Any]:
    return 1 - distances if metric == "cosine" else -distances


def sealed(db: Client, count: int, metric: str = "l2") -> tuple[Collection, npt.NDArray[Any]]:
    """A collection whose rows are all in segments with graphs; `pick` is a permutation of keys."""
    items = db.create_collection("items", {"v": VectorField(DIM, metric)}, {"pick": "int64"})
    base = vectors_of(count)
    pick = np.random.default_rng(7).permutation(count)
    items.insert(np.arange(count), base, {"pick": pick})
    items.wait_indexed()
    return items, base


@pytest.mark.parametrize("metric", METRICS)
def test_exact_searches_are_those_of_numpy(db: Client, metric: str) -> None:
    items, base = sealed(db, 3000, metric)
    queries = vectors_of(40, seed=2)
    keys, distances = reference.nearest(base, np.arange(3000), queries, 10, metric)
    found = items.search_batch(queries, 10, exact=True)
    assert (found.counts == 10).all()
    assert {work.path for work in found.work} == {"scan"}
    scale = np.abs(distances).max()
    np.testing.assert_allclose(found.distances, distances, rtol=1e-4, atol=1e-6 * scale)
    np.testing.assert_allclose(
        found.scores, scores_of(distances, metric), rtol=1e-4, atol=1e-6 * scale
    )
    # Of neighbours that float32 cannot tell apart either order is right.
    assert (found.keys == keys).mean() > 0.99


@pytest.mark.parametrize("metric", METRICS)
def test_graph_searches_find_nearly_all_and_say_what_they_did(db: Client, metric: str) -> None:
    items, base = sealed(db, 6000, metric)
    queries = vectors_of(100, seed=2)
    _, distances = reference.nearest(base, np.arange(6000), queries, 10, metric)
    found = items.search_batch(queries, 10)
    assert {work.path for work in found.work} == {"graph"}
    assert np.mean([work.distances_computed for work in found.work]) < 3000
    wide = items.search_batch(queries, 10, ef=64)
    assert (wide.distances <= distances[:, 9:] + 1e-4).mean() >= 0.95
    # By a recall of 0.95 less may be found: the clusters of the queries are not those of the rows.
    assert (found.distances <= distances[:, 9:] + 1e-4).mean() >= 0.9
    assert (np.diff(found.distances, axis=1) >= 0).all()
    true = reference.distances(base, queries, metric)
    of_found = np.take_along_axis(true, found.keys, axis=1)
    np.testing.assert_allclose(found.distances, of_found, rtol=1e-4, atol=1e-5)


def test_ties_are_in_order_of_key_across_segments(server_factory: Any) -> None:
    with server_factory(*TINY_SEGMENTS).client() as db:
        items = db.create_collection("items", {"v": VectorField(2, "l2")})
        order = np.random.default_rng(3).permutation(1000)
        for part in np.array_split(order, 10):
            items.insert(part, np.ones((len(part), 2)))
        assert items.search([1, 1], 25, exact=True).keys == list(range(25))
        items.wait_indexed()
        found = items.search([1, 1], 25, exact=True)
        assert found.keys == list(range(25))
        assert [hit.distance for hit in found] == [0] * 25
        assert items.search([0, 1], 1000, exact=True).keys == list(range(1000))


SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.6, 0.9)


def test_filtered_searches_return_limit_hits_whenever_that_many_match(db: Client) -> None:
    count = 20_000
    items, base = sealed(db, count)
    pick = np.random.default_rng(7).permutation(count)
    queries = vectors_of(20, seed=2)
    paths = set()
    for share in SHARES:
        below = int(count * share)
        matching = np.flatnonzero(pick < below)
        _, distances = reference.nearest(base[matching], matching, queries, 10, "l2")
        for exact in (False, True):
            found = items.search_batch(
                queries, 10, filter="pick < $p", params={"p": below}, exact=exact
            )
            assert (found.counts == min(10, below)).all(), f"share {share}, exact {exact}"
            assert (pick[found.keys] < below).all()
            assert all(work.complete for work in found.work)
            assert {work.rows_matching for work in found.work} == {below}
            right = (found.distances <= distances[:, 9:] * (1 + 1e-4)).mean()
            assert right == 1 if exact else right >= 0.9, f"share {share}: {right}"
            paths |= {work.path for work in found.work}
    # Few matches are scanned, many are found by walking.
    assert {"scan", "graph"} <= paths


def test_a_filter_that_few_rows_pass_returns_all_of_them(db: Client) -> None:
    items, _ = sealed(db, 5000)
    for below in (0, 1, 7):
        found = items.search(np.zeros(DIM), 10, filter="pick < $p", params={"p": below})
        assert len(found) == below
        assert sorted(hit.fields["pick"] for hit in found) == list(range(below))


def test_a_batch_answers_as_single_searches_do(db: Client) -> None:
    items, _ = sealed(db, 4000)
    queries = vectors_of(20, seed=2)
    many: tuple[dict[str, Any], ...] = ({}, {"exact": True}, {"ef": 200}, {"filter": "pick < 1000"})
    for options in many:
        batch = items.search_batch(queries, 12, **options)
        for i, query in enumerate(queries):
            alone = items.search(query, 12, **options)
            assert alone.hits == batch[i].hits
            assert alone.work == batch.work[i]


def test_a_larger_ef_costs_more_and_finds_no_less(db: Client) -> None:
    items, base = sealed(db, 10_000)
    queries = vectors_of(50, seed=2)
    _, distances = reference.nearest(base, np.arange(10_000), queries, 10, "l2")
    costs, recalls = [], []
    for ef in (10, 40, 160, 640):
        found = items.search_batch(queries, 10, ef=ef)
        assert (found.counts == 10).all()
        costs.append(np.mean([work.distances_computed for work in found.work]))
        recalls.append((found.distances <= distances[:, 9:] * (1 + 1e-4)).mean())
    assert costs == sorted(costs)
    assert costs[0] * 2 < costs[2]
    assert recalls[0] < recalls[-1]
    assert recalls[-1] >= 0.99
    # ef is raised to the limit.
    assert len(items.search(queries[0], 300, ef=1)) == 300


def test_deleted_rows_never_come_back(server_factory: Any) -> None:
    with server_factory(*TINY_SEGMENTS).client() as db:
        items, base = sealed(db, 3000)
        alive = np.ones(3000, bool)
        rng = np.random.default_rng(5)
        for _ in range(6):
            gone = rng.choice(np.flatnonzero(alive), 400, replace=False)
            items.delete(keys=gone)
            alive[gone] = False
            left = np.flatnonzero(alive)
            keys, distances = reference.nearest(base[left], left, base[gone[:30]], 10, "l2")
            for exact in (True, False):
                found = items.search_batch(base[gone[:30]], 10, exact=exact)
                assert (found.counts == 10).all()
                assert alive[found.keys].all()
            found = items.search_batch(base[gone[:30]], 10, exact=True)
            np.testing.assert_allclose(found.distances, distances, rtol=1e-4, atol=1e-4)
            assert (found.keys == keys).mean() > 0.99
        assert items.count() == alive.sum() == items.stats().row_count


def test_after_an_upsert_only_the_new_version_is_found(server_factory: Any) -> None:
    with server_factory(*TINY_SEGMENTS).client() as db:
        items, base = sealed(db, 2000)
        moved = np.arange(0, 2000, 4)
        new = base.copy()
        new[moved] += 100
        items.upsert(moved, new[moved], {"pick": moved + 10_000})
        for wait in (False, True):
            if wait:
                items.wait_indexed()
            for exact in (True, False):
                # Where they are now: themselves. Where they were: somebody else, once each.
                at_new = items.search_batch(new[moved], 1, exact=exact)
                assert (at_new.keys[:, 0] == moved).mean() >= (1.0 if exact else 0.95)
                at_old = items.search_batch(base[moved], 50, exact=exact)
                assert not np.isin(at_old.keys, moved).any()
                assert all(len(set(row)) == 50 for row in at_old.keys.tolist())
            assert items.count("pick >= 10000") == len(moved)
            assert items.count() == 2000
