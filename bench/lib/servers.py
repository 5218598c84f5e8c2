"""What the parts of a benchmark are given, and servers that they start."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from azimuth_db import Client
from server_process import ServerProcess

TIMEOUT_S = 3600.0


def say(text: str) -> None:
    """Prints a line at once."""
    print(f"  {text}", flush=True)


@dataclass(frozen=True)
class Bench:
    """What every part is given.

    Attributes:
        build: The folder of the release build.
        folder: For files that go away at the end.
        kept: For what another run may use again: loaded data, indexes of baselines.
        quick: Whether this only tries the script.
    """

    build: Path
    folder: Path
    kept: Path
    quick: bool

    def server(self, folder: Path) -> ServerProcess:
        """Returns a server over `folder`/data, not started."""
        return ServerProcess(folder, binary=str(self.build / "server/azimuthd"))


@contextmanager
def running(server: ServerProcess) -> Iterator[Client]:
    """Starts a server; yields a client of it; kills it at the end."""
    server.start()
    try:
        with server.client(timeout=TIMEOUT_S) as client:
            yield client
    finally:
        server.kill()


def copy_server(source: Path, folder: Path) -> None:
    """Copies the data directory of a server that does not run to that of another."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    subprocess.run(["cp", "-a", str(source / "data"), str(folder / "data")], check=True)
