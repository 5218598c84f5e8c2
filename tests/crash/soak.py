#!/usr/bin/env python3
"""The long run against crashes and faults: `./dev soak`; the figures go to bench/results/soak.json.

The parts, each of which can be run alone (--part), the figures of the others staying:

simulation  azimuth_simulate over many seeds, split over the processors
kills       rounds of kill -9 on a real server, at any moment and at failpoints (tests/crash/run.py)
recovery    kills of recoveries, one after the other (the same, --recovery)
unsynced    the rounds of `kills` with a power failure at each death (tests/faults/unsynced.py)
errno       system calls that fail, one after the other (tests/faults/errno_sweep.py)
flips       one bit of every page of every file (tests/faults/bit_flips.py)

Exit code 1 after a violation; the seed that leads to it again is in the output.
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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "bench/lib")]

from parallel import run_script  # noqa: E402
from results import Results  # noqa: E402
from scenes import failpoint_names  # noqa: E402

SERVERS = 2  # At one time, of all parts but the simulation.
RECOVERY_KILLS = 10  # In each round; see harness.py.
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


def simulation(results: Results, options: argparse.Namespace) -> int:
    """Measures the part of the simulation; returns the number of violations."""
    binary = options.build / "tests/engine/azimuth_simulate"
    found = simulate(binary, options.first_seed, options.seeds, options.operations, options.jobs)
    command = f"./dev soak --part simulation --first-seed {options.first_seed}"
    command += f" --seeds {options.seeds} --operations {options.operations}"
    crashes, operations = found["crashes"], found["simulated_operations"]
    results.put("soak.seeds", found["seeds"], "seeds", command, target=">= 1000")
    results.put("soak.simulated_operations", operations, "operations", command, parts=found)
    results.put("soak.simulated_crashes", crashes, "crashes", command)
    say(f"simulation: {operations} operations, {crashes} crashes in {found['seconds']} s")
    return int(found["violations"])


def rounds(
    options: argparse.Namespace, part: str, script: str, more: Sequence[str]
) -> tuple[dict[str, Any], str]:
    """Runs a script of rounds; returns its summary and the command that runs it again."""
    own = ["--seed", str(options.seed), *more]
    server = str(options.build / "server/azimuthd")
    summary = run_script([sys.executable, str(ROOT / script), "--server", server, *own], say)
    summary["violations_found"] = summary.pop("violations")
    return summary, f"./dev soak --part {part} --seed {options.seed}"


def found(summary: dict[str, Any]) -> int:
    """Returns the number of violations of a summary; it loses their texts."""
    missed = summary.get("failpoints_missed", [])
    for name in missed:
        say(f"failpoint {name} was not hit as often as was asked for")
    return len(summary.pop("violations_found")) + len(missed)


def kills(results: Results, options: argparse.Namespace) -> int:
    """Measures the part of the kills; returns the number of violations."""
    each = options.each_failpoint
    more = ["--rounds", str(options.rounds), "--each-failpoint", str(each), "--jobs", str(SERVERS)]
    summary, again = rounds(options, "kills", "tests/crash/run.py", more)
    again += f" --rounds {options.rounds} --each-failpoint {each}"
    violations = found(summary)
    by_failpoint = sum(summary["failpoints_hit"].values())
    cycles = summary["kills_under_load"] + summary["kills_in_recovery"] + by_failpoint
    results.put("soak.kill_cycles", cycles, "kills", again, target=">= 2000", parts=summary)
    least = min(summary["failpoints_hit"].get(name, 0) for name in failpoint_names())
    results.put("soak.failpoint_hits_min", least, "kills", again, target=">= 20")
    change = summary["recall_change_max"]
    name = "soak.recall_change_after_restarts"
    results.put(name, change, "share", again, target="<= 0.001", of=summary["recall_measured"])
    return violations


def recovery(results: Results, options: argparse.Namespace) -> int:
    """Measures the part of the kills of recoveries; returns the number of violations."""
    wanted = options.recovery_kills
    more = ["--recovery", "--rounds", str(-(-wanted // RECOVERY_KILLS)), "--jobs", str(SERVERS)]
    summary, again = rounds(options, "recovery", "tests/crash/run.py", more)
    again += f" --recovery-kills {wanted}"
    violations = found(summary)
    value = summary["kills_in_recovery"]
    results.put("soak.recovery_kills", value, "kills", again, target=">= 200", parts=summary)
    return violations


def unsynced(results: Results, options: argparse.Namespace) -> int:
    """Measures the part of the power failures; returns the number of violations."""
    more = ["--rounds", str(options.unsynced_rounds), "--jobs", str(SERVERS)]
    summary, again = rounds(options, "unsynced", "tests/faults/unsynced.py", more)
    again += f" --unsynced-rounds {options.unsynced_rounds}"
    violations = found(summary)
    value = summary["power_failures"]
    results.put("soak.unsynced_cycles", value, "kills", again, target=">= 500", parts=summary)
    return violations


def errno(results: Results, options: argparse.Namespace) -> int:
    """Measures the part of the failing calls; returns the number of violations."""
    more = ["--cases", str(options.errno_cases), "--others", str(options.errno_others)]
    more += ["--jobs", str(SERVERS)]
    command = [sys.executable, str(ROOT / "tests/faults/errno_sweep.py"), *more]
    summary = run_script([*command, "--server", str(options.build / "server/azimuthd")], say)
    again = f"./dev soak --part errno --errno-cases {options.errno_cases}"
    violations = len(summary.pop("violations"))
    value = summary.pop("errno_cases")
    # Every call of the load that changes something, and some of the others.
    target = f">= {summary['errno_cases_of_changes']}"
    results.put("soak.errno_cases", value, "cases", again, target=target, parts=summary)
    return violations + summary["rocksdb_assertions"]


def flips(results: Results, options: argparse.Namespace) -> int:
    """Measures the part of the bit flips; returns the number of violations."""
    more = ["--flips", str(options.flips), "--jobs", str(SERVERS)]
    summary, again = rounds(options, "flips", "tests/faults/bit_flips.py", more)
    again += f" --flips {options.flips}"
    violations = found(summary)
    value = summary.pop("flips")
    results.put("soak.bit_flips", value, "flips", again, target=">= 2000", parts=summary)
    return violations + summary["rocksdb_assertions"]


PARTS: dict[str, Callable[[Results, argparse.Namespace], int]] = {
    "simulation": simulation,
    "kills": kills,
    "recovery": recovery,
    "unsynced": unsynced,
    "errno": errno,
    "flips": flips,
}


def violations_before(path: Path) -> dict[str, int]:
    """Returns the violations of each part that a result file has."""
    if not path.exists():
        return {}
    figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
    return dict(figures.get("soak.violations", {}).get("parts", {}))


COUNTS = {
    "seeds": (1000, "of the simulation"),
    "operations": (1000, "of each seed"),
    "rounds": (2000, "of kills"),
    "recovery-kills": (200, "of recoveries"),
    "unsynced-rounds": (500, "of power failures"),
    "errno-cases": (10000, "of failing calls that change something, at most"),
    "errno-others": (600, "of other failing calls, at most"),
    "flips": (2000, "of bits"),
    "jobs": (len(os.sched_getaffinity(0)), "simulations at one time"),
}


def main(arguments: Sequence[str]) -> int:
    """Runs the parts and writes the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--part", choices=PARTS, help="only this part")
    for name, (default, what) in COUNTS.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what} ({default})")
    parser.add_argument("--first-seed", type=int, default=1, help="of the simulation (1)")
    parser.add_argument(
        "--each-failpoint", type=int, default=20, help="rounds of kills go on until then (20)"
    )
    parser.add_argument("--seed", type=int, help="of all but the simulation (a random one)")
    parser.add_argument("--build", type=Path, default=ROOT / "build/dev", help="build folder")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results/soak.json")
    options = parser.parse_args(arguments)
    for name in COUNTS:
        value = getattr(options, name.replace("-", "_"))
        if value < 1:
            parser.error(f"--{name} {value}: expected at least 1")
    if options.seed is None:
        options.seed = random.randrange(2**32)
    results = Results(options.out)
    total = 0
    for name, part in PARTS.items():
        if options.part not in (None, name):
            continue
        # A part alone leaves standing what was found in the others.
        parts = violations_before(options.out) | {name: part(results, options)}
        total += parts[name]
        command = f"./dev soak --seed {options.seed}"
        value = sum(parts.values())
        results.put("soak.violations", value, "violations", command, target="<= 0", parts=parts)
        # Each part as it ends: a run that is cut short can go on with the next one.
        results.save()
    print(results.path.read_text(encoding="utf-8"), end="")
    return 0 if total == 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
