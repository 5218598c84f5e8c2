"""Kills a server again and again and checks that it keeps its promises.

    python tests/crash/run.py --rounds 1000 --seed 7 --server build/dev/server/azimuthd
    python tests/crash/run.py --recovery --rounds 20

Prints a line for every round and, at the end, a summary in JSON. Exit code 1 after a violation (the
data directory is kept then), and when a failpoint was armed several times and never reached.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness import Harness, Summary
from parallel import run_workers

Make = Callable[[Path, int, str], Harness]
# Rounds between two looks at the recall, which take seconds.
RECALL_EVERY = 250
# With --each-failpoint: rounds are at most so many times those that were asked for.
ROUNDS_FACTOR_MAX = 3


def parse(doc: str, arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line of this script and of those that run other kinds of rounds."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None, help="default: a random one")
    parser.add_argument("--jobs", type=int, default=1, help="servers at one time (1)")
    parser.add_argument(
        "--each-failpoint", type=int, default=0, help="go on until each was hit so often (0)"
    )
    parser.add_argument("--recovery", action="store_true", help="kill recoveries")
    parser.add_argument(
        "--server", default=os.environ.get("AZIMUTH_SERVER"), help="default: AZIMUTH_SERVER"
    )
    options = parser.parse_args(arguments)
    if options.server is None:
        parser.error("--server (or AZIMUTH_SERVER) is required")
    for name in ("rounds", "jobs"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} {getattr(options, name)}: expected at least 1")
    if options.seed is None:
        options.seed = random.randrange(2**32)
    return options


def drive(options: argparse.Namespace, make: Make) -> int:
    """Runs the rounds in this process, or a share of them in each of several."""
    if options.jobs > 1:
        summary = run_workers(options)
        print(json.dumps(summary, indent=2))
        return 1 if summary["violations"] or summary["failpoints_missed"] else 0
    folder = Path(tempfile.mkdtemp(prefix="azimuth-crash-"))
    print(f"seed {options.seed}, folder {folder}", flush=True)
    harness = make(folder, options.seed, options.server)
    try:
        run(harness, options)
    finally:
        harness.close()
    summary = harness.summary
    for line in summary.violations:
        print(line)
    print(json.dumps(dataclasses.asdict(summary), indent=2))
    if summary.violations:
        print(f"the data directory is kept: {folder}")
        return 1
    shutil.rmtree(folder)
    for name in summary.failpoints_missed:
        print(f"failpoint {name} was armed and never reached: the load does not come by it")
    return 1 if summary.failpoints_missed else 0


def run(harness: Harness, options: argparse.Namespace) -> None:
    """Runs rounds until there were enough or one found something."""
    summary = harness.summary
    most = options.rounds * (ROUNDS_FACTOR_MAX if options.each_failpoint else 1)
    while not summary.violations and summary.rounds < most and not enough(harness, options):
        before = summary.seconds
        violations = harness.recovery_round() if options.recovery else harness.round()
        print(line_of(summary, summary.seconds - before, len(violations)), flush=True)
        # The first one early: short runs have one, too.
        if not violations and summary.rounds % RECALL_EVERY == min(10, options.rounds):
            summary.violations += map(str, harness.measure_recall())
    if options.each_failpoint and not summary.violations:
        hit = summary.failpoints_hit
        names = [n for n in harness.failpoints if hit.get(n, 0) < options.each_failpoint]
        summary.failpoints_missed = names


def enough(harness: Harness, options: argparse.Namespace) -> bool:
    """Returns whether a run has done what it was asked for."""
    done = harness.summary.rounds >= options.rounds
    return done and harness.least_hit() >= options.each_failpoint


def line_of(summary: Summary, seconds: float, violations: int) -> str:
    """Returns what is said of a round."""
    return (
        f"round {summary.rounds}: {seconds:.2f} s, {summary.acknowledged_batches} batches "
        f"acknowledged so far, {violations} violations"
    )


if __name__ == "__main__":
    sys.exit(drive(parse(__doc__ or ""), Harness))
