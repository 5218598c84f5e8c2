"""What a process has in memory of segment files."""

from __future__ import annotations

import mmap
import os
import struct
from collections import Counter
from pathlib import Path

import pytest
from memory import FOOTER_BYTES, Resident, Section, resident, sections

PAGE = mmap.PAGESIZE


def segment_file(path: Path, lengths: dict[int, int]) -> None:
    """Writes a file with sections of these kinds and lengths, each filled with its kind."""
    body = b"AZSEGMNT".ljust(PAGE, b"\0")
    directory = struct.pack("<I", len(lengths))
    for kind, length in lengths.items():
        directory += struct.pack("<HHIQQI", kind, 1, 1, len(body), length, 0) + b"v"
        body += (bytes([kind]) * length).ljust(-(-length // PAGE) * PAGE, b"\0")
    footer = struct.pack("<QQQII8s", len(body), len(directory), 0, 0, 0, b"AZSEGEND")
    assert len(footer) == FOOTER_BYTES
    path.write_bytes(body + directory + footer)


def test_sections_are_those_of_the_directory(tmp_path: Path) -> None:
    path = tmp_path / "a.seg"
    segment_file(path, {1: 8, 5: PAGE + 1, 7: 16, 99: 4})
    assert sections(path) == [
        Section("row_ids", PAGE, 8),
        Section("vectors_f32", 2 * PAGE, PAGE + 1),
        Section("graph", 4 * PAGE, 16),
        Section("kind_99", 5 * PAGE, 4),
    ]


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 100])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.seg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.seg: it has no footer"):
        sections(path)


def test_pages_that_were_read_are_counted_by_section(tmp_path: Path) -> None:
    path = tmp_path / "a.seg"
    # A fault brings neighbours in, so sections are far longer than that reaches.
    segment_file(path, {5: 4096 * PAGE, 7: 4096 * PAGE, 99: 1})
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        before = resident(os.getpid())
        for page in range(1024):
            assert mapped[(1 + 4096 + 2048 + page) * PAGE] == 7
        after = resident(os.getpid())
    assert before.of_segments == 0
    assert 1024 * PAGE <= after.of_segments <= 2048 * PAGE
    assert after.sections["graph"] == after.of_segments
    assert after.sections["vectors_f32"] == 0
    assert after.anonymous > 0


def test_vectors_stand_apart_only_beside_codes() -> None:
    only_vectors = Resident(sections=Counter({"vectors_f32": 100, "graph": 10}))
    assert only_vectors.of_segments == 110
    with_codes = Resident(sections=Counter({"vectors_f32": 100, "graph": 10, "codes": 5}))
    assert with_codes.of_segments == 15


def test_memory_of_no_file_is_counted() -> None:
    before = resident(os.getpid()).anonymous
    with mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.write(b"x" * (16 << 20))
        assert resident(os.getpid()).anonymous >= before + (16 << 20)
