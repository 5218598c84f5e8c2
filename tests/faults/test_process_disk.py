"""Disks that are full, read-only, or that interrupt what they do."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from azimuth_db import (
    AzimuthError,
    Client,
    FailedPrecondition,
    ResourceExhausted,
    Unavailable,
    VectorField,
)
from conftest import Make
from disks import MIB, Disk, mounted
from fault_items import Items, Load
from fault_server import FaultServer, shimmed, wait_for
from server_process import TINY_SEGMENTS

HEAL_S = 20.0
SMALL = (*TINY_SEGMENTS, "--write-buffer-mb", "1", "--block-cache-mb", "1")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with mounted(tmp_path / "disk", 80) as small:
        yield small


def fill(server: FaultServer, rows: int = 1000, dimension: int = 8) -> Items:
    items = Items(dimension=dimension)
    with server.start().client() as db:
        items.create(db)
        items.insert(db, range(rows))
    return items


def outlives_a_kill(server: FaultServer, items: Items) -> None:
    """Kills and starts it, asks everything, and has the directory verified."""
    server.restart(hard=True)
    with server.client() as db:
        items.check(db)
    server.assert_sound()


def wait_taken(db: Client, items: Items, write: Callable[[], object]) -> None:
    """Waits until a write is taken, without a restart."""

    def taken() -> bool:
        try:
            write()
        except ResourceExhausted:
            # Whether it happened must be known before the next one of the same keys.
            items.settle(db)
            return False
        return True

    wait_for("writes are taken again", taken, HEAL_S)


def writes_again(db: Client, items: Items) -> None:
    """Waits until an upsert is taken."""
    wait_taken(db, items, lambda: items.upsert(db, range(20)))


def insert_until_refused(db: Client, items: Items, first: int) -> int:
    """Inserts batches of rows until the disk has no room; returns the next key."""
    for start in range(first, 10**6, 100):
        try:
            items.insert(db, range(start, start + 100))
        except ResourceExhausted as error:
            if not re.search("disk|space", error.message):
                raise
            return start
    raise AssertionError("the disk does not get full")


@pytest.mark.fault(28)
def test_a_disk_below_its_floor_refuses_writes_but_deletes_and_heals_by_itself(
    disk: Disk, make: Make
) -> None:
    server = make(*SMALL, "--disk-floor-mb", "16")
    server.data_dir = disk.path / "data"
    items = fill(server, dimension=256)
    disk.take(disk.free_bytes() - 22 * MIB)
    with server.client() as db:
        first = insert_until_refused(db, items, 10000)
        assert disk.free_bytes() > 4 * MIB, "the floor was not kept"
        for _ in range(3):
            with pytest.raises(ResourceExhausted):
                items.insert(db, range(first, first + 100))
        items.check(db)
        items.delete(db, range(500))
        db.drop_collection("none", if_exists=True)
        items.check(db)
        disk.give_back()
        writes_again(db, items)
        items.check(db)
    outlives_a_kill(server, items)


@pytest.mark.fault(28)
def test_a_disk_that_somebody_else_fills_refuses_writes_and_heals_by_itself(
    disk: Disk, make: Make
) -> None:
    server = make(*SMALL, "--disk-floor-mb", "1", "--ballast-mb", "8")
    server.data_dir = disk.path / "data"
    items = fill(server, dimension=256)
    with server.client() as db:
        disk.take(disk.free_bytes())
        insert_until_refused(db, items, 10000)
        items.check(db)
        # What the ballast gives up is there for this.
        wait_taken(db, items, lambda: items.delete(db, range(100)))
        items.check(db)
        disk.give_back()
        writes_again(db, items)
        with Load(items, server.address, threads=2) as load:
            wait_for("the load runs", lambda: load.acknowledged > 30)
        assert not load.errors
        items.check(db)
    outlives_a_kill(server, items)


@pytest.mark.fault(28)
def test_a_server_starts_on_a_full_disk_and_answers(disk: Disk, make: Make) -> None:
    server = make(*SMALL)
    server.data_dir = disk.path / "data"
    items = fill(server, dimension=64)
    server.kill()
    disk.take(disk.free_bytes())
    server.launch()
    if server.wait_ready():
        with server.client() as db:
            items.check(db)
            with pytest.raises(ResourceExhausted):
                items.insert(db, range(10000, 10100))
            disk.give_back()
            writes_again(db, items)
    else:
        # It may not, but says why, and does once there is room.
        assert server.wait() == 1
        assert "space" in server.last_lines(3)
        disk.give_back()
    server.kill()
    with server.start().client() as db:
        items.check(db)
    server.assert_sound()


@pytest.mark.fault(28)
def test_a_server_with_a_ballast_starts_on_a_disk_without_any_room(disk: Disk, make: Make) -> None:
    server = make(*SMALL, "--disk-floor-mb", "1", "--ballast-mb", "4")
    server.data_dir = disk.path / "data"
    items = fill(server, dimension=64)
    ballast = server.data_dir / "BALLAST"
    wait_for("there is a ballast", lambda: ballast.exists() and ballast.stat().st_size == 4 * MIB)
    server.kill()
    disk.take(disk.free_bytes())
    with server.start().client() as db:
        items.check(db)
        # The start has read a log and removed it, which gives back more than the ballast.
        disk.take(max(0, disk.free_bytes() - 4 * MIB))
        insert_until_refused(db, items, 10000)
        items.delete(db, range(10))
        items.check(db)
        disk.give_back()
        writes_again(db, items)
    outlives_a_kill(server, items)


@pytest.mark.fault(28)
def test_no_space_for_tables_refuses_writes_and_ends_nothing(make: Make) -> None:
    server = make(*SMALL)
    shim = shimmed(server)
    items = fill(server, dimension=512)
    with server.client() as db:
        # The log has room, and flushes fail one after the other.
        shim.set("write(rocks/*.sst)@1=ENOSPC:sticky")
        insert_until_refused(db, items, 10000)
        for _ in range(5):
            with pytest.raises(ResourceExhausted):
                items.upsert(db, range(100))
            items.settle(db)
        items.check(db)
        shim.clear()
        writes_again(db, items)
        items.insert(db, range(20000, 21000))
        items.check(db)
    outlives_a_kill(server, items)


@pytest.mark.fault(28)
def test_full_disks_one_after_the_other_do_not_leave_writes_without_flushes(make: Make) -> None:
    server = make(*SMALL)
    shim = shimmed(server)
    items = fill(server, dimension=512)
    key = 10000
    with server.client() as db:
        for _ in range(8):
            shim.set("space@1=ENOSPC:sticky")
            key = insert_until_refused(db, items, key)
            shim.clear()
            wait_taken(db, items, lambda start=key: items.upsert(db, range(start, start + 100)))
            key += 100
        # As much as fills many memtables.
        for start in range(key, key + 10000, 200):
            items.insert(db, range(start, start + 200))
        items.check(db)
    outlives_a_kill(server, items)


@pytest.mark.fault(28)
def test_no_space_for_anything_refuses_writes_until_there_is(make: Make) -> None:
    server = make(*SMALL)
    shim = shimmed(server)
    items = fill(server)
    with server.client() as db:
        shim.set("space@1=ENOSPC:sticky")
        with pytest.raises(ResourceExhausted):
            items.upsert(db, range(900, 1100))
        items.check(db)
        for _ in range(5):
            with pytest.raises(ResourceExhausted):
                items.upsert(db, range(900, 1100))
            items.check(db)
        assert shim.hits()
        shim.clear()
        writes_again(db, items)
        items.upsert(db, range(900, 1100))
        items.check(db)
    outlives_a_kill(server, items)


@pytest.mark.fault(28)
def test_half_a_record_on_a_full_disk_does_not_damage_the_log(make: Make) -> None:
    server = make(*SMALL)
    shim = shimmed(server)
    items = fill(server)
    with server.client() as db:
        # Half of a record gets into the log. Then a new log begins, but nothing can be flushed, so
        # that the old one stays.
        shim.set(
            "write(rocks/*.log)@1=short;write(rocks/*.log)@1=ENOSPC;"
            "write(rocks/*.sst)@1=ENOSPC:sticky"
        )
        for _ in range(3):
            with pytest.raises(ResourceExhausted):
                items.upsert(db, range(900, 1100))
        items.check(db)
    server.kill()
    shim.clear()
    with server.start().client() as db:
        items.settle(db)
        items.check(db)
        items.upsert(db, range(900, 1100))
        items.check(db)
    server.assert_sound()


@pytest.mark.fault(28)
def test_relaxed_writes_that_wait_for_their_sync_outlive_a_full_disk(make: Make) -> None:
    server = make(*SMALL)
    shim = shimmed(server)
    rows = np.zeros((10, 4), dtype="f4")
    with server.start().client() as db:
        items = db.create_collection("items", {"v": VectorField(4, "l2")})
        for n in range(20):
            assert not items.insert(range(10 * n, 10 * n + 10), rows, relaxed=True).synced
        # No new log can be begun either, so that the one that a write has failed to stays.
        shim.set("write(rocks/*.log)@1=ENOSPC;create(rocks/*.log)@1=ENOSPC:sticky")
        with pytest.raises(ResourceExhausted):
            items.insert(range(1000, 1010), rows, relaxed=True)
        # They are synced meanwhile, but not by way of a log that a write has failed to.
        time.sleep(1.0)
        assert items.count() == 200
        assert server.exit_code() is None
        shim.clear()
        items.upsert([1], rows[:1])
        assert items.count() == 200
    server.restart(hard=True)
    with server.client() as db:
        assert db.collection("items").count() == 200
    server.assert_sound()


@pytest.mark.fault(29)
def test_no_space_for_segment_files_fails_builds_only_until_there_is(make: Make) -> None:
    server = make(*SMALL)
    shim = shimmed(server)
    items = fill(server, 100)
    with server.client() as db:
        rules = [f"{call}(segments/*)@1=ENOSPC:sticky" for call in ("write", "pwrite", "allocate")]
        shim.set(";".join(rules))
        items.insert(db, range(100, 2000))
        stats = db.collection("items").stats
        error = wait_for("a build fails", lambda: stats().index_error)
        assert "space" in error
        items.upsert(db, range(50))
        items.check(db)
        assert not list((server.data_dir / "segments").glob("*.tmp"))
        shim.clear()
        wait_for("all is built", lambda: stats().unindexed_rows == 0, HEAL_S)
        wait_for("the status is not red any more", lambda: not stats().index_error, 10)
        assert server.segment_files()
        items.check(db)
    server.assert_sound()


@pytest.mark.fault(29)
def test_no_space_for_a_merge_of_tables_stops_no_writes(make: Make) -> None:
    server = make(*SMALL)
    shim = shimmed(server)
    items = Items(dimension=64)
    # Every stop flushes, and a start on four tables of a family begins with a merge of them, but
    # for those that the stop has merged already.
    with server.start().client() as db:
        items.create(db)
    for first in range(0, 2000, 100):
        assert server.stop() == 0
        shim.set("create(rocks/*.sst)@1=ENOSPC")
        server.start()
        deadline = time.monotonic() + 1
        while not shim.hits() and time.monotonic() < deadline:
            time.sleep(0.05)
        if shim.hits():
            break
        shim.clear()
        with server.client() as db:
            items.insert(db, range(first, first + 100))
    assert shim.hits(), "nothing is merged"
    with server.client() as db:
        # Enough for several flushes.
        for start in range(3000, 15000, 500):
            items.insert(db, range(start, start + 500))
        items.check(db)
    assert server.stop() == 0
    with server.start().client() as db:
        items.check(db)
    server.assert_sound()


@pytest.mark.fault(30)
def test_tables_that_cannot_be_read_are_data_loss_while_they_cannot(make: Make) -> None:
    server = make(*SMALL)
    shim = shimmed(server)
    items = fill(server)
    with server.client() as db:
        db.collection("items").wait_indexed()
    # What was just written is still in memory; a start reads from the disk.
    assert server.stop() == 0
    server.start()
    with Client(server.address, retries=0) as db:
        shim.set("pread(rocks/*.sst)@1=EIO:sticky")
        unread = 0
        for key in range(0, 1000, 50):
            try:
                [record] = db.collection("items").get([key])
            except AzimuthError as error:
                if error.code.name not in ("DATA_LOSS", "UNAVAILABLE"):
                    raise
                unread += 1
            else:
                assert record is not None, f"key {key} is missing, and no error says so"
        assert unread, "nothing was read from the disk"
        items.check_search(db)
        shim.clear()
        items.check(db)
        assert server.exit_code() is None
    outlives_a_kill(server, items)


FAILURES = [
    pytest.param("sync(rocks/*.log)@1=EIO", marks=pytest.mark.fault(31)),
    pytest.param("sync(rocks/*.log)@1=EIO:sticky", marks=pytest.mark.fault(31)),
    pytest.param("sync@1=EIO:sticky", marks=pytest.mark.fault(31)),
    pytest.param("write(rocks/*.log)@1=EIO", marks=pytest.mark.fault(31)),
    pytest.param("change@1=EROFS:sticky", marks=pytest.mark.fault(32)),
    pytest.param("change@1=EACCES:sticky", marks=pytest.mark.fault(32)),
]


@pytest.mark.parametrize("rules", FAILURES)
def test_after_a_failed_write_or_sync_the_store_is_read_only_and_the_server_ends(
    make: Make, rules: str
) -> None:
    server = make(*SMALL)
    shim = shimmed(server)
    items = fill(server)
    with Client(server.address, retries=0) as db:
        shim.set(rules)
        # A build may have met the fault before.
        with pytest.raises((Unavailable, FailedPrecondition), match=r"unknown|read-only"):
            items.upsert(db, range(990, 1010))
        # Never does it go on by itself, even if the disk does.
        shim.clear()
        with pytest.raises(AzimuthError) as caught:
            items.upsert(db, range(5))
        assert caught.value.code.name in ("FAILED_PRECONDITION", "UNAVAILABLE")
    assert server.wait() == 1
    assert "read-only" in server.log()
    server.start()
    with server.client() as db:
        items.check(db)
        items.upsert(db, range(990, 1010))
        items.check(db)
    server.assert_sound()


@pytest.mark.fault(31)
def test_a_failed_sync_of_the_name_of_a_new_log_ends_the_writes(make: Make) -> None:
    server = make(*SMALL)
    shim = shimmed(server)
    items = fill(server, dimension=64)
    with Client(server.address, retries=0) as db:
        # Logs begin when a memtable of 1 MiB is full; the directory is synced with each.
        shim.set("fsync(rocks)@1=EIO")

        def insert_many() -> None:
            for start in range(1000, 20000, 500):
                items.insert(db, range(start, start + 500))

        with pytest.raises((Unavailable, FailedPrecondition), match=r"unknown|read-only"):
            insert_many()
        assert shim.hits() == 1
        shim.clear()
    assert server.wait() == 1
    assert "read-only" in server.log()
    with server.start().client() as db:
        items.settle(db)
        items.check(db)
    server.assert_sound()


@pytest.mark.fault(31)
@pytest.mark.parametrize("call", ["fdatasync", "write"])
def test_a_manifest_that_fails_while_row_tables_are_taken_in_keeps_them(
    make: Make, call: str
) -> None:
    server = make(*SMALL, "--bulk-commit-kb", "1")
    shim = shimmed(server)
    items = fill(server, dimension=64)
    with Client(server.address, retries=0) as db:
        # The second edit of the manifest has the names of the tables.
        shim.set(f"{call}(rocks/MANIFEST*)@2=EIO")
        with pytest.raises((Unavailable, FailedPrecondition), match=r"unknown|read-only"):
            items.insert(db, range(1000, 1100))
        assert shim.hits() == 1
        shim.clear()
    assert server.wait() == 1
    with server.start().client() as db:
        items.settle(db)
        items.check(db)
        items.upsert(db, range(1000, 1100))
        items.check(db)
    server.assert_sound()


@pytest.mark.fault(32)
def test_a_start_on_a_read_only_disk_is_refused_clearly(disk: Disk, make: Make) -> None:
    server = make(*SMALL)
    server.data_dir = disk.path / "data"
    items = fill(server, 300)
    assert server.stop() == 0
    disk.make_read_only()
    assert server.ends() == 1
    said = server.last_lines(2)
    assert str(server.data_dir) in said
    assert "ead-only" in said
    disk.make_read_only(False)
    with server.start().client() as db:
        items.check(db)
    server.assert_sound()


@pytest.mark.fault(33)
@pytest.mark.parametrize(
    "rules",
    [
        "write@1=short:sticky;pwrite@1=short:sticky",
        ";".join(f"write@{n}=EINTR" for n in range(1, 48, 3)),
        # All that may say so, by POSIX.
        ";".join(
            f"{call}@{n}=EINTR"
            for call in (
                "open",
                "create",
                "read",
                "pread",
                "write",
                "pwrite",
                "truncate",
                "allocate",
            )
            for n in (1, 3)
        ),
    ],
    ids=["short writes", "interrupted writes", "interrupted calls"],
)
def test_short_and_interrupted_calls_are_done_to_their_end(make: Make, rules: str) -> None:
    server = make(*SMALL)
    shim = shimmed(server)
    items = fill(server, 100)
    with server.client() as db:
        shim.set(rules)
        for start in range(100, 2000, 100):
            items.insert(db, range(start, start + 100))
        db.collection("items").wait_indexed()
        items.delete(db, range(50))
        items.check(db)
        assert shim.hits() >= 5
    server.kill()
    shim.clear()
    with server.start().client() as db:
        items.check(db)
    server.assert_sound()


@pytest.mark.fault(33)
def test_a_start_with_short_and_interrupted_calls_is_right(make: Make) -> None:
    server = make(*SMALL)
    shim = shimmed(server)
    items = fill(server, 1000)
    server.kill()
    interrupted = ";".join(f"read@{n}=EINTR" for n in range(2, 40, 5))
    shim.set(f"write@1=short:sticky;pwrite@1=short:sticky;{interrupted}")
    with server.start().client() as db:
        items.check(db)
    server.kill()
    shim.clear()
    server.assert_sound()
