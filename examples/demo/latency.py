"""Times of repeated calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Argument = TypeVar("Argument")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Latency:
    """What repeated calls took.

    Attributes:
        calls: How many there were.
        seconds: From the start of the first one to the end of the last one.
        p50_ms: Half of the calls were faster.
        p99_ms: All but one of a hundred calls were faster.
    """

    calls: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Calls per second."""
        return self.calls / self.seconds


def measure(
    call: Callable[[Argument], Result], arguments: Iterable[Argument]
) -> tuple[Latency, list[Result]]:
    """Calls with one argument after the other; ValueError when there is none."""
    times: list[float] = []
    results: list[Result] = []
    start = before = time.perf_counter()
    for argument in arguments:
        results.append(call(argument))
        after = time.perf_counter()
        times.append(after - before)
        before = after
    if not times:
        raise ValueError("arguments: expected at least one")
    p50, p99 = np.percentile(np.array(times) * 1e3, [50, 99])
    return Latency(len(times), before - start, float(p50), float(p99)), results
