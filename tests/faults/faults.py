"""System calls of a server that fail, are slow or are forgotten: the Python side of shim/.

    shim = FaultShim(folder, server.data_dir, server.binary)
    server.start(shim.environment("fdatasync(*.log)@3=EIO"))   # from the start, or
    server.start(shim.environment())
    shim.set("space@1=ENOSPC:sticky")                          # while it runs: the disk is full
    shim.clear()                                               # and is not any more
    shim.counts()["fdatasync"], shim.hits(), shim.first_hit()

Rules are those of shim/fault_shim.h: `call[(glob)]@n[-m]=ACTION[:sticky]`, joined by semicolons.
Calls: open (for reading), create (open for writing), close, read, pread, write, pwrite, fsync,
fdatasync, sync_range, rename, unlink, mkdir, truncate, allocate, mmap, link, accept, clock; and the
groups sync, space (all that take space), change (all that change the disk), any (all on files).
Actions: ENOSPC, EIO, EMFILE, ENFILE, ENOMEM, EINTR, EAGAIN, EROFS, EACCES, EDQUOT, EPERM, ENOENT;
short; sleep:MS; kill; skip (of a sync, which then only says that it worked); and for clock
offset:MS and freeze. Only files below the data directory count, and accept of any socket.

The shim lies in the build folder of the server (<build>/tests/faults/azimuth_fault_shim.so), or
where AZIMUTH_FAULT_SHIM says.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

CALLS = (
    "open", "create", "close", "read", "pread", "write", "pwrite", "fsync", "fdatasync",
    "sync_range", "rename", "unlink", "mkdir", "truncate", "allocate", "mmap", "link", "accept",
    "clock",
)  # fmt: skip
# See shim/fault_shim.h.
CONTROL_BYTES = 4096
COUNTS_BYTES = 4096
HITS_OFFSET = 512
FIRST_HIT_OFFSET = 1024
LAST_HIT_OFFSET = 2048
HIT_BYTES = 512


def shim_library(server: str) -> Path:
    """Returns the library to preload before this server; RuntimeError if it is not there."""
    named = os.environ.get("AZIMUTH_FAULT_SHIM", "")
    build = Path(server).resolve().parents[1]
    path = Path(named) if named else build / "tests/faults/azimuth_fault_shim.so"
    if not path.is_file():
        raise RuntimeError(
            f"{path}: the fault shim is not there; build the target azimuth_fault_shim, or set "
            "AZIMUTH_FAULT_SHIM"
        )
    return path


class FaultShim:
    """The shim of one server, over any number of its starts.

    Not thread-safe. Its files lie beside the data directory.
    """

    def __init__(self, folder: Path, data_dir: Path, server: str) -> None:
        """Makes the files that `environment` names.

        Args:
            folder: Where they lie; not in the data directory.
            data_dir: Calls on files below it count.
            server: The program, for the place of the library.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._library = shim_library(server)
        self._data_dir = data_dir
        self._counts = folder / "fault_counts"
        self._control = folder / "fault_control"
        self._generation = 0
        self._write_control("")

    def environment(self, rules: str = "", *, forget: Path | None = None) -> dict[str, str]:
        """Returns what to add to the environment of one start. Counts begin again.

        Args:
            rules: What fails from the start on; empty: nothing until `set`.
            forget: The folder of a journal (unsynced.Journal); None: nothing is noted.
        """
        self.set(rules)
        self._counts.unlink(missing_ok=True)
        more = {} if forget is None else {"AZIMUTH_FORGET": str(forget)}
        return {
            "LD_PRELOAD": str(self._library),
            "AZIMUTH_FAULT_DIR": str(self._data_dir),
            "AZIMUTH_FAULT_COUNTS": str(self._counts),
            "AZIMUTH_FAULT_CONTROL": str(self._control),
            **more,
        }

    def set(self, rules: str) -> None:
        """Replaces the rules, from the server's next call on. Their counting begins at 1."""
        self._write_control(rules)

    def clear(self) -> None:
        """Ends all faults."""
        self.set("")

    def counts(self) -> dict[str, int]:
        """Returns the calls since the start, by kind; with the server dead, those of its life."""
        numbers = struct.unpack_from(f"<{len(CALLS)}Q", self._read_counts())
        return dict(zip(CALLS, numbers))

    def hits(self) -> int:
        """Returns how often a rule did something since the start."""
        [hits] = struct.unpack_from("<Q", self._read_counts(), HITS_OFFSET)
        return int(hits)

    def first_hit(self) -> str:
        """Returns the first call that met a rule, as "write rocks/000004.log"; empty: none yet."""
        return self._text(FIRST_HIT_OFFSET)

    def last_hit(self) -> str:
        """Returns the last one."""
        return self._text(LAST_HIT_OFFSET)

    def _text(self, offset: int) -> str:
        text = self._read_counts()[offset : offset + HIT_BYTES]
        return text.partition(b"\0")[0].decode()

    def _read_counts(self) -> bytes:
        return self._counts.read_bytes() if self._counts.exists() else bytes(COUNTS_BYTES)

    def _write_control(self, rules: str) -> None:
        text = rules.encode()
        if len(text) > CONTROL_BYTES - 17:
            raise ValueError(f"{len(text)} bytes of rules: at most {CONTROL_BYTES - 17} are taken")
        if not self._control.exists():
            self._control.write_bytes(bytes(CONTROL_BYTES))
        with open(self._control, "r+b") as file, mmap.mmap(file.fileno(), CONTROL_BYTES) as shared:
            # An odd generation: it is being written.
            self._generation += 1
            struct.pack_into("<Q", shared, 0, self._generation)
            struct.pack_into("<Q", shared, 8, len(text))
            shared[16 : 16 + len(text)] = text
            self._generation += 1
            struct.pack_into("<Q", shared, 0, self._generation)
