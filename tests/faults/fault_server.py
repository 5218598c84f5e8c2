"""A server process that can be started under limits, and faults of its files."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from faults import FaultShim
from server_process import ServerProcess, server_binary, wait_for

# Tests are about small stores: nothing is kept in reserve unless a test says so.
NO_BALLAST = ["--ballast-mb", "0"]


class FaultServer(ServerProcess):
    """One azimuthd at a time over one folder.

    Attributes:
        prefix: A command that becomes the server, such as `prlimit --nofile=64`.
        stderr: Where its log goes instead of the log file: a path, or "closed".
    """

    def __init__(self, folder: Path, *options: str, prefix: Sequence[str] = ()) -> None:
        """Makes the object; `start` runs the server."""
        super().__init__(folder, *options)
        self.prefix = tuple(prefix)
        self.stderr = ""

    def launch(self, environment: Mapping[str, str] | None = None) -> None:
        """Runs the program and does not wait for it."""
        assert self._process is None, "it runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._port_file.unlink(missing_ok=True)
        command = [*self.prefix, self.binary, "--data-dir", str(self.data_dir)]
        if "--listen" not in self.options:
            command += ["--listen", "127.0.0.1:0"]
        if "--ballast-mb" not in self.options:
            command += NO_BALLAST
        command += ["--port-file", str(self._port_file), *self.options]
        if self.stderr == "closed":
            command = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command]
        with open(self.stderr if self.stderr.startswith("/") else self.log_path, "ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, **self.environment, **(environment or {})},
                # As in a service, where nothing is ignored beforehand.
                restore_signals=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def host_port(self) -> tuple[str, int]:
        """Where it listens."""
        host, _, port = self.address.rpartition(":")
        return host, int(port)

    def watermark(self) -> int:
        """Returns the largest sequence number that it noted as synced."""
        path = self.data_dir / "WATERMARK"
        content = path.read_bytes() if path.exists() else b""
        return max((seq for (seq,) in struct.iter_unpack("<8xQ16x", content[:64])), default=0)

    def wait_synced(self, as_of: int) -> None:
        """Waits until it has noted outside of its log that it is synced up to there."""
        wait_for(f"the watermark is at {as_of}", lambda: self.watermark() >= as_of, 10)

    @property
    def rocks(self) -> Path:
        """RocksDB's part of the data directory."""
        return self.data_dir / "rocks"

    def logs(self) -> list[Path]:
        """Returns the files of the write-ahead log, the oldest first."""
        return sorted(self.rocks.glob("*.log"))

    def tables(self, family: str = "") -> list[Path]:
        """Returns the table files of RocksDB; of one column family if it is named."""
        tables = sorted(self.rocks.glob("*.sst"))
        return [path for path in tables if family in ("", _family(path))]

    def memory(self, name: str = "VmRSS") -> int:
        """Returns VmRSS, VmHWM or VmSize in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"^{name}:\s+(\d+) kB", status, re.M)
        assert found
        return int(found[1]) * 1024

    def cpu_seconds(self) -> float:
        """Returns what all of its threads have used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self) -> int:
        """Returns how many files and sockets it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def sockets(self) -> int:
        """Returns how many sockets it has open."""
        folder = Path(f"/proc/{self.pid}/fd")
        links = []
        for path in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(path))
        return sum(link.startswith("socket:") for link in links)

    def ends(self) -> int:
        """Starts it where it is expected to end by itself; returns its exit code."""
        self.launch()
        ready = self.wait_ready()
        assert not ready, "it serves"
        return self.wait()

    def last_lines(self, count: int = 20) -> str:
        """Returns the end of its log."""
        return "\n".join(self.log().splitlines()[-count:])

    def run_verify(
        self, *options: str, environment: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Runs `azimuthd verify` on the directory of a server that does not run."""
        run = subprocess.run(
            [server_binary(), "verify", *options, str(self.data_dir)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, **(environment or {})},
        )
        assert run.returncode in (0, 1), f"exit {run.returncode}: {run.stderr}{run.stdout}"
        report: dict[str, Any] = json.loads(run.stdout)
        assert report["sound"] == (run.returncode == 0)
        return report

    def assert_sound(self) -> None:
        """Kills it and has its directory verified."""
        self.kill()
        report = self.run_verify("--deep")
        assert report["sound"], report["findings"]


def _family(path: Path) -> str:
    """The column family that a table file says it is of.

    Its properties stand in the file as names and values, and of names only what the one before does
    not begin with.
    """
    found = re.search(rb"name([a-z]+)[^a-z]{3}mparator", path.read_bytes())
    return found[1].decode() if found else ""


def flip(path: Path, offset: int, mask: int = 0x10) -> None:
    """Changes one bit of a file in its place, so that a process that has it mapped sees it."""
    with open(path, "r+b") as file:
        file.seek(offset)
        [byte] = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ mask]))


def dead_copy(server: FaultServer, folder: Path) -> FaultServer:
    """Returns a server, not started, on a copy of the directory of one that does not run."""
    copy = FaultServer(folder, *server.options)
    copy.folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(server.data_dir, copy.data_dir)
    return copy


def shimmed(server: FaultServer) -> FaultShim:
    """A shim for it, which does nothing yet; starts of the server have it from now on."""
    shim = FaultShim(server.folder / "shim", server.data_dir, server.binary)
    server.environment.update(shim.environment())
    return shim


def free_port() -> int:
    """Returns a port of loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


__all__ = [
    "FaultServer",
    "dead_copy",
    "flip",
    "free_port",
    "shimmed",
    "wait_for",
]
