"""Files out of the page cache."""

from __future__ import annotations

import mmap
from pathlib import Path

import page_cache
import pytest


def test_what_was_just_written_is_resident_until_it_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not the cache of the whole machine.
    monkeypatch.setattr(page_cache, "DROP_CACHES", tmp_path / "none/drop_caches")
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    file = folder / "deep/file"
    file.write_bytes(b"x" * (mmap.PAGESIZE + 1))
    (folder / "empty").touch()
    (folder / "link").symlink_to(file)
    assert list(page_cache.files_under([folder])) == [file, folder / "empty"]
    assert page_cache.resident_bytes(file) == 2 * mmap.PAGESIZE
    assert page_cache.resident_bytes(folder / "empty") == 0
    dropped = page_cache.drop(folder)
    assert dropped["method"] == "fadvise"
    assert dropped["bytes"] == mmap.PAGESIZE + 1
    # Some file systems keep everything in memory; then the figure says so.
    assert dropped["resident_bytes"] == page_cache.resident_bytes(file)
