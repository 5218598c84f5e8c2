"""Where benchmarks in Python keep their figures: one JSON file per benchmark in bench/results.

A file holds the machine, the date of its last change, the commands and the figures by name. A run
replaces the figures that it measured and keeps all others, so a part can be measured alone. Figures
of two machines do not mix. Other sections have by name what belongs to several figures.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def machine() -> dict[str, Any]:
    """Returns what tells machines apart as far as speed goes, and nothing that names this one."""
    processor = re.search(r"^model name\s*:\s*(.+)$", _text("/proc/cpuinfo"), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB$", _text("/proc/meminfo"), re.MULTILINE)
    return {
        "cpu": processor.group(1) if processor else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory.group(1)) / 2**20, 1) if memory else None,
        "kernel": platform.release().split("-")[0],
    }


def revision() -> str:
    """Returns the commit, with a plus sign when files differ from it; "unknown" without git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


class Results:
    """One result file; `save` writes it. Not thread-safe.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        """Reads the file if it is there. ValueError if another machine's figures are in it."""
        self.path = path
        self._machine = machine()
        self._content: dict[str, Any] = {"machine": self._machine, "commands": [], "figures": {}}
        if path.exists():
            self._content |= json.loads(path.read_text(encoding="utf-8"))
            if self._content["machine"] != self._machine:
                raise ValueError(
                    f"{path}: its figures are of the machine {self._content['machine']}, this one "
                    f"is {self._machine}; name another file, or remove this one"
                )

    def put(
        self, name: str, value: float, unit: str, command: str, *, target: str = "", **more: Any
    ) -> None:
        """Sets a figure.

        Args:
            name: Its name, "storage.group_commit_gain_32_writers".
            value: As measured.
            unit: What it counts.
            command: What measures it again, from the root of the repository.
            target: ">= 8" or "<= 0.01"; empty when there is none.
            more: What else belongs to it: parts, conditions.
        """
        figure: dict[str, Any] = {"value": value, "unit": unit}
        if target:
            figure |= {"target": target, "met": meets(value, target)}
        figure |= {**more, "command": command, "date": _today(), "revision": revision()}
        self._content["figures"][name] = figure

    def note(self, section: str, name: str, command: str, what: dict[str, Any]) -> None:
        """Sets what belongs to several figures, in a section of the file: a curve, a version."""
        entry = {**what, "command": command, "date": _today(), "revision": revision()}
        self._content.setdefault(section, {})[name] = entry

    def save(self) -> None:
        """Writes the file: whole or not at all."""
        figures = dict(sorted(self._content["figures"].items()))
        content = {
            "suite": self.path.stem,
            "commit": revision(),
            "machine": self._machine,
            "date": _today(),
            "commands": sorted({figure["command"] for figure in figures.values()}),
            "figures": figures,
        }
        for section in sorted(self._content.keys() - content.keys()):
            content[section] = dict(sorted(self._content[section].items()))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        written = self.path.with_suffix(".tmp")
        written.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        written.replace(self.path)


def meets(value: float, target: str) -> bool:
    """Returns whether a value is as a target (">= 8", "<= 0.01") wants it."""
    match = re.fullmatch(r"(>=|<=) (-?\d+(\.\d+)?)", target)
    if not match:
        raise ValueError(f"target {target!r}: expected '>= NUMBER' or '<= NUMBER'")
    bound = float(match.group(2))
    return value >= bound if match.group(1) == ">=" else value <= bound


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def _today() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
