"""A server that is killed: in a commit, in a build, in a merge, in its start, between two calls."""

from __future__ import annotations

import itertools
import signal
import threading
import time

import pytest
from azimuth_db import AzimuthError, Client, NotFound, Unavailable, VectorField
from conftest import Make
from fault_items import UNKNOWN_OUTCOME, Items, Load
from fault_server import FaultServer, wait_for
from harness import failpoint_names
from server_process import TINY_SEGMENTS

# Far more than it takes: builds have low priority on a busy machine.
KILLED_S = 120.0
SEGMENT_STEPS = [name for name in failpoint_names() if name.startswith("segment.")]
RECOVERY_STEPS = [name for name in failpoint_names() if name.startswith("recover.")]


def armed(failpoint: str, visit: int = 1) -> dict[str, str]:
    """The environment of a server that kills itself there."""
    return {"AZIMUTH_FAILPOINTS": f"{failpoint}=kill@{visit}"}


def fill(server: FaultServer, rows: int = 0) -> Items:
    """Starts it and makes the collection."""
    items = Items()
    with server.start().client() as db:
        items.create(db)
        if rows:
            items.insert(db, range(rows))
    return items


def check(server: FaultServer, items: Items) -> None:
    """Starts it, asks everything, waits for segments and asks again."""
    with server.start().client() as db:
        items.check(db)
        db.collection(items.name).wait_indexed()
        items.check(db)


def assert_killed(server: FaultServer) -> None:
    assert server.wait() == -signal.SIGKILL


def write_until_killed(server: FaultServer, items: Items, step: int) -> None:
    """Writes batches of so many rows, and deletes some of them, until the server is gone."""
    deadline = time.monotonic() + KILLED_S
    with Client(server.address, retries=0) as db:
        try:
            for written in itertools.count(0, step):
                if time.monotonic() > deadline:
                    break
                start = written % 15000
                items.upsert(db, range(start, start + step))
                items.delete(db, range(start, start + 5))
        except UNKNOWN_OUTCOME:
            assert_killed(server)
            return
    raise AssertionError("the server goes on")


@pytest.mark.parametrize(
    ("failpoint", "survives"),
    [
        pytest.param("commit.before_log", False, marks=pytest.mark.fault(1)),
        pytest.param("log.before_sync", None, marks=pytest.mark.fault(2)),
        pytest.param("commit.after_log", True, marks=pytest.mark.fault(3)),
        pytest.param("commit.before_publish", True, marks=pytest.mark.fault(3)),
        pytest.param("commit.after_apply", True, marks=pytest.mark.fault(4)),
    ],
)
def test_a_commit_that_is_killed_is_there_whole_or_not_at_all(
    make: Make, failpoint: str, survives: bool | None
) -> None:
    server = make()
    items = fill(server, 50)
    server.kill()
    server.start(armed(failpoint))
    keys = range(40, 60)  # Replaces ten records and adds ten.
    with Client(server.address, retries=0) as db, pytest.raises(UNKNOWN_OUTCOME):
        items.upsert(db, keys, request_id="once")
    assert_killed(server)
    server.start()
    with server.client() as db:
        [changes] = items.in_flight
        before = dict(items.states)
        items.check(db)
        happened = items.states != before
        assert survives is None or happened == survives
        # The same request again is done once, whether it had happened or not.
        items.states = before
        items.upsert(db, keys, request_id="once")
        assert {key: items.states[key] for key in keys} == changes
        items.check(db)
    server.assert_sound()


@pytest.mark.parametrize(
    "failpoint",
    [
        pytest.param("commit.before_log", marks=pytest.mark.fault(1)),
        pytest.param("log.before_sync", marks=pytest.mark.fault(2)),
        pytest.param("commit.after_log", marks=pytest.mark.fault(3)),
        pytest.param("commit.after_apply", marks=pytest.mark.fault(4)),
    ],
)
def test_no_key_that_the_server_made_is_lost_or_told_twice_over_kills(
    make: Make, failpoint: str
) -> None:
    server = make()
    with server.start().client() as db:
        db.create_collection("items", {"v": VectorField(2, "l2")}, {"n": "int64"}, auto_id=True)
    told: dict[int, int] = {}

    def insert(db: Client, n: int) -> None:
        done = db.collection("items").insert(
            vectors=[[n, 0]] * 3, fields={"n": [n] * 3}, request_id=f"insert {n}"
        )
        keys = done.keys.tolist()
        assert len(keys) == 3
        assert not told.keys() & set(keys)
        told.update(dict.fromkeys(keys, n))

    for n in range(6):
        server.kill()
        server.start(armed(failpoint, 2))
        with Client(server.address, retries=0) as db:
            insert(db, 10 * n)
            with pytest.raises(UNKNOWN_OUTCOME):
                insert(db, 10 * n + 1)
        assert_killed(server)
        server.start()
        with server.client() as db:
            insert(db, 10 * n + 2)
            insert(db, 10 * n + 1)  # As the first time, if that was there.
            items = db.collection("items")
            assert items.count() == len(told)
            for key, record in zip(told, items.get(list(told))):
                assert record is not None
                assert record.fields["n"] == told[key]
    server.assert_sound()


@pytest.mark.fault(5)
@pytest.mark.parametrize("failpoint", ["commit.before_log", "log.before_sync", "commit.after_log"])
def test_every_batch_of_a_group_whose_leader_is_killed_is_whole(make: Make, failpoint: str) -> None:
    server = make()
    items = fill(server)
    server.kill()
    server.start(armed(failpoint, 40))
    with Load(items, server.address, threads=12) as load:
        assert_killed(server)
    assert not load.errors
    assert load.acknowledged
    assert items.in_flight
    check(server, items)
    server.assert_sound()


@pytest.mark.fault(6)
@pytest.mark.parametrize("visit", [1, 3, 5])
def test_kills_in_flushes_of_memtables_lose_nothing(make: Make, visit: int) -> None:
    server = make("--write-buffer-mb", "1")
    items = Items(dimension=256)
    with server.start().client() as db:
        items.create(db)
    server.kill()
    server.start(armed("log.after_rotate", visit))
    write_until_killed(server, items, 200)
    assert server.tables() or visit == 1, "no memtable was flushed"
    check(server, items)
    server.assert_sound()


@pytest.mark.parametrize(
    "failpoint",
    [
        pytest.param(name, marks=pytest.mark.fault(row))
        for name in SEGMENT_STEPS
        for row in [
            {
                "segment.before_build": 13,
                "segment.after_gather": 13,
                "segment.before_graph": 13,
                "segment.mid_write": 7,
                "segment.before_rename": 8,
                "segment.before_dir_sync": 8,
                "segment.before_catalog": 9,
                "segment.after_catalog": 10,
            }.get(name, 11)
        ]
    ],
)
def test_a_build_that_is_killed_leaves_right_answers_and_no_file_too_many(
    make: Make, failpoint: str
) -> None:
    server = make(*TINY_SEGMENTS)
    items = fill(server)
    server.kill()
    server.start(armed(failpoint, 2))
    write_until_killed(server, items, 100)
    check(server, items)
    with server.client() as db:
        listed = {segment.id for segment in db.collection("items").stats().segments if segment.id}

    def only_listed() -> bool:
        return {int(path.stem, 16) for path in server.segment_files()} == listed

    wait_for("only files that the catalog names", only_listed)
    assert not list((server.data_dir / "segments").glob("*.tmp"))
    assert not list((server.data_dir / "quarantine").iterdir())
    server.assert_sound()


@pytest.mark.fault(12)
@pytest.mark.parametrize(
    ("failpoint", "visit"),
    [("segment.before_graph", 4), ("segment.before_catalog", 4), ("segment.after_catalog", 5)],
)
def test_deletes_and_upserts_during_merges_outlive_a_kill(
    make: Make, failpoint: str, visit: int
) -> None:
    server = make(*TINY_SEGMENTS)
    items = fill(server, 2000)
    with server.client() as db:
        db.collection("items").wait_indexed()
    server.kill()
    server.start(armed(failpoint, visit))
    gone = threading.Event()

    def delete_old_rows() -> None:
        """Deletes and replaces rows of the segments that are merged, with no pause."""
        with Client(server.address, retries=0) as db:
            try:
                for start in range(0, 1990, 10):
                    items.delete(db, range(start, start + 3))
                    items.upsert(db, range(start + 3, start + 6))
            except UNKNOWN_OUTCOME:
                gone.set()

    deletes = threading.Thread(target=delete_old_rows)
    deletes.start()
    with Load(items, server.address, threads=2) as load:
        assert_killed(server)
    deletes.join(60)
    assert not load.errors
    check(server, items)
    with server.client() as db:
        # All in one segment: what was deleted must not come back with it.
        db.collection("items").optimize()
        items.check(db)
    server.restart(hard=True)
    with server.client() as db:
        items.check(db)
    server.assert_sound()


@pytest.mark.fault(16)
@pytest.mark.parametrize("failpoint", ["", "drop.after_catalog", "create.after_catalog"])
def test_a_collection_made_anew_has_no_row_of_the_one_of_its_name(
    make: Make, failpoint: str
) -> None:
    server = make(*TINY_SEGMENTS)
    items = fill(server, 600)
    with server.client() as db:
        db.collection("items").wait_indexed()
    server.kill()
    server.start(armed(failpoint) if failpoint else {})
    with Client(server.address, retries=0) as db:
        try:
            db.drop_collection("items")
            assert failpoint != "drop.after_catalog"
            if failpoint:
                items.create(db)
                raise AssertionError("it must die")
        except Unavailable:
            pass
    server.kill()
    server.start()
    with server.client() as db:
        listed = [collection.name for collection in db.list_collections()]
        assert listed in ([], ["items"])
        assert failpoint or not listed
        if listed and db.collection("items").count():
            # The drop had not happened: then it is the old one, whole.
            assert failpoint == "drop.after_catalog"
            items.check(db)
            db.drop_collection("items")
            listed = []
        items.forget_rows()
        if not listed:
            items.create(db)
        items.check(db)
        items.insert(db, range(590, 610))
        items.check(db)
    server.restart(hard=True)
    check_rows(server, items)
    server.assert_sound()


def check_rows(server: FaultServer, items: Items) -> None:
    with server.client() as db:
        items.check(db)


@pytest.mark.fault(16)
@pytest.mark.fault(17)
@pytest.mark.parametrize("failpoint", ["create.after_catalog", "truncate.after_catalog"])
def test_a_change_of_the_catalog_is_there_whole_or_not_at_all(make: Make, failpoint: str) -> None:
    server = make(*TINY_SEGMENTS)
    items = fill(server, 600)
    server.kill()
    server.start(armed(failpoint))
    other = Items("other", dimension=3)
    with Client(server.address, retries=0) as db:
        change = {
            "create.after_catalog": lambda: other.create(db),
            "truncate.after_catalog": lambda: db.collection("items").truncate(),
        }[failpoint]
        with pytest.raises(UNKNOWN_OUTCOME):
            change()
    assert_killed(server)
    server.start()
    with server.client() as db:
        if failpoint.startswith("truncate") and not db.collection("items").count():
            items.states = dict.fromkeys(items.states)
        items.check(db)
        # What the catalog says and what can be done agree.
        if "other" in [collection.name for collection in db.list_collections()]:
            assert db.collection("other").describe().vectors["v"].dim == 3
        else:
            with pytest.raises(NotFound):
                db.collection("other").count()
            other.create(db)
        other.insert(db, range(10))
        other.check(db)
        items.upsert(db, range(590, 610))
        items.check(db)
    server.restart(hard=True)
    with server.client() as db:
        items.check(db)
        other.check(db)
    server.assert_sound()


@pytest.mark.fault(18)
@pytest.mark.parametrize("failpoint", RECOVERY_STEPS)
def test_a_start_that_is_killed_again_and_again_loses_nothing(make: Make, failpoint: str) -> None:
    server = make(*TINY_SEGMENTS)
    items = fill(server, 700)
    with server.client() as db:
        db.collection("items").wait_indexed()
        items.upsert(db, range(600, 800))
        items.delete(db, range(50))
    # What no catalog names is there to be removed.
    (server.data_dir / "segments" / "00000000000fffff.seg").write_bytes(b"half")
    server.kill()
    for _ in range(3):
        server.launch(armed(failpoint))
        assert not server.wait_ready(), "a start does not come by this step"
        assert_killed(server)
    check(server, items)
    server.assert_sound()


def test_the_model_notices_what_it_was_not_told_of(make: Make) -> None:
    server = make()
    items = fill(server, 100)
    with server.client() as db:
        items.check(db)
        db.collection("items").delete(keys=[7])
        with pytest.raises(AssertionError, match="by get"):
            items.check(db)
        items.states[7] = None
        items.check(db)
        with pytest.raises(AzimuthError):
            items.insert(db, [8])
        items.check(db)
