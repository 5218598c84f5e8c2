"""Programs that answer the lines of bench/lib/search_session.h."""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from curves import WIDTHS, Point
from generated import Array
from sets import SearchSet

ENOUGH_RECALL = 0.997
# A sweep ends when the recall gained less than this over so many widths, which more than double.
NO_GAIN = 0.0005
NO_GAIN_OVER = 4


class Driven:
    """One running program. Not thread-safe.

    Attributes:
        name: What it is called in results.
        about: The line with which it began.
    """

    def __init__(self, name: str, command: Sequence[str | Path], folder: Path) -> None:
        """Starts it and waits for its first line. RuntimeError shows what it wrote."""
        self.name = name
        folder.mkdir(parents=True, exist_ok=True)
        self._answers = folder / f"{name}.answers"
        self._log = folder / f"{name}.log"
        # OPENBLAS_* are of numpy alone; Python must not wait with its lines.
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        self.about = self._read()

    def __enter__(self) -> Driven:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def time(self, effort: str, limit: int, threads: int, seconds: float) -> dict[str, Any]:
        """Returns what a search takes; see search_session.h."""
        return self._ask(f"time {effort} {limit} {threads} {seconds}")

    def answers(self, effort: str, limit: int) -> Array:
        """Returns what each query finds: `limit` ids, -1 where there are fewer."""
        self._ask(f"answers {effort} {limit} {self._answers}")
        return np.fromfile(self._answers, np.int64).reshape(-1, limit)

    def close(self) -> None:
        """Ends its input and waits for its end."""
        assert self._process.stdin is not None
        if self._process.poll() is None:
            self._process.stdin.close()
        try:
            self._process.wait(120)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._read()
        if "error" in answer:
            raise RuntimeError(f"{self.name}: '{line}': {answer['error']}")
        return answer

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            log = self._log.read_text(errors="replace")
            raise RuntimeError(f"{self.name} ended with {code}: {log[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def point_at(driven: Driven, chosen: SearchSet, effort: str, limit: int) -> Point:
    """Returns an effort with its recall, not timed yet."""
    recalls = chosen.recalls(driven.answers(effort, limit))
    error = float(recalls.std() / math.sqrt(len(recalls)))
    return Point(effort, float(recalls.mean()), error)


def sweep(driven: Driven, chosen: SearchSet, limit: int, enough: float) -> list[Point]:
    """Returns widths with their recall, up to the first that has `enough` or gains no more."""
    points: list[Point] = []
    for width in WIDTHS:
        if width >= limit:
            points.append(point_at(driven, chosen, f"ef={width}", limit))
            gained = points[-1].recall - points[max(len(points) - 1 - NO_GAIN_OVER, 0)].recall
            if points[-1].recall >= enough or (len(points) > NO_GAIN_OVER and gained < NO_GAIN):
                break
    return points


def measure(driven: Driven, point: Point, limit: int, threads: int, seconds: float) -> None:
    """Adds a round to a point."""
    measured = driven.time(point.effort, limit, threads, seconds)
    point.qps.append(measured.pop("qps"))
    kept = ("cpu_us", "p50_us", "p99_us", "distances")
    point.more = {name: measured[name] for name in kept if measured.get(name)}
