"""A server that is killed amid a snapshot, its removal or its restore, and `azimuthd restore`."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from azimuth_db import AlreadyExists, Client, SnapshotInfo
from conftest import Make
from fault_items import UNKNOWN_OUTCOME, Items
from fault_server import FaultServer
from harness import failpoint_names
from server_process import TINY_SEGMENTS, server_binary

ROWS = 3000
MAKING = [
    name
    for name in failpoint_names()
    if name.startswith("snapshot.") and name != "snapshot.mid_delete"
]
# Those of a restore that a start meets as well come last.
RESTORING = [name for name in failpoint_names() if name.startswith("restore.")]
# From here on the restored collection is there.
ADOPTED = {"restore.after_catalog", "restore.before_clear"}
COPYING = [name for name in failpoint_names() if name.startswith("copy.")]


def armed(failpoint: str, visit: int = 1) -> dict[str, str]:
    """The environment of a process that kills itself there."""
    return {"AZIMUTH_FAILPOINTS": f"{failpoint}=kill@{visit}"}


def fill(server: FaultServer) -> Items:
    """Starts it and makes the collection, with built segments and some that are not."""
    items = Items()
    with server.start().client() as db:
        items.create(db)
        items.insert(db, range(ROWS))
        db.collection(items.name).wait_indexed()
        items.upsert(db, range(0, ROWS, 7))
        items.delete(db, range(0, ROWS, 11))
    return items


def copy_of(items: Items, name: str) -> Items:
    """A model with the same records under another name."""
    copy = Items(name)
    copy.states = dict(items.states)
    return copy


def left(server: FaultServer) -> list[str]:
    """The names in snapshots/."""
    folder = server.data_dir / "snapshots"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def take(server: FaultServer, collection: str | None) -> SnapshotInfo:
    with server.client() as db:
        return db.create_snapshot(collection, name="snap")


def offline(
    folder: Path, target: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `azimuthd restore`."""
    return subprocess.run(
        [server_binary(), "restore", "--from", str(folder), "--data", str(target)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **(environment or {})},
    )


@pytest.mark.fault(14)
@pytest.mark.parametrize("failpoint", MAKING)
@pytest.mark.parametrize("collection", ["items", None])
def test_a_snapshot_that_is_killed_is_whole_or_not_there(
    make: Make, failpoint: str, collection: str | None
) -> None:
    if collection is None and failpoint == "snapshot.mid_rows":
        return  # The rows of the whole store are in RocksDB's own files.
    server = make(*TINY_SEGMENTS)
    items = fill(server)
    server.kill()
    server.start(armed(failpoint))
    with Client(server.address, retries=0) as db, pytest.raises(UNKNOWN_OUTCOME):
        db.create_snapshot(collection, name="snap")
    assert server.wait() == -signal.SIGKILL
    with server.start().client() as db:
        listed = db.list_snapshots()
        # It bears its name before that is synced.
        assert len(listed) == (1 if failpoint == "snapshot.before_dir_sync" else 0)
        assert left(server) == [info.id for info in listed]
        items.check(db)
        info = listed[0] if listed else db.create_snapshot(collection, name="snap")
        assert db.verify_snapshot(info).sound
        db.restore_snapshot(info, "items", as_name="copy")
        copy_of(items, "copy").check(db)
    server.assert_sound()


@pytest.mark.fault(14)
@pytest.mark.parametrize("collection", ["items", None])
@pytest.mark.parametrize("visit", [1, 3])
def test_a_removal_of_a_snapshot_that_is_killed_leaves_none(
    make: Make, collection: str | None, visit: int
) -> None:
    server = make(*TINY_SEGMENTS)
    items = fill(server)
    take(server, collection)
    server.kill()
    server.start(armed("snapshot.mid_delete", visit))
    with Client(server.address, retries=0) as db, pytest.raises(UNKNOWN_OUTCOME):
        db.delete_snapshot("snap")
    assert server.wait() == -signal.SIGKILL
    with server.start().client() as db:
        assert db.list_snapshots() == []
        assert left(server) == []
        items.check(db)
    server.assert_sound()


@pytest.mark.fault(15)
@pytest.mark.parametrize("failpoint", RESTORING)
@pytest.mark.parametrize("collection", ["items", None])
@pytest.mark.parametrize("over", [True, False])
def test_a_restore_that_is_killed_leaves_the_old_or_the_new_whole(
    make: Make, failpoint: str, collection: str | None, over: bool
) -> None:
    server = make(*TINY_SEGMENTS)
    items = fill(server)
    info = take(server, collection)
    then = copy_of(items, "items" if over else "copy")
    with server.client() as db:
        items.upsert(db, range(500))
        items.delete(db, range(1000, 1200))
    server.kill()
    server.start(armed(failpoint))
    with Client(server.address, retries=0) as db, pytest.raises(UNKNOWN_OUTCOME):
        db.restore_snapshot(info, "items", as_name=then.name, overwrite=over)
    assert server.wait() == -signal.SIGKILL
    # Before a start, too, nothing is wrong with what is there.
    assert server.run_verify("--deep")["sound"]
    with server.start().client() as db:
        assert left(server) == [info.id]
        adopted = failpoint in ADOPTED
        names = {summary.name for summary in db.list_collections()}
        assert names == ({"items", "copy"} if adopted and not over else {"items"})
        if adopted:
            then.check(db)
        if not (adopted and over):
            items.check(db)
        # Again, or over it.
        db.restore_snapshot(info, "items", as_name=then.name, overwrite=True)
        then.check(db)
    server.assert_sound()


@pytest.mark.fault(15)
def test_a_start_that_is_killed_while_it_clears_up_after_a_restore_is_repeated(make: Make) -> None:
    server = make(*TINY_SEGMENTS)
    items = fill(server)
    info = take(server, "items")
    server.kill()
    server.start(armed("restore.before_catalog"))
    with Client(server.address, retries=0) as db, pytest.raises(UNKNOWN_OUTCOME):
        db.restore_snapshot(info, as_name="copy")
    assert server.wait() == -signal.SIGKILL
    assert len(left(server)) == 2
    for _ in range(2):
        server.launch(armed("restore.before_clear"))
        assert not server.wait_ready()
        assert server.wait() == -signal.SIGKILL
    with server.start().client() as db:
        assert left(server) == [info.id]
        items.check(db)
    server.assert_sound()


@pytest.mark.fault(15)
@pytest.mark.parametrize("failpoint", COPYING)
@pytest.mark.parametrize("collection", ["items", None])
def test_a_restore_without_a_server_that_is_killed_leaves_no_directory_that_opens(
    make: Make, tmp_path: Path, failpoint: str, collection: str | None
) -> None:
    server = make(*TINY_SEGMENTS)
    items = fill(server)
    info = take(server, collection)
    server.kill()
    folder = server.data_dir / "snapshots" / info.id
    other = make(*TINY_SEGMENTS, folder="other")
    other.folder.mkdir()
    visits = [1] if collection else [1, 2]
    for visit in visits if failpoint == "copy.mid_files" else [1]:
        run = offline(folder, other.data_dir, armed(failpoint, visit))
        assert run.returncode == -signal.SIGKILL
        assert other.ends() == 1
        assert not (other.data_dir / "FORMAT").exists()
    run = offline(folder, other.data_dir)
    assert run.returncode == 0, run.stderr
    assert not (other.data_dir / "RESTORING").exists()
    # A second time it is refused, and nothing is changed.
    again = offline(folder, other.data_dir)
    assert again.returncode == 1
    assert "not empty" in again.stderr
    # It lives without the snapshot.
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()
    with other.start().client() as db:
        items.check(db)
        db.collection("items").wait_indexed()
        items.upsert(db, range(100))
        items.check(db)
        with pytest.raises(AlreadyExists):
            items.create(db)
    other.assert_sound()
