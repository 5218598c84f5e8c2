"""Directories are prepared as the formats say."""

from __future__ import annotations

import random
from pathlib import Path

from scenes import TITLE, crc32c, set_scene


def test_the_checksum_is_that_of_castagnoli() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_a_damaged_segment_differs_in_one_byte_of_its_header(tmp_path: Path) -> None:
    (tmp_path / "segments").mkdir()
    path = tmp_path / "segments/0000000000000001.seg"
    path.write_bytes(bytes(200))
    assert set_scene("quarantine.before_catalog", tmp_path, random.Random(1)) == path
    content = path.read_bytes()
    assert next(i for i, byte in enumerate(content) if byte) < 64
    assert sum(map(bool, content)) == 1


def test_other_failpoints_need_nothing(tmp_path: Path) -> None:
    assert set_scene("commit.before_log", tmp_path, random.Random(1)) is None
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_the_format_before_has_what_that_has(tmp_path: Path) -> None:
    (tmp_path / "WATERMARK").write_bytes(bytes(64))
    path = tmp_path / "FORMAT"
    path.write_text(f"{TITLE}3\ninstance 0123456789abcdef\nincarnation {'f' * 16}\ncrc32c 0\n")
    set_scene("upgrade.after_format", tmp_path, random.Random(1))
    text = f"{TITLE}2\nincarnation 0123456789abcdef\n"
    assert path.read_text() == f"{text}crc32c {crc32c(text.encode()):08x}\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["FORMAT"]
