"""A real azimuthd process for tests: started on a folder, stopped, killed and started again.

The binary is named by AZIMUTH_SERVER; nothing here knows another place to look.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from azimuth_db import Client

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
POLL_S = 0.005

# Seals, builds and merges happen all the time.
TINY_SEGMENTS = ("--growing-rows-max", "256", "--graph-rows-min", "64", "--growing-idle-ms", "50")

T = TypeVar("T")


def wait_for(what: str, condition: Callable[[], T | None], timeout_s: float = 60.0) -> T:
    """Returns the first true value of `condition`; AssertionError after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"after {timeout_s:g} s still not: {what}"
        time.sleep(POLL_S)


def server_binary() -> str:
    """Returns the path of azimuthd; RuntimeError when AZIMUTH_SERVER does not name a program."""
    path = os.environ.get("AZIMUTH_SERVER", "")
    if not os.access(path, os.X_OK) or not os.path.isfile(path):
        raise RuntimeError(f"AZIMUTH_SERVER must name the azimuthd to test, and is {path!r}")
    return path


def has_failpoints(binary: str) -> bool:
    """True if the binary was built with failpoints; one without refuses to start with any armed."""
    run = subprocess.run(
        [binary, "--data-dir", "/dev/null/none"],
        env={**os.environ, "AZIMUTH_FAILPOINTS": "commit.before_log=error@1000000"},
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
    return "this build has no failpoints" not in run.stderr


class ServerProcess:
    """One azimuthd at a time over one folder. Not thread-safe, except `kill`.

    Attributes:
        folder: Holds `data` (the data directory), the port file and the logs.
        data_dir: The data directory.
        options: Command line options of every start.
        binary: The program.
    """

    def __init__(self, folder: Path, *options: str, binary: str | None = None) -> None:
        """Makes the object; `start` runs the server."""
        self.folder = folder
        self.data_dir = folder / "data"
        self.options = options
        self.address = ""
        self.environment: dict[str, str] = {}
        self.binary = binary if binary is not None else server_binary()
        self._process: subprocess.Popen[bytes] | None = None
        self._port_file = folder / "port"
        self.log_path = folder / "azimuthd.log"

    def launch(self, environment: Mapping[str, str] | None = None) -> None:
        """Runs the program and does not wait for it."""
        assert self._process is None, "it runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._port_file.unlink(missing_ok=True)
        command = [self.binary, "--data-dir", str(self.data_dir), "--listen", "127.0.0.1:0"]
        command += ["--port-file", str(self._port_file), "--ballast-mb", "0", *self.options]
        with open(self.log_path, "ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, **self.environment, **(environment or {})},
            )

    def wait_ready(self) -> bool:
        """Returns True once the server listens, False if it ended before."""
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._port_file.exists():
            if self._process.poll() is not None:
                return False
            assert time.monotonic() < deadline, f"azimuthd does not start:\n{self.log()}"
            time.sleep(POLL_S)
        self.address = self._port_file.read_text().strip()
        return True

    def start(self, environment: Mapping[str, str] | None = None) -> ServerProcess:
        """Runs the server and waits until it serves. AssertionError shows its log if it does not.

        `environment` is set in addition to the test's own, for this start only.
        """
        self.launch(environment)
        if not self.wait_ready():
            code = self.wait()
            raise AssertionError(f"azimuthd ended with {code} at its start:\n{self.log()}")
        return self

    def stop(self) -> int:
        """Asks it to stop (SIGTERM) and returns its exit code."""
        self.terminate()
        return self.wait()

    def terminate(self) -> None:
        """Asks it to stop (SIGTERM) and does not wait."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kills it at once (SIGKILL), if it runs."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(STOP_TIMEOUT_S)
        self._process = None

    def wait(self) -> int:
        """Waits until it ends by itself and returns its exit code."""
        assert self._process is not None
        code = self._process.wait(STOP_TIMEOUT_S)
        self._process = None
        return code

    def exit_code(self) -> int | None:
        """Returns the exit code of a server that ended by itself, else None."""
        return None if self._process is None else self._process.poll()

    def restart(self, *, hard: bool = False) -> ServerProcess:
        """Stops it (or kills it) and starts it on the same directory; the address changes."""
        if hard:
            self.kill()
        else:
            code = self.stop()
            assert code == 0, f"exit code {code} after SIGTERM:\n{self.log()}"
        return self.start()

    def client(self, timeout: float = 60.0) -> Client:
        """Returns a new client of it; the caller closes it."""
        return Client(self.address, timeout=timeout)

    def log(self) -> str:
        """Returns what it wrote to stderr in all of its starts."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def segment_files(self) -> list[Path]:
        """Returns the segment files that are in the data directory, by name."""
        return sorted((self.data_dir / "segments").glob("*.seg"))
