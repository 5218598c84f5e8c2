"""The write-ahead log after a crash: cut, damaged, gone, or an older one in its place."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from azimuth_db import Client, DataLoss
from conftest import Make
from fault_items import UNKNOWN_OUTCOME, Items
from fault_server import FaultServer, dead_copy, flip
from grpc import StatusCode

BATCH = 20
BATCHES = 40
LogDamage = Callable[[FaultServer, Path], None]


def largest_log(server: FaultServer) -> Path:
    return max(server.logs(), key=lambda path: path.stat().st_size)


def write_batches(server: FaultServer, items: Items, first: int = 0) -> int:
    """Writes BATCHES batches; returns the last sequence number."""
    with server.client() as db:
        for batch in range(first, first + BATCHES):
            as_of = items.insert(db, range(batch * BATCH, (batch + 1) * BATCH))
    return as_of


@pytest.fixture
def killed(make: Make) -> tuple[FaultServer, Items, int]:
    """A server that was killed with rows in its log only, all of them noted as synced."""
    server = make()
    items = Items()
    with server.start().client() as db:
        items.create(db)
    as_of = write_batches(server, items)
    server.wait_synced(as_of)
    server.kill()
    return server, items, as_of


def keep_first(items: Items, rows: int) -> None:
    """The model of a store that has lost all but the first rows."""
    items.states = {key: 1 if key < rows else None for key in items.states}


def refused(server: FaultServer) -> int:
    """Starts a server that must refuse; returns the number that it names for going on."""
    assert server.ends() == 1
    lines = server.last_lines(5)
    assert str(server.rocks) in lines
    number = re.search(r"--accept-data-loss[= ](\d+)", lines)
    assert number, lines
    return int(number[1])


def incarnation(server: FaultServer) -> int:
    with server.client() as db:
        return db.server_info().incarnation


@pytest.mark.fault(19)
def test_a_record_that_was_torn_before_it_was_synced_is_cut_off(make: Make, tmp_path: Path) -> None:
    server = make()
    items = Items()
    with server.start().client() as db:
        items.create(db)
    server.kill()
    server.start({"AZIMUTH_FAILPOINTS": "log.before_sync=kill@30"})
    log = largest_log(server)
    acknowledged = 0
    with Client(server.address, retries=0) as db:
        try:
            for batch in range(100):
                items.insert(db, range(batch * BATCH, (batch + 1) * BATCH))
                acknowledged = log.stat().st_size
        except UNKNOWN_OUTCOME:
            pass
    assert server.wait() == -signal.SIGKILL
    size = log.stat().st_size
    assert acknowledged < size, "the last record was not written"
    [torn] = items.in_flight
    cuts = {1, 2, 3, 7, 8, 100, (size - acknowledged) // 2, size - acknowledged - 1}
    for cut in [0, *sorted(cuts), size - acknowledged]:
        copy = dead_copy(server, tmp_path / f"cut-{cut}")
        with open(copy.rocks / log.name, "r+b") as file:
            file.truncate(size - cut)
        items.in_flight = [torn]
        before = dict(items.states)
        try:
            with copy.start().client() as db:
                items.check(db)
                assert (items.states != before) == (cut == 0), "a torn batch is there"
                items.upsert(db, range(5))
                items.check(db)
        finally:
            copy.kill()
        items.states = before


@pytest.mark.fault(20)
def test_a_flipped_bit_in_the_middle_of_the_log_is_refused_until_the_loss_is_accepted(
    make: Make, killed: tuple[FaultServer, Items, int]
) -> None:
    server, items, as_of = killed
    log = largest_log(server)
    flip(log, log.stat().st_size // 2)
    damaged = log.read_bytes()
    number = refused(server)
    assert refused(server) == number, "a refusal changes nothing"
    assert log.read_bytes() == damaged
    assert number >= as_of
    wrong = make("--accept-data-loss", str(number - 1))
    assert wrong.ends() == 1, "the loss of something else was accepted"
    accepting = make("--accept-data-loss", str(number))
    before_loss = accepting.start().log()
    assert "lost" in before_loss
    with accepting.client() as db:
        rows = db.collection("items").count()
        assert rows % BATCH == 0
        assert 0 < rows < BATCH * BATCHES, "what stands before the damage is there, no more"
        keep_first(items, rows)
        items.check(db)
        # No number that was ever answered is used again.
        assert items.upsert(db, range(rows, rows + 10)) > as_of
        items.check(db)
    assert accepting.stop() == 0
    server.start()
    with server.client() as db:
        items.check(db)
    server.assert_sound()


@pytest.mark.fault(20)
def test_a_death_while_a_damaged_log_is_accepted_leaves_no_doubt_about_the_loss(
    make: Make, killed: tuple[FaultServer, Items, int]
) -> None:
    server, items, _ = killed
    log = largest_log(server)
    flip(log, log.stat().st_size // 2)
    number = refused(server)
    before = format_of(server)
    accepting = make("--accept-data-loss", str(number))
    accepting.launch({"AZIMUTH_FAILPOINTS": "recover.after_open=kill"})
    assert accepting.wait() == -signal.SIGKILL
    # The log is whole again, and who knew the old history must notice that it is another one.
    assert format_of(server) != before
    with accepting.start().client() as db:
        rows = db.collection("items").count()
        keep_first(items, rows)
        items.check(db)
        items.upsert(db, range(rows, rows + 10))
        items.check(db)
    accepting.kill()
    server.assert_sound()


def format_of(server: FaultServer) -> str:
    """What FORMAT says, the incarnation included."""
    return (server.data_dir / "FORMAT").read_text()


def delete(server: FaultServer, log: Path) -> None:
    log.unlink()


def empty(server: FaultServer, log: Path) -> None:
    log.write_bytes(b"")


def cut_at_a_record(server: FaultServer, log: Path) -> None:
    """What RocksDB takes for the end of a log that was not written further."""
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])


def older(server: FaultServer, log: Path) -> None:
    shutil.copy(server.folder / "older.log", log)


@pytest.mark.fault(21)
@pytest.mark.parametrize("damage", [delete, empty, cut_at_a_record, older])
def test_a_log_that_lacks_synced_commits_makes_the_store_read_only(
    make: Make, damage: LogDamage
) -> None:
    server = make()
    items = Items()
    with server.start().client() as db:
        items.create(db)
        items.insert(db, range(BATCH))
        first = dict(items.states)
        if damage is older:
            shutil.copy(largest_log(server), server.folder / "older.log")
    server.restart()  # The first rows are in table files now.
    as_of = write_batches(server, items, first=1)
    server.wait_synced(as_of)
    log = largest_log(server)
    if damage is older:
        assert log.stat().st_size > (server.folder / "older.log").stat().st_size
    server.kill()
    all_rows = dict(items.states)
    damage(server, log)

    server.start()
    assert "--accept-data-loss" in server.log()
    with server.client() as db:
        # What is there is right, and it is a beginning of all that was written.
        rows = db.collection("items").count()
        assert rows < len(all_rows)
        keep_first(items, rows)
        assert items.states.keys() >= first.keys()
        items.check(db)
        before = db.server_info()
        for write in (
            lambda: items.upsert(db, [10**6]),
            lambda: items.delete(db, [1]),
            lambda: Items("more").create(db),
            lambda: db.drop_collection("items"),
            lambda: db.collection("items").truncate(),
            lambda: db.collection("items").optimize(timeout=30),
        ):
            with pytest.raises(DataLoss, match="--accept-data-loss") as caught:
                write()
            assert caught.value.code is StatusCode.DATA_LOSS
        items.check(db)
        assert db.server_info().as_of == before.as_of
    assert server.stop() == 0, "it serves until it is told to stop"

    # Another start changes nothing; the loss is accepted by its number.
    server.start()
    with server.client() as db:
        items.check(db)
    assert server.stop() == 0
    number = re.findall(r"--accept-data-loss[= ](\d+)", server.log())[-1]
    accepting = make("--accept-data-loss", number).start()
    with accepting.client() as db:
        items.check(db)
        assert db.server_info().incarnation != before.incarnation
        assert items.upsert(db, range(rows, rows + 10)) > as_of
        items.check(db)
    accepting.kill()
    # It was accepted once and for all, and the option of last time does no harm.
    for again in (server, accepting):
        with again.start().client() as db:
            items.check(db)
        again.kill()
    server.assert_sound()


@pytest.mark.fault(21)
@pytest.mark.parametrize(
    "content",
    [None, b"", bytes(64), b"\xff" * 64, b"x" * 10],
    ids=["gone", "empty", "zeros", "ones", "short"],
)
def test_without_a_watermark_the_store_opens_and_says_so(
    killed: tuple[FaultServer, Items, int], content: bytes | None
) -> None:
    server, items, as_of = killed
    path = server.data_dir / "WATERMARK"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    server.start()
    assert str(path) in server.log()
    with server.client() as db:
        items.check(db)
        later = items.upsert(db, range(10))
        assert later > as_of
    server.wait_synced(later)
    server.restart(hard=True)
    with server.client() as db:
        items.check(db)
    server.assert_sound()
