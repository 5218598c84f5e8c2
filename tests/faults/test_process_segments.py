"""Segment files that go bad while a server has them mapped."""

from __future__ import annotations

from pathlib import Path

import pytest
from azimuth_db import AzimuthError, Client
from conftest import Make
from fault_items import UNKNOWN_OUTCOME, Items
from fault_server import FaultServer, flip, shimmed, wait_for
from server_process import TINY_SEGMENTS

ROWS = 2000
PAGE = 4096


@pytest.fixture
def served(make: Make) -> tuple[FaultServer, Items]:
    """A server that has served from its segment files."""
    server = make(*TINY_SEGMENTS)
    items = Items()
    with server.start().client() as db:
        items.create(db)
        for start in range(0, ROWS, 250):
            items.insert(db, range(start, start + 250))
        db.collection("items").wait_indexed()
        items.check(db)
    return server, items


def largest(server: FaultServer) -> Path:
    return max(server.segment_files(), key=lambda path: path.stat().st_size)


def set_aside(server: FaultServer) -> set[int]:
    """The ids of the segments whose files are set aside: their names begin with it."""
    return {int(path.name.split(".")[0]) for path in (server.data_dir / "quarantine").iterdir()}


def id_of(path: Path) -> int:
    return int(path.stem, 16)


def all_right(server: FaultServer, items: Items) -> None:
    """Checks now, and when all is built again."""
    with server.client() as db:
        items.check(db)
        db.collection("items").wait_indexed()
        items.check(db)


@pytest.mark.fault(26)
@pytest.mark.parametrize("part", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_page_that_went_bad_under_a_server_is_found_by_the_next_start(
    served: tuple[FaultServer, Items], part: float
) -> None:
    server, items = served
    bad = largest(server)
    flip(bad, int(bad.stat().st_size * part))
    server.restart(hard=True)
    # Right from the first answer on.
    all_right(server, items)
    wait_for("it is set aside", lambda: id_of(bad) in set_aside(server), 10)
    all_right(server, items)
    server.assert_sound()


@pytest.mark.fault(26)
def test_bad_pages_under_a_server_do_not_get_into_a_merge(
    served: tuple[FaultServer, Items],
) -> None:
    server, items = served
    with server.client() as db:
        # Nothing goes on while the files are changed.
        db.collection("items").optimize(timeout=60)
        for path in server.segment_files():
            for offset in range(PAGE // 2, path.stat().st_size, PAGE):
                flip(path, offset)
        # Otherwise there is nothing to merge.
        items.delete(db, range(0, ROWS, 5))
        db.collection("items").optimize(timeout=60)
        # All of it was made again from the rows.
        items.check(db)
    assert set_aside(server)
    server.restart(hard=True)
    all_right(server, items)
    server.assert_sound()


@pytest.mark.fault(26)
def test_a_file_that_is_cut_under_a_server_ends_it_cleanly_at_most(
    served: tuple[FaultServer, Items],
) -> None:
    server, items = served
    for path in server.segment_files():
        with open(path, "r+b") as file:
            file.truncate(100)
    with Client(server.address, retries=0) as db:
        try:
            for _ in range(3):
                items.check_search(db)
        except UNKNOWN_OUTCOME:
            # No answer is given from what is not there.
            assert server.wait() == 1
            assert "SIGBUS" in server.last_lines(3)
        except AzimuthError as error:
            if error.code.name != "DATA_LOSS":
                raise
    server.kill()
    server.start()
    all_right(server, items)
    assert set_aside(server)
    server.assert_sound()


@pytest.mark.fault(26)
def test_files_that_are_removed_under_a_server_are_made_again_by_the_next_start(
    served: tuple[FaultServer, Items],
) -> None:
    server, items = served
    for path in server.segment_files():
        path.unlink()
    all_right(server, items)
    server.restart(hard=True)
    all_right(server, items)
    assert server.segment_files()
    server.assert_sound()


@pytest.mark.fault(25)
@pytest.mark.parametrize("size", [0, 1, 127, 128, PAGE, PAGE + 1])
def test_a_file_that_is_cut_while_nothing_runs_is_set_aside(
    served: tuple[FaultServer, Items], size: int
) -> None:
    server, items = served
    server.kill()
    bad = largest(server)
    with open(bad, "r+b") as file:
        file.truncate(size)
    server.start()
    all_right(server, items)
    assert id_of(bad) in set_aside(server)
    server.assert_sound()


@pytest.mark.fault(26)
@pytest.mark.parametrize("call", [1, 2, 4, 8, 12, 16])
def test_a_page_that_the_disk_cannot_read_is_no_end_of_the_server(
    served: tuple[FaultServer, Items], call: int
) -> None:
    server, items = served
    server.kill()
    bad = largest(server)
    shim = shimmed(server)
    # From the header on, or only what is read by the first requests.
    server.start(shim.environment(f"pread(segments/{bad.name})@{call}=EIO:sticky"))
    pid = server.pid
    all_right(server, items)
    wait_for("it is set aside", lambda: id_of(bad) in set_aside(server), 10)
    all_right(server, items)
    assert server.pid == pid
    assert shim.hits()
    server.assert_sound()


@pytest.mark.fault(26)
def test_verify_names_a_file_that_the_disk_cannot_read_and_repairs_it(
    served: tuple[FaultServer, Items],
) -> None:
    server, items = served
    server.kill()
    bad = largest(server)
    shim = shimmed(server)
    environment = shim.environment(f"pread(segments/{bad.name})@4=EIO:sticky")
    report = server.run_verify(environment=environment)
    assert not report["sound"]
    assert any(bad.name in finding["message"] for finding in report["findings"]), report["findings"]
    report = server.run_verify("--repair", environment=environment)
    assert report["sound"], report["findings"]
    assert shim.hits()
    server.start()
    all_right(server, items)
    server.assert_sound()


@pytest.mark.fault(26)
def test_all_files_are_gone_and_the_memory_is_small(make: Make) -> None:
    """The rows are read back into files, so that they need not stand in memory all at once."""
    server = make("--memory-mb", "64", "--write-buffer-mb", "4", "--block-cache-mb", "8")
    items = Items(dimension=1024)
    rows = 12000  # 49 MB of vectors.
    with server.start().client() as db:
        items.create(db)
        for start in range(0, rows, 1000):
            for first in range(start, start + 1000, 200):
                items.insert(db, range(first, first + 200))
            db.collection("items").wait_indexed(timeout=120)
    server.kill()
    for path in server.segment_files():
        path.unlink()
    server.start()
    with server.client() as db:
        # Nothing holds up a write.
        items.upsert(db, range(20))
        items.check(db)
        db.collection("items").wait_indexed(timeout=120)
        items.check(db)
    server.assert_sound()
