"""Curves of recall against searches a second, and what is read off them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

# Efforts of everything that has a width of its search.
WIDTHS = (10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 768, 1024)


@dataclass
class Point:
    """One effort.

    Attributes:
        effort: "ef=100".
        recall: Mean of all queries.
        error: Its standard error.
        qps: Searches a second, one number of each round.
        more: What else was measured, of the last round.
    """

    effort: str
    recall: float
    error: float = 0.0
    qps: list[float] = field(default_factory=list)
    more: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Returns it as it stands in result files."""
        return {
            "effort": self.effort,
            "recall": round(self.recall, 5),
            "qps": round(statistics.median(self.qps), 1),
            "qps_of_each_round": [round(value, 1) for value in self.qps],
            **{name: round(value, 3) for name, value in self.more.items()},
        }


def at_recall(curve: Iterable[tuple[float, float]], recall: float) -> float | None:
    """Returns the searches a second at a recall, of points (recall, searches a second).

    Between the slowest point below it and the fastest one that reaches it, the logarithm of the
    rate is linear in the recall. Where no point lies below, it is the fastest that reaches it; None
    where none reaches it.
    """
    points = sorted(curve)
    reach = [point for point in points if point[0] >= recall]
    if not reach:
        return None
    high = max(reach, key=lambda point: point[1])
    below = [point for point in points if point[0] < recall and point[1] >= high[1]]
    if not below:
        return high[1]
    low = max(below)
    share = (recall - low[0]) / (high[0] - low[0])
    return math.exp((1 - share) * math.log(low[1]) + share * math.log(high[1]))


def of_round(points: Sequence[Point], number: int) -> list[tuple[float, float]]:
    """Returns the curve of one round."""
    return [(point.recall, point.qps[number]) for point in points]


def thin(points: list[Point], targets: Sequence[float]) -> list[Point]:
    """Returns the points that matter to `targets`: the two around each, the first and the last."""
    if not points:
        return []
    ordered = sorted(points, key=lambda point: point.recall)
    kept = {0, len(ordered) - 1}
    for target in targets:
        above = next((i for i, point in enumerate(ordered) if point.recall >= target), None)
        if above is not None:
            kept |= {above, max(above - 1, 0)}
    return [ordered[i] for i in sorted(kept)]
