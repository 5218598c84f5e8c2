"""What a power failure takes back: replays the journal of the fault shim (shim/journal.cc).

    journal = Journal(folder, data_dir)
    journal.begin()                                    # no server runs
    server.start(shim.environment(forget=folder))
    ...
    server.kill()
    journal.power_failure(random.Random(seed))         # the data directory is as after it

What is left, as in tests/support/sim_disk.h. Of a file: its bytes as of its last sync and a part of
what was written since (nothing, all, or up to any byte), in which sometimes a page has only zeros,
as when its place was allotted and its bytes were not written. Of names: those as of the last sync
of their directory, and of the changes since none, all, those up to some moment, or each as it
comes. Syncing a file says nothing of its name. The data directory itself stays.
"""

from __future__ import annotations

import enum
import os
import random
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

MAGIC = 0x4A465A41
HEADER = struct.Struct("<II6QIII4x")
PAGE = 4096
TORN_SHARE = 0.15


class Kind(enum.IntEnum):
    """What a record says; the numbers are those of shim/journal.cc."""

    CREATED = 1
    MADE_DIR = 2
    LINKED = 3
    WRITE = 4
    TRUNCATE = 5
    RENAME = 6
    UNLINK = 7
    FAILED = 8
    SYNCED = 9


class Change(NamedTuple):
    """One record."""

    kind: Kind
    seq: int
    inode: int
    offset: int
    length: int
    old_size: int
    replaced: int
    path: str
    other: str
    old: bytes


class Node(NamedTuple):
    """What a name stands for."""

    inode: int
    is_directory: bool


Names = dict[str, Node]  # By path below the data directory.


@dataclass
class Taken:
    """What power failures have taken back, in numbers."""

    power_failures: int = 0
    names_lost: int = 0
    files_cut: int = 0
    bytes_lost: int = 0
    pages_torn: int = 0
    torn: list[str] = field(default_factory=list)  # Files with torn pages, of the last failure.


def read_records(data: bytes) -> Iterator[Change]:
    """Yields the records; the last one may be cut off and is then not there."""
    at = 0
    while at + HEADER.size <= len(data):
        magic, kind, *numbers = HEADER.unpack_from(data, at)
        if magic != MAGIC:
            raise ValueError(f"journal: no record at byte {at} of {len(data)}")
        seq, inode, offset, length, old_size, replaced, path, other, old = numbers
        texts = at + HEADER.size
        end = texts + path + other + old
        if end > len(data):
            return
        yield Change(
            Kind(kind), seq, inode, offset, length, old_size, replaced,
            data[texts : texts + path].decode(),
            data[texts + path : texts + path + other].decode(),
            data[texts + path + other : end],
        )  # fmt: skip
        at = end


def folder_of(path: str) -> str:
    """Returns the path of the directory that holds a path; empty for the data directory."""
    parent = str(PurePosixPath(path).parent)
    return "" if parent == "." else parent


def names_below(folder: Path) -> Names:
    """Returns everything in a folder."""
    names: Names = {}
    for at, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            full = Path(at) / name
            info = full.lstat()
            names[full.relative_to(folder).as_posix()] = Node(info.st_ino, full.is_dir())
    return names


def apply_name(names: Names, change: Change) -> None:
    """Makes a change of names; one whose source was lost still has its effect."""
    if change.kind in (Kind.CREATED, Kind.MADE_DIR):
        names[change.path] = Node(change.inode, change.kind is Kind.MADE_DIR)
    elif change.kind is Kind.UNLINK:
        names.pop(change.path, None)
    elif change.kind is Kind.LINKED:
        names[change.other] = Node(change.inode, False)
    elif change.kind is Kind.RENAME:
        node = names.pop(change.path, Node(change.inode, False))
        names[change.other] = node._replace(inode=change.inode)


NAME_KINDS = (Kind.CREATED, Kind.MADE_DIR, Kind.LINKED, Kind.UNLINK, Kind.RENAME)


class Journal:
    """The journal of one data directory, from one start of its server to the next.

    Attributes:
        folder: For AZIMUTH_FORGET. On the file system of the data directory, and not in it.
        taken: What was taken back so far.
    """

    def __init__(self, folder: Path, data_dir: Path) -> None:
        """Makes the object; `begin` makes the folder."""
        self.folder = folder
        self.taken = Taken()
        self._data_dir = data_dir
        self._start: Names = {}

    def begin(self) -> None:
        """Takes everything that is there as synced. No server may run."""
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "trash").mkdir(parents=True)
        self._start = names_below(self._data_dir)

    def power_failure(self, chooser: random.Random) -> None:
        """Leaves of the data directory what a power failure may leave. The server must be dead."""
        changes = self._read()
        names, lost = self._choose_names(changes, chooser)
        self.taken.power_failures += 1
        self.taken.names_lost += lost
        self.taken.torn = []
        self._stage(names)
        self._cut_files(names, changes, chooser)
        self._put_back(names)
        self.begin()

    def _read(self) -> list[Change]:
        path = self.folder / "journal"
        changes = list(read_records(path.read_bytes())) if path.exists() else []
        failed = {c.offset for c in changes if c.kind is Kind.FAILED}
        kept = [c for c in changes if c.seq not in failed and c.kind is not Kind.FAILED]
        if kept and kept[-1] is changes[-1] and not self._happened(kept[-1]):
            kept.pop()
        return kept

    def _happened(self, last: Change) -> bool:
        """Returns whether the change of the last record, of names, was made before the death."""
        if last.kind is Kind.RENAME:
            return self._inode(last.path) != last.inode
        if last.kind is Kind.UNLINK:
            return self._inode(last.path) != last.inode
        return True

    def _inode(self, path: str) -> int:
        full = self._data_dir / path
        return full.lstat().st_ino if os.path.lexists(full) else 0

    def _choose_names(self, changes: list[Change], chooser: random.Random) -> tuple[Names, int]:
        """Returns the names that are left, and how many changes were taken back."""
        synced: dict[str, int] = {}
        for change in changes:
            if change.kind is Kind.SYNCED:
                synced[change.path] = max(synced.get(change.path, 0), change.offset)
        live, left = dict(self._start), dict(self._start)
        pending: list[Change] = []
        for change in changes:
            if change.kind not in NAME_KINDS or not change.path:
                continue
            apply_name(live, change)
            folders = {folder_of(path) for path in (change.path, change.other) if path}
            if any(synced.get(folder, 0) >= change.seq for folder in folders):
                apply_name(left, change)
            else:
                pending.append(change)
        way, some = chooser.randrange(4), chooser.randint(0, len(pending))
        lost = 0
        for i, change in enumerate(pending):
            each = way == 3 and chooser.random() < 0.5
            if way == 1 or (way == 2 and i < some) or each:
                apply_name(left, change)
            else:
                lost += 1
        # What the shim has not seen made (a log by way of stdio) stays.
        actual = names_below(self._data_dir)
        left |= {path: node for path, node in actual.items() if path not in live}
        return self._with_folders(left), lost

    def _with_folders(self, names: Names) -> Names:
        """Returns those whose directories are all there."""
        left: Names = {}
        for path in sorted(names):
            parent = folder_of(path)
            if not parent or (parent in left and left[parent].is_directory):
                left[path] = names[path]
        return left

    # The files, by way of a folder where each has the name of its inode.

    def _staged(self, inode: int) -> Path:
        return self.folder / "stage" / str(inode)

    def _stage(self, names: Names) -> None:
        """Links all files that are left, those in the trash too, and empties the directory."""
        (self.folder / "stage").mkdir()
        sources = {
            node.inode: folder / path
            for folder in (self.folder / "trash", self._data_dir)
            for path, node in names_below(folder).items()
            if not node.is_directory
        }
        for path, node in names.items():
            if node.is_directory or self._staged(node.inode).exists():
                continue
            if node.inode not in sources:
                raise RuntimeError(f"{path}: inode {node.inode} is neither there nor in the trash")
            os.link(sources[node.inode], self._staged(node.inode))
        for path in self._data_dir.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _put_back(self, names: Names) -> None:
        for path, node in sorted(names.items()):
            if node.is_directory:
                (self._data_dir / path).mkdir()
            else:
                os.link(self._staged(node.inode), self._data_dir / path)

    def _cut_files(self, names: Names, changes: list[Change], chooser: random.Random) -> None:
        synced: dict[int, int] = {}
        writes: dict[int, list[Change]] = {}
        for change in changes:
            if change.kind is Kind.SYNCED:
                synced[change.inode] = max(synced.get(change.inode, 0), change.offset)
            elif change.kind in (Kind.WRITE, Kind.TRUNCATE):
                writes.setdefault(change.inode, []).append(change)
        for path, node in sorted(names.items()):
            unsynced = [c for c in writes.get(node.inode, []) if c.seq > synced.get(node.inode, 0)]
            if not node.is_directory and unsynced:
                # Two names of one file: what is left of it is settled once.
                writes.pop(node.inode)
                self._cut(path, self._staged(node.inode), unsynced, chooser)

    def _cut(self, path: str, file: Path, unsynced: list[Change], chooser: random.Random) -> None:
        before = file.read_bytes()
        data = bytearray(before)
        way = chooser.randrange(3)  # Nothing of it, all, or some.
        kept = (0, len(unsynced), chooser.randrange(len(unsynced)))[way]
        for change in reversed(unsynced[kept:]):
            partial = way == 2 and change is unsynced[kept] and change.kind is Kind.WRITE
            undo(data, change, chooser.randint(0, change.length) if partial else 0)
        self.taken.bytes_lost += max(len(before) - len(data), 0)
        grown_from = unsynced[0].old_size
        if len(data) > grown_from and chooser.random() < TORN_SHARE:
            at = chooser.randrange(grown_from, len(data))
            first, last = (
                max(at // PAGE * PAGE, grown_from),
                min(-(-(at + 1) // PAGE) * PAGE, len(data)),
            )
            data[first:last] = bytes(last - first)
            self.taken.pages_torn += 1
            self.taken.torn.append(path)
        if data != before:
            self.taken.files_cut += 1
            # In place: other names of it are the same file.
            file.write_bytes(data)


def undo(data: bytearray, change: Change, kept: int = 0) -> None:
    """Takes one write or truncation back from a file's bytes; of a write, all but `kept` bytes."""
    if change.kind is Kind.TRUNCATE:
        if change.offset < change.old_size:
            old = change.old + bytes(change.old_size - change.offset - len(change.old))
            data[change.offset :] = old
        else:
            del data[change.old_size :]
        return
    old = change.old[kept:]
    begin = change.offset + kept
    data[begin : begin + len(old)] = old
    del data[max(change.old_size, min(begin, len(data))) :]
