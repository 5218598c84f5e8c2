"""What is read off curves of recall."""

from __future__ import annotations

import math

import pytest
from curves import Point, at_recall, of_round, thin


def test_between_two_points_the_logarithm_of_the_rate_is_linear() -> None:
    curve = [(0.98, 1000.0), (0.90, 4000.0), (0.999, 10.0)]
    assert at_recall(curve, 0.94) == pytest.approx(math.sqrt(1000 * 4000))
    assert at_recall(curve, 0.98) == pytest.approx(1000)
    assert at_recall(curve, 0.96) == pytest.approx(4000 * (1000 / 4000) ** 0.75)


def test_nothing_is_read_beyond_the_curve() -> None:
    curve = [(0.97, 2000.0), (0.98, 1000.0)]
    assert at_recall(curve, 0.95) == 2000.0
    assert at_recall(curve, 0.99) is None
    assert at_recall([], 0.5) is None


def test_a_point_that_is_slower_and_worse_does_not_count() -> None:
    # A wider search of less recall: noise, which must not pull the rate down.
    curve = [(0.94, 500.0), (0.90, 4000.0), (0.96, 2000.0)]
    assert at_recall(curve, 0.95) == pytest.approx(4000 * (2000 / 4000) ** (5 / 6))


def test_thinned_points_give_the_same_rates() -> None:
    points = [Point(f"ef={i}", 0.7 + i / 50, qps=[1000.0 - 30 * i]) for i in range(15)]
    kept = thin(points, (0.8, 0.95))
    assert len(kept) <= 6
    for target in (0.8, 0.95):
        assert at_recall(of_round(kept, 0), target) == at_recall(of_round(points, 0), target)
    assert thin([], (0.9,)) == []
