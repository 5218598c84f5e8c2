"""A run's rounds shared among several processes of the same script, and their summaries joined."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

# Of these the joined summary has the largest, of all other numbers the sum.
LARGEST = ("recall_change_max", "seconds")


def summary_of(output: str) -> dict[str, Any] | None:
    """Returns the JSON object, over several lines, that a script has printed; None without one."""
    text = "\n" + output
    start, end = text.rfind("\n{\n"), text.rfind("\n}")
    return json.loads(text[start : end + 2]) if 0 <= start < end else None


def join(summaries: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Returns one summary of all: numbers are added, lists put together."""
    total: dict[str, Any] = {}
    for summary in summaries:
        for name, value in summary.items():
            if isinstance(value, dict):
                total[name] = join([total.get(name, {}), value])
            elif isinstance(value, list):
                total[name] = [*total.get(name, []), *value]
            elif name == "seed" and name in total:
                total[name] = min(total[name], value)
            elif name in LARGEST:
                total[name] = max(total.get(name, value), value)
            else:
                total[name] = total.get(name, 0) + value
    return total


def share(total: int, parts: int, number: int) -> int:
    """Returns the size of one part of `total` things that are shared out."""
    return total // parts + (number < total % parts)


def run_script(command: list[str], say: Callable[[str], None]) -> dict[str, Any]:
    """Runs a script to its end, says its lines and returns its summary.

    RuntimeError if it ends with neither 0 nor 1, or without a summary.
    """
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    lines = []
    for line in run.stdout:
        lines.append(line.rstrip("\n"))
        if not line.startswith(("{", "}", " ")):
            say(line.rstrip())
    code = run.wait()
    summary = summary_of("\n".join(lines))
    if code not in (0, 1) or summary is None:
        raise RuntimeError(
            f"{' '.join(command)}: exit code {code}, expected 0 or 1 and a summary in JSON"
        )
    return summary


def run_workers(options: argparse.Namespace) -> dict[str, Any]:
    """Runs the script of this process `options.jobs` times at once, with seeds of their own."""
    summaries: list[dict[str, Any]] = []
    failures: list[RuntimeError] = []

    def work(number: int) -> None:
        command = [sys.executable, sys.argv[0], "--seed", str(options.seed + number)]
        command += ["--server", options.server]
        command += ["--rounds", str(share(options.rounds, options.jobs, number) or 1)]
        command += ["--each-failpoint", str(share(options.each_failpoint, options.jobs, number))]
        command += ["--recovery"] if options.recovery else []
        try:
            summaries.append(run_script(command, lambda t: print(f"{number}: {t}", flush=True)))
        except RuntimeError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=[i]) for i in range(options.jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    total = join(summaries)
    total["failpoints_missed"] = sorted(set(total["failpoints_missed"]))
    return total
