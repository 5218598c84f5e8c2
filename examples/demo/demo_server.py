"""An azimuthd that the demo starts, kills and stops, and the folder that it works in.

The folder holds `data` (the server's), `azimuthd.log`, `port` and a marker. Only a folder with the
marker is emptied, and only of these names.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

HOST = "127.0.0.1"
MARKER = ".azimuth-demo"
START_S = 60.0
STOP_S = 30.0
LOG_LINES = 15


class ServerError(Exception):
    """The server cannot run, or stopped; the text says why."""


def prepare_folder(folder: Path) -> None:
    """Makes the folder, or empties it when an earlier demo made it; ServerError otherwise."""
    marker = folder / MARKER
    try:
        if folder.exists() and not folder.is_dir():
            raise ServerError(f"--data-dir {folder} is not a folder")
        if folder.exists() and not marker.exists() and any(folder.iterdir()):
            raise ServerError(
                f"--data-dir {folder} holds files that are not the demo's; they stay as they are.\n"
                "Choose an empty or new folder."
            )
        folder.mkdir(parents=True, exist_ok=True)
        marker.write_text("The Azimuth demo made this folder and empties it when it starts.\n")
        _check_unlocked(folder / "data" / "LOCK", folder)
        shutil.rmtree(folder / "data", ignore_errors=True)
        for name in ("azimuthd.log", "port"):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise ServerError(f"--data-dir {folder}: {error.strerror}") from None


def _check_unlocked(lock: Path, folder: Path) -> None:
    if not lock.exists():
        return
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServerError(
                f"a server runs on {folder / 'data'}, perhaps one that an earlier --keep left.\n"
                "Stop it, or choose another folder with --data-dir."
            ) from None


def check_port(port: int) -> None:
    """ServerError when something listens at the port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            what = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used: {error}"
            raise ServerError(
                f"port {port} of {HOST} {what}.\n"
                "Choose another one with --port (0: any free one), as in ./dev demo --port 7700"
            ) from None


class DemoServer:
    """One server; it outlives this process unless `stop` or `kill` is called."""

    def __init__(self, binary: Path, folder: Path, port: int) -> None:
        """Starts nothing yet; the folder is a prepared one."""
        self.binary = binary
        self.folder = folder
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """The server's data directory."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What the server wrote to stdout and stderr."""
        return self.folder / "azimuthd.log"

    @property
    def address(self) -> str:
        """HOST:PORT to connect to."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id; None when it does not run."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Starts the server and returns once it listens; ServerError with the end of its log."""
        port_file = self.folder / "port"
        port_file.unlink(missing_ok=True)
        command = [
            str(self.binary),
            *("--data-dir", str(self.data)),
            *("--listen", self.address),
            *("--port-file", str(port_file)),
        ]
        with self.log.open("ab") as log:
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is for the demo, which stops the server.
                )
            except OSError as error:
                raise ServerError(f"{self.binary}: {error.strerror}") from None
        deadline = time.monotonic() + START_S
        while not port_file.exists():
            if (status := self._process.poll()) is not None:
                self._process = None
                raise ServerError(f"the server ended with status {status}.\n{self.log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerError(
                    f"the server does not listen after {START_S:.0f} s.\n{self.log_tail()}"
                )
            time.sleep(0.005)
        self.port = int(port_file.read_text().strip().rpartition(":")[2])

    def ended(self) -> bool:
        """Whether the server ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def kill(self) -> None:
        """Ends the server as a crash would (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Asks the server to stop, and kills it when it does not."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
            self._process = None
        except subprocess.TimeoutExpired:
            self.kill()

    def log_tail(self) -> str:
        """Returns the last lines of the log, with its place."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        except OSError as error:
            return f"Its log {self.log} cannot be read: {os.strerror(error.errno or 0)}"
        return "\n".join([f"The end of its log {self.log}:", *(f"  {line}" for line in lines)])
