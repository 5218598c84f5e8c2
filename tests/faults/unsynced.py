"""Kills a server again and again, takes back what was not synced, and looks at everything.

    python tests/faults/unsynced.py --rounds 500 --seed 7 --server build/dev/server/azimuthd

The rounds of tests/crash/run.py with a power failure at every death (power_failure.py), those of a
recovery too. Prints a line for every round and, at the end, a summary in JSON. Exit code 1 after a
violation (the data directory is kept then).
"""

from __future__ import annotations

import random
import re
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "crash"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

from faults import FaultShim
from harness import Harness, Summary
from power_failure import Journal, Taken
from run import drive, parse


@dataclass
class UnsyncedSummary(Summary, Taken):
    """What a run did.

    Attributes:
        torn_logs: Write-ahead logs with a torn page in what was not synced.
        torn_logs_refused: Of those, the ones that the server took for damaged, which it must: it
            cannot know that nothing of it was acknowledged. It then starts when it is told to.
    """

    torn_logs: int = 0
    torn_logs_refused: int = 0


class UnsyncedHarness(Harness):
    """Rounds whose deaths are power failures."""

    def _prepare(self) -> None:
        folder, data_dir = self.server.folder, self.server.data_dir
        self.summary = UnsyncedSummary(seed=self.summary.seed)
        self._shim = FaultShim(folder / "shim", data_dir, self.server.binary)
        self.journal = Journal(folder / "forget", data_dir)
        self._chooser = random.Random(self.summary.seed + 1)

    def _environment(self) -> dict[str, str]:
        self.journal.begin()
        return self._shim.environment(forget=self.journal.folder)

    def _died(self) -> None:
        self.journal.power_failure(self._chooser)
        for name, value in vars(self.journal.taken).items():
            setattr(self.summary, name, value)
        if any(name.endswith(".log") for name in self.journal.taken.torn):
            self.summary.torn_logs += 1
            self._accept_torn_log()

    def _is_expected(self, finding: str) -> bool:
        # A failure takes back that a file was set aside which the round itself has damaged.
        damaged = self._damaged
        return damaged is not None and bool(
            re.match("verify: derived segment.format ", finding) and damaged.name in finding
        )

    def _accept_torn_log(self) -> None:
        """Starts the server on a torn log, told to accept what is lost if it asks to be told."""
        self.server.launch()
        if not self.server.wait_ready():
            code, log = self.server.wait(), self.server.log()
            asked = re.findall(r"--accept-data-loss[= ](\d+)", log)
            assert code == 1, f"exit code {code} of a start on a torn log:\n{log[-3000:]}"
            assert asked, f"a torn log is refused without advice:\n{log[-3000:]}"
            self.summary.torn_logs_refused += 1
            options = self.server.options
            self.server.options = (*options, "--accept-data-loss", asked[-1])
            self.server.start()
            self.server.options = options
        self.server.kill()


if __name__ == "__main__":
    sys.exit(drive(parse(__doc__ or ""), UnsyncedHarness))
