"""The lines that searchers in Python answer."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from session import Array, Searcher, run

ROWS = np.arange(20, dtype=np.float32)[:, None]
QUERIES = np.array([[3.0], [7.2], [19.0]], np.float32)
NEAREST = [[3, 2, 4], [7, 8, 6], [19, 18, 17]]


class Scan(Searcher):
    """Looks at all rows."""

    def __init__(self, in_batches: bool) -> None:
        self.in_batches = in_batches
        self.limit = 0

    def set_effort(self, name: str, value: float, limit: int) -> None:
        if name != "ef":
            raise ValueError(f"effort {name}")
        self.limit = limit

    def search(self, query: Array) -> Any:
        near = np.argsort(np.abs(ROWS[:, 0] - np.atleast_2d(query)), axis=1, kind="stable")
        found = near[:, : self.limit]
        return found if self.in_batches else found[0]

    def ids(self, found: Any) -> list[int]:
        return list(found)


def lines(
    monkeypatch: pytest.MonkeyPatch, *asked: str, in_batches: bool = False
) -> list[dict[str, Any]]:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in asked)))
    out = io.StringIO()
    run(Scan(in_batches), QUERIES, {"version": "1"}, out)
    first, *answers = map(json.loads, out.getvalue().splitlines())
    assert first == {"version": "1"}
    return answers


@pytest.mark.parametrize("in_batches", [False, True])
def test_answers_are_written_and_searches_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_batches: bool
) -> None:
    path = tmp_path / "answers"
    answered, timed = lines(
        monkeypatch, f"answers ef=9 3 {path}", "time ef=9 3 1 0.01", in_batches=in_batches
    )
    assert answered == {"queries": 3}
    assert np.fromfile(path, np.int64).reshape(3, 3).tolist() == NEAREST
    assert timed["searches"] >= 3
    assert timed["searches"] % 3 == 0
    assert timed["qps"] == pytest.approx(timed["searches"] / timed["seconds"])
    assert ("p99_us" in timed) == (not in_batches)


def test_what_is_wrong_is_said_and_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong, two_threads, right = lines(
        monkeypatch, "check recall=0.9 3", "time ef=9 3 2 0.01", "check ef=9 3"
    )
    assert wrong == {"error": "ValueError: effort recall"}
    assert "expected time with one thread" in two_threads["error"]
    assert right == {}
