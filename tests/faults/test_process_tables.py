"""Damaged files of RocksDB: tables, MANIFEST, CURRENT; and files that nobody knows."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from azimuth_db import DataLoss
from conftest import Make
from fault_items import Items
from fault_server import FaultServer, dead_copy, flip

ROWS = 600
# A data block of a table has about 4 KiB: a flip hits few rows of many.
DIMENSION = 32


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaultServer, Items]:
    """A server that was stopped with all rows in table files, and none in a segment file."""
    server = FaultServer(tmp_path_factory.mktemp("tables") / "server", "--growing-idle-ms", "0")
    items = Items(dimension=DIMENSION)
    with server.start().client() as db:
        items.create(db)
        items.insert(db, range(ROWS))
        items.delete(db, range(0, 30, 3))
    assert server.stop() == 0
    assert len(server.tables()) >= 4
    return server, items


@pytest.fixture
def copy(stored: tuple[FaultServer, Items], make: Make, tmp_path: Path) -> FaultServer:
    """A copy of it, not started."""
    shutil.copytree(stored[0].data_dir, tmp_path / "server" / "data")
    return make("--growing-idle-ms", "0")


@pytest.mark.fault(22)
@pytest.mark.parametrize("family", ["rows", "vectors"])
def test_rows_of_a_damaged_block_are_data_loss_and_all_others_are_answered(
    stored: tuple[FaultServer, Items], copy: FaultServer, family: str
) -> None:
    items = stored[1]
    [table] = copy.tables(family)
    flip(table, table.stat().st_size // 3)
    copy.start()
    with copy.client() as db:
        lost = items.check_readable(db)
        assert 0 < len(lost) < ROWS / 4, f"{len(lost)} of {ROWS} rows are lost"
        there = [key for key in items.there() if key not in lost]
        found = db.collection("items").get(there)
        assert [record.key for record in found if record is not None] == there
        with pytest.raises(DataLoss):
            db.collection("items").get([*there[:5], lost[0]], output_vectors=["v"])
        # What is not damaged can be written, and a damaged row can be replaced.
        for key in [there[0], lost[0], ROWS]:
            db.collection("items").upsert(
                [key], [[float(key)] * DIMENSION], {"group": [1], "generation": [77]}
            )
            [record] = db.collection("items").get([key], output_vectors=["v"])
            assert record is not None
            assert record.fields["generation"] == 77
            assert set(record.vectors["v"].tolist()) == {float(key)}
    assert copy.stop() in (0, 1)


@pytest.mark.fault(22)
def test_a_search_over_damaged_rows_finds_all_others(
    stored: tuple[FaultServer, Items], copy: FaultServer
) -> None:
    items = stored[1]
    [table] = copy.tables("vectors")
    flip(table, table.stat().st_size // 3)
    copy.start()
    with copy.client() as db:
        lost = set(items.check_readable(db))
        found = db.collection("items").search(
            [0.0] * DIMENSION, 10000, exact=True, output_fields=[]
        )
        assert sorted(found.keys) == [key for key in items.there() if key not in lost]


@pytest.mark.fault(22)
def test_a_damaged_block_of_keys_is_data_loss_or_refused_and_never_a_missing_row(
    stored: tuple[FaultServer, Items], copy: FaultServer
) -> None:
    items = stored[1]
    [table] = copy.tables("keys")
    flip(table, table.stat().st_size // 3)
    copy.launch()
    if copy.wait_ready():
        with copy.client() as db:
            assert items.check_readable(db)
    else:
        assert copy.wait() == 1
        assert table.name in copy.log()


@pytest.mark.fault(22)
@pytest.mark.parametrize("family", ["catalog", "default"])
def test_a_damaged_catalog_is_refused_by_name(copy: FaultServer, family: str) -> None:
    [table] = copy.tables(family)
    flip(table, 10)
    assert copy.ends() == 1
    assert table.name in copy.last_lines()
    flip(table, 10)
    copy.start()


@pytest.mark.fault(22)
def test_a_table_that_is_gone_is_refused_by_name(copy: FaultServer) -> None:
    [table] = copy.tables("rows")
    table.unlink()
    assert copy.ends() == 1
    # RocksDB looks for its name of old, .ldb, last.
    assert table.stem in copy.last_lines()


def damage_manifest(rocks: Path) -> Path:
    [manifest] = rocks.glob("MANIFEST-*")
    flip(manifest, manifest.stat().st_size // 2)
    return manifest


def remove_manifest(rocks: Path) -> Path:
    [manifest] = rocks.glob("MANIFEST-*")
    manifest.unlink()
    return manifest


def empty_manifest(rocks: Path) -> Path:
    [manifest] = rocks.glob("MANIFEST-*")
    manifest.write_bytes(b"")
    return manifest


def empty_current(rocks: Path) -> Path:
    (rocks / "CURRENT").write_bytes(b"")
    return rocks / "CURRENT"


def other_current(rocks: Path) -> Path:
    (rocks / "CURRENT").write_bytes(b"MANIFEST-999999\n")
    return rocks / "CURRENT"


def remove_current(rocks: Path) -> Path:
    (rocks / "CURRENT").unlink()
    return rocks / "CURRENT"


@pytest.mark.fault(23)
@pytest.mark.parametrize(
    "damage",
    [
        damage_manifest,
        remove_manifest,
        empty_manifest,
        empty_current,
        other_current,
        remove_current,
    ],
)
def test_a_damaged_manifest_is_refused_with_advice_and_the_file_of_a_copy_heals_it(
    stored: tuple[FaultServer, Items], copy: FaultServer, damage: Callable[[Path], Path]
) -> None:
    original, items = stored
    damaged = damage(copy.rocks)
    files = sorted(path.name for path in copy.rocks.glob("*.sst"))
    for _ in range(2):
        assert copy.ends() == 1
        said = copy.last_lines(3)
        assert str(copy.rocks) in said
        assert "restore" in said, f"no advice: {said}"
    assert sorted(path.name for path in copy.rocks.glob("*.sst")) == files, "it removed tables"
    shutil.copy(original.rocks / damaged.name, damaged)
    with copy.start().client() as db:
        items.check(db)
    copy.assert_sound()


@pytest.mark.fault(27)
def test_files_that_nobody_knows_stay_and_do_not_matter(
    stored: tuple[FaultServer, Items], copy: FaultServer
) -> None:
    items = stored[1]
    folders = [copy.data_dir, copy.rocks, copy.data_dir / "segments", copy.data_dir / "quarantine"]
    strangers = [folder / name for folder in folders for name in ("core", "core.4711", "a b.txt")]
    strangers += [copy.rocks / "leftover.log.tmp", copy.data_dir / "segments" / "zzz.seg"]
    for path in strangers:
        path.write_bytes(b"stranger")
    (copy.data_dir / "lost+found").mkdir()
    (copy.data_dir / "FORMAT.tmp").write_bytes(b"half of a form")
    for hard in (True, False):
        copy.start()
        with copy.client() as db:
            items.check(db)
        if hard:
            copy.kill()
        else:
            assert copy.stop() == 0
    assert [path for path in strangers if not path.exists()] == []
    report = copy.run_verify("--deep")
    assert report["sound"], report["findings"]


@pytest.mark.fault(27)
def test_files_that_nobody_knows_are_listed(copy: FaultServer) -> None:
    (copy.data_dir / "segments" / "notes.txt").write_text("mine")
    copy.start()
    assert "notes.txt" in copy.log()


def test_a_copy_has_its_own_files(stored: tuple[FaultServer, Items], tmp_path: Path) -> None:
    copy = dead_copy(stored[0], tmp_path)
    [table] = copy.tables("rows")
    [original] = stored[0].tables("rows")
    assert table.read_bytes() == original.read_bytes()
    flip(table, 5)
    assert table.read_bytes() != original.read_bytes()
