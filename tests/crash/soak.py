#!/usr/bin/env python3
"""The long run against crashes: `./dev soak`; the figures go to bench/results/soak.json.

First the simulation (azimuth_simulate) over many seeds, split over the processors; then rounds of
kill -9 on a real server (tests/crash/run.py). Exit code 1 after a violation; the seed that leads to
it again is in the output.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "bench/lib")]

from results import Results  # noqa: E402

PARTS = ("simulation", "kills")
# So much of a process's share at a time, that one slow seed does not leave processors idle.
SEEDS_PER_RUN = 25


def say(text: str) -> None:
    """Prints a line at once."""
    print(f"  {text}", flush=True)


def slices(first: int, count: int) -> list[tuple[int, int]]:
    """Returns (first seed, number of seeds) of runs that have each seed once."""
    last = first + count
    return [(seed, min(SEEDS_PER_RUN, last - seed)) for seed in range(first, last, SEEDS_PER_RUN)]


def simulate(binary: Path, first: int, seeds: int, operations: int, jobs: int) -> dict[str, Any]:
    """Runs all seeds; returns the sums of what the processes counted.

    RuntimeError when a process dies without its counts.
    """
    total: Counter[str] = Counter()
    started = time.monotonic()

    def run(part: tuple[int, int]) -> dict[str, int]:
        command = [str(binary), "--first-seed", str(part[0]), "--seeds", str(part[1])]
        command += ["--operations", str(operations)]
        # Violations stand on its stderr, which is ours.
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        return counts_of(command, done.returncode, done.stdout.strip())

    with ThreadPoolExecutor(jobs) as pool:
        for future in as_completed([pool.submit(run, part) for part in slices(first, seeds)]):
            total.update(future.result())
            say(f"{total['seeds']} of {seeds} seeds, {total['violations']} violations")
    return {**total, "seconds": round(time.monotonic() - started, 1)}


def counts_of(command: list[str], code: int, said: str) -> dict[str, int]:
    """Returns what an ended process has counted."""
    if code not in (0, 1) or not said.startswith("{"):
        raise RuntimeError(
            f"{' '.join(command)}: exit code {code}, expected 0 or 1 and one line of JSON, "
            f"got {said!r}"
        )
    counts = json.loads(said)
    return {k: v for k, v in counts.items() if k not in ("first_seed", "seconds")}


def simulation(results: Results, binary: Path, options: argparse.Namespace) -> int:
    """Measures the part of the simulation; returns the number of violations."""
    found = simulate(binary, options.first_seed, options.seeds, options.operations, options.jobs)
    command = f"./dev soak --part simulation --first-seed {options.first_seed}"
    command += f" --seeds {options.seeds} --operations {options.operations}"
    crashes, operations = found["crashes"], found["simulated_operations"]
    results.put("soak.seeds", found["seeds"], "seeds", command, target=">= 1000")
    results.put("soak.simulated_operations", operations, "operations", command, parts=found)
    results.put("soak.simulated_crashes", crashes, "crashes", command)
    say(f"simulation: {operations} operations, {crashes} crashes in {found['seconds']} s")
    return int(found["violations"])


def kills(results: Results, server: Path, options: argparse.Namespace) -> int:
    """Measures the part of the kills; returns the number of violations."""
    command = [sys.executable, str(ROOT / "tests/crash/run.py"), "--server", str(server)]
    command += ["--rounds", str(options.rounds), "--seed", str(options.seed)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    lines = []
    for line in run.stdout:
        lines.append(line.rstrip("\n"))
        if not line.startswith(("{", "}", " ")):
            say(line.rstrip())
    code = run.wait()
    text = "\n".join(lines)
    start, end = text.find("\n{\n"), text.find("\n}")
    if code not in (0, 1) or start < 0:
        raise RuntimeError(f"tests/crash/run.py: exit code {code}, expected 0 or 1 and a summary")
    summary = json.loads(text[start : end + 2])
    by_failpoint = sum(summary["failpoints_hit"].values())
    cycles = summary["kills_under_load"] + summary["kills_in_recovery"] + by_failpoint
    violations = summary.pop("violations")
    again = f"./dev soak --part kills --rounds {options.rounds} --seed {options.seed}"
    parts = {**summary, "seconds": round(summary["seconds"], 1)}
    results.put("soak.kill_cycles", cycles, "kills", again, target=">= 200", parts=parts)
    return len(violations) + len(summary["failpoints_missed"])


def violations_before(path: Path) -> dict[str, int]:
    """Returns the violations of each part that a result file has."""
    if not path.exists():
        return {}
    figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
    return dict(figures.get("soak.violations", {}).get("parts", {}))


def main(arguments: Sequence[str]) -> int:
    """Runs the parts and writes the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--part", choices=PARTS, help="only this part")
    parser.add_argument("--seeds", type=int, default=1000, help="of the simulation (1000)")
    parser.add_argument("--first-seed", type=int, default=1, help="the first of them (1)")
    parser.add_argument("--operations", type=int, default=1000, help="of each seed (1000)")
    parser.add_argument("--rounds", type=int, default=200, help="of kills (200)")
    parser.add_argument("--seed", type=int, help="of the kills (default: a random one)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--build", type=Path, default=ROOT / "build/dev", help="build folder")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results/soak.json")
    options = parser.parse_args(arguments)
    for name in ("seeds", "operations", "rounds", "jobs"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} {getattr(options, name)}: expected at least 1")
    if options.seed is None:
        options.seed = random.randrange(2**32)
    results = Results(options.out)
    violations: dict[str, int] = {}  # Of this run.
    if options.part in (None, "simulation"):
        binary = options.build / "tests/engine/azimuth_simulate"
        violations["simulation"] = simulation(results, binary, options)
    if options.part in (None, "kills"):
        violations["kills"] = kills(results, options.build / "server/azimuthd", options)
    total = sum(violations.values())
    command = f"./dev soak --seeds {options.seeds} --operations {options.operations}"
    command += f" --rounds {options.rounds} --seed {options.seed}"
    if options.part is not None:
        command += f" --part {options.part}"
    # A part alone leaves standing what was found in the other one.
    parts = violations_before(options.out) | violations
    results.put(
        "soak.violations", sum(parts.values()), "violations", command, target="<= 0", parts=parts
    )
    results.save()
    print(results.path.read_text(encoding="utf-8"), end="")
    return 0 if total == 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
