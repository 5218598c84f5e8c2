"""What is read out of the calls of a load."""

from __future__ import annotations

import math

import numpy as np
from load import percentile, settled_after, windows


def test_a_percentile_is_a_latency_that_was_measured() -> None:
    latencies = np.arange(100.0, 0.0, -1.0)
    assert percentile(latencies, 0.5) == 50.0
    assert percentile(latencies, 0.99) == 99.0
    assert percentile(latencies, 0.999) == 100.0
    assert percentile(latencies[:1], 0.5) == 100.0
    assert math.isnan(percentile(latencies[:0], 0.5))


def test_windows_are_by_the_time_that_calls_were_due() -> None:
    due_and_latency = [(10.0, 1.0), (10.9, 7.0), (11.0, 2.0), (13.5, 3.0)]
    samples = np.array([[due, 0.0, latency, 0.0] for due, latency in due_and_latency])
    found = windows(samples, 10.0, 3.0, 1.0)
    assert found[:2] == [7.0, 2.0]
    assert math.isnan(found[2])


def test_it_has_settled_once_three_in_a_row_are_low() -> None:
    assert settled_after([5.0, 1.0, 1.0, 3.0, 1.0, 2.0, 1.0], 2.0) == 4
    assert settled_after([1.0, 1.0, 1.0], 2.0) == 0
    assert settled_after([1.0, math.nan, 1.0, 1.0], 2.0) is None
