"""A small disk of its own: a tmpfs that a test can fill and make read-only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MIB = 1 << 20


class Disk:
    """One tmpfs.

    Attributes:
        path: Where it is mounted.
    """

    def __init__(self, path: Path, size_mib: int) -> None:
        """Mounts it; the test is skipped where that is not permitted."""
        self.path = path
        path.mkdir(parents=True)
        self._mount("-t", "tmpfs", "-o", f"size={size_mib}m", "none")

    def _mount(self, *arguments: str) -> None:
        command = ["mount", *arguments, str(self.path)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            pytest.skip(f"a disk of the test's own cannot be mounted here: {run.stderr.strip()}")

    def free_bytes(self) -> int:
        """Returns how much room is left."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def take(self, size: int, name: str = "filler") -> None:
        """Takes so much room, or all that is left if that is less."""
        size = min(size, self.free_bytes())
        with open(self.path / name, "ab") as file:
            if size > 0:
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)

    def give_back(self, name: str = "filler") -> None:
        """Gives it back."""
        (self.path / name).unlink()

    def make_read_only(self, read_only: bool = True) -> None:
        """Nothing on it can be changed any more; no file may be open for writing."""
        self._mount("-o", "remount,ro" if read_only else "remount,rw")


@contextmanager
def mounted(path: Path, size_mib: int) -> Iterator[Disk]:
    """Gives a disk and unmounts it at the end, whoever still has files of it open."""
    disk = Disk(path, size_mib)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False)
