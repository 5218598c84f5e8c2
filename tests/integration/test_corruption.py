"""Damaged segment files: the server starts, answers rightly and builds the file anew.

Segment files can all be made again from the rows in RocksDB. Damage that the container shows
(header, footer, directory, length), or in what says which rows there are, is found when the file is
opened; damage of columns, vectors and graphs before a first answer depends on them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from azimuth_db import VectorField
from server_process import TINY_SEGMENTS, ServerProcess, wait_for

ROWS, DIM, QUERIES = 2000, 8, 25
FOOTER_BYTES = 40
SECTIONS = {
    "row ids": 1,
    "insert sequence numbers": 2,
    "keys": 3,
    "vectors": 5,
    "node positions": 6,
    "graph": 7,
    "field column": 8,
    "dynamic column": 9,
}

Damage = Callable[[Path], None]


class Data:
    """What is stored, and what exact searches must answer. Small integers: no rounding at all."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self.keys = np.arange(ROWS)
        self.base = rng.integers(-50, 50, (ROWS, DIM)).astype("f4")
        self.queries = rng.integers(-50, 50, (QUERIES, DIM)).astype("f4")
        self.labels = self.keys % 7
        self.nearest = reference.nearest(self.base, self.keys, self.queries, 10, "l2")
        some = self.keys[self.labels == 3]
        self.filtered = reference.nearest(self.base[some], some, self.queries, 10, "l2")

    def fill(self, server: ServerProcess) -> None:
        """Stores all, in several segments."""
        with server.client() as db:
            items = db.create_collection("items", {"v": VectorField(DIM, "l2")}, {"label": "int64"})
            for part in np.array_split(self.keys, 8):
                fields = {"label": self.labels[part], "extra": part % 5}
                items.insert(part, self.base[part], fields)
            items.wait_indexed()

    def check(self, server: ServerProcess) -> None:
        """Asks everything and compares."""
        with server.client() as db:
            items = db.collection("items")
            found = items.search_batch(self.queries, 10, exact=True, output_fields=[])
            np.testing.assert_array_equal(found.keys, self.nearest[0])
            np.testing.assert_array_equal(found.distances, self.nearest[1])
            for text in ("label == 3", "extra >= 0 and label == 3"):
                found = items.search_batch(
                    self.queries, 10, exact=True, filter=text, output_fields=[]
                )
                np.testing.assert_array_equal(found.keys, self.filtered[0])
            assert items.count() == ROWS
            assert items.count("extra == 2") == ROWS // 5
            records = items.get(self.keys, output_vectors=["v"])
            assert [r and r.key for r in records] == self.keys.tolist()
            assert [r and r.fields["label"] for r in records] == self.labels.tolist()
            np.testing.assert_array_equal([r.vectors["v"] for r in records if r], self.base)
            graph = items.search_batch(self.queries, 10, output_fields=[])
            assert (graph.counts == 10).all()
            assert (graph.distances <= self.nearest[1][:, 9:]).mean() >= 0.9

    def wait_rebuilt(self, server: ServerProcess) -> None:
        """Waits until every row is in a segment file again."""
        with server.client() as db:
            items = db.collection("items")

            def rebuilt() -> bool:
                stats = items.stats()
                return stats.unindexed_rows == 0 and all(s.id for s in stats.segments)

            wait_for("all rows in segment files", rebuilt)


@pytest.fixture(scope="module")
def data() -> Data:
    return Data()


@pytest.fixture
def filled(server_factory: Callable[..., ServerProcess], data: Data) -> ServerProcess:
    """A server that was stopped with all rows in segment files."""
    server = server_factory(*TINY_SEGMENTS)
    data.fill(server)
    data.check(server)
    assert server.stop() == 0
    return server


def largest(server: ServerProcess) -> Path:
    return max(server.segment_files(), key=lambda path: path.stat().st_size)


def quarantined(server: ServerProcess) -> list[Path]:
    return list((server.data_dir / "quarantine").iterdir())


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x10
    path.write_bytes(content)


def directory_of(path: Path) -> tuple[int, dict[int, tuple[int, int]]]:
    """Returns the directory's offset, and offset and length of a section of each kind."""
    content = path.read_bytes()
    start, _ = struct.unpack_from("<QQ", content, len(content) - FOOTER_BYTES)
    [count] = struct.unpack_from("<I", content, start)
    sections: dict[int, tuple[int, int]] = {}
    at = start + 4
    for _ in range(count):
        kind, name_length, _, offset, length, _ = struct.unpack_from("<HHIQQI", content, at)
        at += 28 + name_length
        if length:
            sections[kind] = (offset, length)
    return start, sections


def truncate(to: Callable[[int], int]) -> Damage:
    def damage(path: Path) -> None:
        with open(path, "r+b") as file:
            file.truncate(to(path.stat().st_size))

    return damage


def other_bytes(path: Path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)


def append_byte(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"\0")


CONTAINER_DAMAGE: dict[str, Damage] = {
    "header magic": lambda path: flip(path, 0),
    "header version": lambda path: flip(path, 8),
    "header row count": lambda path: flip(path, 32),
    "header checksum": lambda path: flip(path, 127),
    "footer": lambda path: flip(path, path.stat().st_size - FOOTER_BYTES + 3),
    "footer magic": lambda path: flip(path, path.stat().st_size - 1),
    "directory": lambda path: flip(path, directory_of(path)[0] + 9),
    "cut in half": truncate(lambda size: size // 2),
    "cut by one byte": truncate(lambda size: size - 1),
    "cut to ten bytes": truncate(lambda size: 10),
    "emptied": truncate(lambda size: 0),
    "longer by one byte": append_byte,
    "other bytes": other_bytes,
}


@pytest.mark.parametrize("name", CONTAINER_DAMAGE)
def test_a_file_that_does_not_open_is_set_aside_and_built_again(
    filled: ServerProcess, data: Data, name: str
) -> None:
    bad = largest(filled)
    CONTAINER_DAMAGE[name](bad)
    damaged = bad.read_bytes()
    filled.start()
    data.check(filled)
    assert [path.read_bytes() for path in quarantined(filled)] == [damaged]
    data.wait_rebuilt(filled)
    data.check(filled)
    filled.restart()
    data.check(filled)
    assert len(quarantined(filled)) == 1


def test_files_that_are_gone_are_built_again(filled: ServerProcess, data: Data) -> None:
    for path in filled.segment_files():
        path.unlink()
    filled.start()
    data.check(filled)
    assert quarantined(filled) == []
    data.wait_rebuilt(filled)
    assert filled.segment_files()
    data.check(filled)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_with_a_flipped_bit_is_found_and_built_again(
    filled: ServerProcess, data: Data, name: str
) -> None:
    bad = largest(filled)
    offset, length = directory_of(bad)[1][SECTIONS[name]]
    flip(bad, offset + length // 2)
    damaged = bad.read_bytes()
    bad_id = int(bad.stem, 16)
    filled.start()
    data.check(filled)
    with filled.client() as db:
        items = db.collection("items")

        def set_aside() -> bool:
            # The file is moved first, and no longer answers only then.
            return bool(quarantined(filled)) and bad_id not in [
                segment.id for segment in items.stats().segments
            ]

        wait_for("the file is set aside", set_aside)
    assert [path.read_bytes() for path in quarantined(filled)] == [damaged]
    data.wait_rebuilt(filled)
    data.check(filled)
    filled.restart(hard=True)
    data.check(filled)


def test_every_file_bad_at_once(filled: ServerProcess, data: Data) -> None:
    count = 0
    for path in filled.segment_files():
        flip(path, path.stat().st_size - 20)
        count += 1
    filled.start()
    data.check(filled)
    assert len(quarantined(filled)) == count
    data.wait_rebuilt(filled)
    data.check(filled)


@pytest.mark.parametrize("name", ["vectors", "graph", "field column"])
def test_a_bad_section_in_every_file_at_once(filled: ServerProcess, data: Data, name: str) -> None:
    files = filled.segment_files()
    for path in files:
        sections = directory_of(path)[1]
        offset, length = sections.get(SECTIONS[name], sections[SECTIONS["vectors"]])
        flip(path, offset + length // 3)
    filled.start()
    data.check(filled)
    wait_for("the files are set aside", lambda: len(quarantined(filled)) == len(files))
    data.wait_rebuilt(filled)
    data.check(filled)


def test_a_file_of_another_segment_in_its_place_is_set_aside(
    server_factory: Callable[..., ServerProcess], filled: ServerProcess, data: Data
) -> None:
    other = server_factory(*TINY_SEGMENTS, folder="other")
    Data().fill(other)
    assert other.stop() == 0
    largest(filled).write_bytes(largest(other).read_bytes())
    filled.start()
    data.check(filled)
    assert len(quarantined(filled)) == 1
    data.wait_rebuilt(filled)
    data.check(filled)


def test_left_over_files_are_removed_and_unknown_ones_stay(
    filled: ServerProcess, data: Data
) -> None:
    segments = filled.data_dir / "segments"
    left_over: list[Any] = [
        segments / "00000000000fffff.seg",
        segments / "00000000000ffffe.seg.tmp",
    ]
    for path in left_over:
        path.write_bytes(b"half of a file")
    (segments / "notes.txt").write_text("mine")
    before = set(filled.segment_files())
    filled.start()
    data.check(filled)
    assert not any(path.exists() for path in left_over)
    assert (segments / "notes.txt").read_text() == "mine"
    assert before - set(left_over) <= set(filled.segment_files())
    assert quarantined(filled) == []
