"""`azimuthd verify` of a data directory that no server runs on."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

TIMEOUT_S = 120.0
# What a directory may have after a crash and still be sound.
ALLOWED = "notice"


@functools.cache
def has_verify(binary: str) -> bool:
    """True if the binary has the command; says so once, loudly, if not."""
    run = subprocess.run(
        [binary, "--help"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    found = "verify" in run.stdout
    if not found:
        print(f"NO VERIFY: {binary} has no such command: rounds end without it", file=sys.stderr)
    return found


def run_verify(
    binary: str, data_dir: Path, *options: str
) -> tuple[int, dict[str, Any] | None, str]:
    """Returns the exit code, the report (None if it gave none) and what else there is to say."""
    command = [binary, "verify", *options, str(data_dir)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    said = f"verify: exit code {run.returncode}: {run.stdout[-2000:]}{run.stderr[-2000:]}"
    try:
        report = json.loads(run.stdout)
    except ValueError:
        report = None
    return run.returncode, report, said


def verify(binary: str, data_dir: Path, *options: str) -> list[str]:
    """Returns what is wrong with a data directory; nothing if the binary cannot tell."""
    if not has_verify(binary):
        return []
    code, report, said = run_verify(binary, data_dir, *options)
    if report is None:
        return [said]
    wrong = [
        f"verify: {f['severity']} {f['kind']} at {f['place']}: {f['message']}"
        for f in report["findings"]
        if f["severity"] != ALLOWED
    ]
    if wrong:
        return wrong
    return [] if code == 0 and report["sound"] else [said]
