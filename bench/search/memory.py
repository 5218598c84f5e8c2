"""What a process has in memory of a data directory: by section of its segment files, and the rest.

The layout of segment files is that of docs/FORMATS.md, "Segment container".
"""

from __future__ import annotations

import mmap
import re
import struct
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

FOOTER_BYTES = 40
KIND_NAMES = {
    1: "row_ids",
    2: "insertion_numbers",
    3: "keys",
    4: "partitions",
    5: "vectors_f32",
    6: "node_positions",
    7: "graph",
    8: "columns",
    9: "columns",
    10: "expiries",
    11: "codes",
    12: "calibration",
    13: "vectors_u8",
}
# Read to measure again what walks by codes have found.
APART = ("vectors_f32", "vectors_u8")
_PAGE = mmap.PAGESIZE
_PRESENT = 1 << 63
_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) \S+ \d+\s*(.*)$")


@dataclass(frozen=True)
class Section:
    """One section of a segment file."""

    name: str
    offset: int
    length: int


@dataclass
class Resident:
    """Bytes in memory.

    Attributes:
        anonymous: Of no file: heap, stacks, huge pages.
        sections: Pages of segment files, by what they hold.
        other_files: Pages of programs, libraries and other files.
    """

    anonymous: int = 0
    sections: Counter[str] = field(default_factory=Counter)
    other_files: int = 0

    @property
    def has_codes(self) -> bool:
        """Whether walks read codes and not the vectors."""
        return "codes" in self.sections

    @property
    def of_segments(self) -> int:
        """Pages of codes, graph and columns; of vectors in full precision only without codes."""
        apart = sum(self.sections[name] for name in APART) if self.has_codes else 0
        return sum(self.sections.values()) - apart


def sections(path: Path) -> list[Section]:
    """Returns the sections of a segment file. ValueError if it is none."""
    raw = path.read_bytes() if path.stat().st_size < FOOTER_BYTES else None
    with open(path, "rb") as file:
        size = path.stat().st_size
        file.seek(max(size - FOOTER_BYTES, 0))
        footer = raw or file.read(FOOTER_BYTES)
        if len(footer) != FOOTER_BYTES or footer[32:] != b"AZSEGEND":
            raise ValueError(f"{path}: it has no footer of a segment file")
        offset, length = struct.unpack_from("<QQ", footer)
        file.seek(offset)
        directory = file.read(length)
    found = []
    (count,) = struct.unpack_from("<I", directory)
    at = 4
    for _ in range(count):
        kind, name_length, _, begin, bytes_of = struct.unpack_from("<HHIQQ", directory, at)
        at += 28 + name_length
        found.append(Section(KIND_NAMES.get(kind, f"kind_{kind}"), begin, bytes_of))
    return found


def resident(pid: int) -> Resident:
    """Returns what a process has in memory now; it must be one's own, or root asks."""
    all_of_it = Resident()
    start = end = offset = 0
    name = ""
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        mapping = _MAPPING.match(line)
        if mapping:
            start, end, offset = (int(number, 16) for number in mapping.groups()[:3])
            name = mapping.group(4)
            if name.endswith(".seg"):
                all_of_it.sections += _pages_of_sections(pid, start, end, offset, Path(name))
        elif line.startswith("Anonymous:"):
            all_of_it.anonymous += _kilobytes(line)
            if name.startswith("/") and not name.endswith(".seg"):
                all_of_it.other_files -= _kilobytes(line)
        elif line.startswith("Rss:") and name.startswith("/") and not name.endswith(".seg"):
            all_of_it.other_files += _kilobytes(line)
    return all_of_it


def _kilobytes(line: str) -> int:
    return int(line.split()[1]) * 1024


def _pages_of_sections(pid: int, start: int, end: int, offset: int, path: Path) -> Counter[str]:
    pages = (end - start) // _PAGE
    with open(f"/proc/{pid}/pagemap", "rb") as file:
        file.seek(start // _PAGE * 8)
        entries = struct.unpack(f"<{pages}Q", file.read(pages * 8))
    counted: Counter[str] = Counter()
    for section in sections(path):
        first = (section.offset - offset) // _PAGE
        last = -(-(section.offset + section.length - offset) // _PAGE)
        present = sum(bool(entry & _PRESENT) for entry in entries[max(first, 0) : max(last, 0)])
        counted[section.name] += present * _PAGE
    return counted
