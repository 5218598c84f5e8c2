"""Kills a server again and again and checks that it keeps its promises.

    python tests/crash/run.py --rounds 1000 --seed 7 --server build/dev/server/azimuthd

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
from pathlib import Path

from harness import Harness


def main() -> int:
    """Runs the rounds that the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None, help="default: a random one")
    parser.add_argument(
        "--server", default=os.environ.get("AZIMUTH_SERVER"), help="default: AZIMUTH_SERVER"
    )
    arguments = parser.parse_args()
    if arguments.server is None:
        parser.error("--server (or AZIMUTH_SERVER) is required")
    seed = arguments.seed if arguments.seed is not None else random.randrange(2**32)
    folder = Path(tempfile.mkdtemp(prefix="azimuth-crash-"))
    print(f"seed {seed}, folder {folder}", flush=True)
    harness = Harness(folder, seed, arguments.server)
    try:
        for number in range(1, arguments.rounds + 1):
            before = harness.summary.seconds
            violations = harness.round()
            print(
                f"round {number}: {harness.summary.seconds - before:.2f} s, "
                f"{harness.summary.acknowledged_batches} batches acknowledged so far, "
                f"{len(violations)} violations",
                flush=True,
            )
            if violations:
                break
    finally:
        harness.close()
    for line in harness.summary.violations:
        print(line)
    print(json.dumps(dataclasses.asdict(harness.summary), indent=2))
    if harness.summary.violations:
        print(f"the data directory is kept: {folder}")
        return 1
    shutil.rmtree(folder)
    for name in harness.summary.failpoints_missed:
        print(f"failpoint {name} was armed and never reached: the load does not come by it")
    return 1 if harness.summary.failpoints_missed else 0


if __name__ == "__main__":
    sys.exit(main())
