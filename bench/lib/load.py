"""azimuth_load, the load generator, from Python."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Load:
    """One running azimuth_load. Options are its own, `closed_loop=4` for `--closed-loop 4`."""

    def __init__(self, build: Path, **options: str | float | Path | bool) -> None:
        """Starts it."""
        command = [str(build / "bench/azimuth_load")]
        for name, value in options.items():
            command.append(f"--{name.replace('_', '-')}")
            if value is not True:
                command.append(str(value))
        self._samples = options.get("samples")
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def stop(self) -> dict[str, Any]:
        """Ends it before its time; see `wait`."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> dict[str, Any]:
        """Waits for its end and returns its report. RuntimeError if no call succeeded."""
        out, errors = self._process.communicate()
        if self._process.returncode != 0:
            raise RuntimeError(f"azimuth_load ended with {self._process.returncode}: {errors}{out}")
        report: dict[str, Any] = json.loads(out)
        return report

    def samples(self) -> Array:
        """Returns its calls once it has ended: rows of due (s), lag, latency (ms), code.

        Due times are those of time.monotonic().
        """
        raw = np.fromfile(str(self._samples), np.int64).reshape(-1, 4)
        return raw * np.array([1e-9, 1e-6, 1e-6, 1.0])


def brief(report: dict[str, Any]) -> dict[str, Any]:
    """Returns what of a report belongs beside a figure."""
    latency = report["latency_ms"]
    kept = {
        "offered_per_s": round(report["offered_per_s"], 1),
        "done_per_s": round(report["done_per_s"], 1),
        "calls": report["calls"],
        "errors": report["errors"],
        "held_back": report["held_back"],
        "p50_ms": round(latency["p50"], 3),
        "p95_ms": round(latency["p95"], 3),
        "p99_ms": round(latency["p99"], 3),
        "p999_ms": round(latency["p999"], 3),
        "max_ms": round(latency["max"], 3),
        "lag_p99_ms": round(report["lag_ms"]["p99"], 3),
    }
    if report["errors"]:
        kept["first_error"] = report["first_error"]
    return kept


def windows(samples: Array, start: float, seconds: float, share: float) -> list[float]:
    """Returns a percentile (nearest rank) of the latencies by the second in which calls were due.

    `samples` are those of Load.samples, the windows are of one second and begin at `start`. A
    window without calls is NaN.
    """
    found = []
    for second in range(int(seconds)):
        begin = start + second
        due = samples[:, 0]
        of_window = np.sort(samples[(due >= begin) & (due < begin + 1), 2])
        found.append(percentile(of_window, share))
    return found


def percentile(latencies: Array, share: float) -> float:
    """Returns the nearest rank of any latencies; NaN of none."""
    if len(latencies) == 0:
        return float("nan")
    ordered = np.sort(latencies)
    return float(ordered[max(int(np.ceil(share * len(ordered))), 1) - 1])


def settled_after(values: list[float], level: float, run: int = 3) -> int | None:
    """Returns the index of the first of `run` values in a row at most `level`; None without."""
    for first in range(len(values) - run + 1):
        if all(value <= level for value in values[first : first + run]):
            return first
    return None
