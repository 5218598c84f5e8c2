"""Updates, conditions, request ids, expiry, truncate, optimize, backpressure and durability."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from azimuth_db import (
    Aborted,
    AlreadyExists,
    Client,
    Collection,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    OptimizeProgress,
    Record,
    ResourceExhausted,
    VectorField,
)
from server_process import (
    TINY_SEGMENTS,
    ServerProcess,
    has_failpoints,
    server_binary,
    wait_for,
)

ServerFactory = Callable[..., ServerProcess]
V = {"v": VectorField(4, "l2")}
PAST = datetime(2000, 1, 1, tzinfo=timezone.utc)


def only(items: Collection, key: int) -> Record:
    (record,) = items.get([key], output_vectors=["v"])
    assert record is not None
    return record


def unit(n: int) -> Any:
    """Returns n vectors (i, 0, 0, 0)."""
    matrix = np.zeros((n, 4), np.float32)
    matrix[:, 0] = np.arange(n)
    return matrix


@pytest.fixture
def items(db: Client) -> Collection:
    made = db.create_collection("items", V, {"label": "int64"})
    made.insert(range(10), unit(10), {"label": np.arange(10), "note": ["n"] * 10})
    return made


def test_an_update_keeps_what_it_does_not_name(items: Collection) -> None:
    done = items.update([3, 4], fields={"label": [30, None]})
    assert (done.updated, done.missing, done.replayed) == (2, 0, False)
    assert only(items, 3).fields == {"label": 30, "note": "n"}
    assert only(items, 4).fields == {"label": 4, "note": "n"}
    assert only(items, 3).vectors["v"].tolist() == [3, 0, 0, 0]
    assert only(items, 3).version == done.as_of
    items.update([3], [[100, 0, 0, 0]])
    assert items.search([100, 0, 0, 0], 1, exact=True).keys == [3]
    items.update_records([{"key": 5, "label": None, "note": "m"}])
    assert only(items, 5).fields == {"label": None, "note": "m"}
    assert items.count() == 10


def test_an_update_of_missing_keys_is_refused_whole_or_skips_them(items: Collection) -> None:
    with pytest.raises(NotFound, match="99"):
        items.update([1, 99], fields={"label": [5, 5]})
    assert only(items, 1).fields["label"] == 1
    done = items.update([1, 99], fields={"label": [5, 5]}, skip_missing=True)
    assert (done.updated, done.missing) == (1, 1)
    assert only(items, 1).fields["label"] == 5
    with pytest.raises(InvalidArgument, match="comes twice"):
        items.update([1, 1], fields={"label": [5, 6]})


def test_updates_survive_a_kill_and_a_build(server_factory: ServerFactory) -> None:
    server = server_factory(*TINY_SEGMENTS)
    with server.client() as db:
        items = db.create_collection("items", V, {"label": "int64"})
        items.insert(range(1000), unit(1000), {"label": np.zeros(1000, int)})
        items.wait_indexed()
        items.update(range(0, 1000, 2), fields={"label": np.ones(500, int)})
    server.restart(hard=True)
    with server.client() as db:
        items = db.collection("items")
        items.wait_indexed()
        assert (items.count("label == 1"), items.count("label == 0")) == (500, 500)
        found = items.search([500, 0, 0, 0], 3, filter="label == 1", output_vectors=["v"])
        assert found.keys == [500, 498, 502]
        assert found[0].vectors["v"].tolist() == [500, 0, 0, 0]


def test_racing_compare_and_set_counts_every_step_once(server: ServerProcess) -> None:
    with server.client() as db:
        counter = db.create_collection("counter", V)
        counter.insert_records([{"key": 1, "n": 0}])

        def add(times: int) -> None:
            while times:
                record = only(counter, 1)
                try:
                    counter.update_records(
                        [{"key": 1, "n": record.fields["n"] + 1, "if_version": record.version}]
                    )
                except Aborted:
                    continue
                times -= 1

        threads = [threading.Thread(target=add, args=(25,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert only(counter, 1).fields["n"] == 100


def test_if_version_guards_upserts_and_deletes(items: Collection) -> None:
    version = only(items, 1).version
    with pytest.raises(Aborted, match=f"if_version asks for {version + 9}"):
        items.upsert([1], if_version=version + 9)
    with pytest.raises(Aborted):
        items.upsert([1], if_version=0)
    assert items.upsert([77], if_version=0).inserted == 1
    with pytest.raises(Aborted):
        items.delete(keys=[1], if_version=version + 9)
    assert items.delete(keys=[1], if_version=version).deleted == 1


@pytest.mark.parametrize("hard", [False, True])
def test_a_request_id_is_answered_by_its_first_reply_after_a_restart(
    server_factory: ServerFactory, hard: bool
) -> None:
    server = server_factory()
    with server.client() as db:
        items = db.create_collection("items", V)
        first = items.insert([1, 2], unit(2), request_id="load-1")
        updated = items.update([1], fields={"a": [1]}, request_id="load-2")
        deleted = items.delete(filter="a == 1", request_id="load-3")
        assert (first.replayed, updated.replayed, deleted.replayed) == (False, False, False)
        last = items.insert([1], request_id="load-4").as_of
    server.restart(hard=hard)
    with server.client() as db:
        items = db.collection("items")
        again = items.insert([1, 2], unit(2), request_id="load-1")
        assert (again.inserted, again.as_of, again.replayed) == (2, first.as_of, True)
        again_updated = items.update([1], fields={"a": [1]}, request_id="load-2")
        assert (again_updated.updated, again_updated.as_of) == (1, updated.as_of)
        again_deleted = items.delete(filter="a == 1", request_id="load-3")
        assert (again_deleted.deleted, again_deleted.as_of) == (1, deleted.as_of)
        assert again_updated.replayed
        assert again_deleted.replayed
        assert items.query().as_of >= last
        assert [record.key for record in items.query()] == [1, 2]
        assert only(items, 1).fields == {}
        with pytest.raises(InvalidArgument, match="'load-1' came with another request"):
            items.insert([3], request_id="load-1")
        with pytest.raises(AlreadyExists):
            items.insert([1, 2], unit(2), request_id="load-5")


def test_min_seq_is_waited_for_and_has_an_end(server: ServerProcess, items: Collection) -> None:
    as_of = items.upsert([50], unit(1)).as_of
    assert items.get([50], min_seq=as_of) != [None]
    assert items.count(min_seq=as_of) == 11
    assert items.query(min_seq=as_of).as_of >= as_of
    assert items.search([0] * 4, min_seq=as_of).as_of >= as_of
    assert items.search_batch([[0] * 4], min_seq=as_of).as_of >= as_of
    with server.client(timeout=0.3) as hasty, pytest.raises(DeadlineExceeded):
        hasty.collection("items").count(min_seq=as_of + 1000)
    found: list[int] = []
    waiting = threading.Thread(target=lambda: found.append(items.count(min_seq=as_of + 1)))
    waiting.start()
    items.upsert([51], unit(1))
    waiting.join(30)
    assert found == [12]


@pytest.mark.parametrize("sealed", [False, True])
def test_ended_records_are_absent_everywhere(server_factory: ServerFactory, sealed: bool) -> None:
    server = server_factory(*TINY_SEGMENTS)
    with server.client() as db:
        items = db.create_collection("items", V)
        soon, later = (datetime.now(timezone.utc) + timedelta(seconds=s) for s in (1, 10**6))
        ends = [soon if key % 2 else later for key in range(400)]
        items.insert(range(400), unit(400), {"n": np.arange(400)}, expires_at=ends)
        if sealed:
            items.wait_indexed()
        assert only(items, 2).expires_at == later
        wait_for("the odd ones end", lambda: items.count() == 200)
        assert items.get([1, 2], output_fields=["n"])[0] is None
        assert [record.key for record in items.query(limit=4)] == [0, 2, 4, 6]
        for exact in (False, True):
            assert items.search([1, 0, 0, 0], 4, exact=exact).keys == [0, 2, 4, 6]
        assert items.search_batch([[1, 0, 0, 0]], 2, filter="n < 100").keys.tolist() == [[0, 2]]
        with pytest.raises(NotFound):
            items.update([1], fields={"n": [5]})
        assert items.delete(keys=[3]).deleted == 0
        assert items.insert([1], unit(1)).inserted == 1
        assert items.upsert([5], unit(1)).replaced == 0
        assert items.count() == 202
    server.restart(hard=True)
    with server.client() as db:
        assert db.collection("items").count() == 202


def test_a_collection_has_a_time_to_live_and_records_their_own(db: Client) -> None:
    items = db.create_collection("items", V, ttl_seconds=1)
    assert items.describe().ttl_seconds == 1
    before = datetime.now(timezone.utc)
    items.insert([1, 2])
    items.insert([3], expires_at=0)
    items.insert([4], expires_at=PAST)
    ends = items.query("key == 1")
    if len(ends):
        assert ends[0].expires_at is not None
        assert before < ends[0].expires_at < before + timedelta(seconds=30)
    wait_for("the first two end", lambda: items.count() == 1)
    items.update([3], fields={"a": [1]})
    assert only(items, 3).expires_at is None
    items.update([3], expires_at=PAST)
    assert items.count() == 0


@pytest.mark.parametrize("hard", [False, True])
def test_truncate_removes_all_and_keeps_the_collection(
    server_factory: ServerFactory, hard: bool
) -> None:
    server = server_factory(*TINY_SEGMENTS)
    with server.client() as db:
        items = db.create_collection("items", V, {"label": "int64"})
        items.insert(range(1000), unit(1000), {"label": np.arange(1000)})
        items.wait_indexed()
        before = items.describe()
        assert items.truncate() == 1000
        assert items.truncate() == 0
        assert items.describe() == before
        assert items.count() == 0
        assert items.search([0] * 4).keys == []
        items.insert([7], unit(1), {"label": [1]})
    server.restart(hard=hard)
    with server.client() as db:
        items = db.collection("items")
        assert items.describe() == before
        assert [record.key for record in items.query()] == [7]
        assert items.search([0] * 4, exact=True).keys == [7]
        wait_for("the old files go", lambda: not server.segment_files())


def test_optimize_leaves_one_segment(server_factory: ServerFactory) -> None:
    with server_factory(*TINY_SEGMENTS).client() as db:
        items = db.create_collection("items", V)
        for start in range(0, 1500, 100):
            items.insert(range(start, start + 100), unit(100) + start)
        seen: list[OptimizeProgress] = []
        last = items.optimize(seen.append)
        assert seen[-1] is last
        assert [report.done for report in seen] == [False] * (len(seen) - 1) + [True]
        assert (last.segments, last.rows_waiting, last.rows, last.error) == (1, 0, 1500, "")
        stats = items.stats()
        assert [(s.state, s.rows) for s in stats.segments if s.rows] == [("sealed", 1500)]
        assert items.search([700, 0, 0, 0], 3).path == "graph"
        assert items.optimize().done
        assert not db.create_collection("empty", V).optimize().rows


def test_optimize_goes_on_when_nobody_waits(server_factory: ServerFactory) -> None:
    with server_factory(*TINY_SEGMENTS).client() as db:
        items = db.create_collection("items", V)
        items.insert(range(1000), unit(1000))
        items.optimize(wait=False)
        wait_for(
            "one segment holds all",
            lambda: [s.rows for s in items.stats().segments if s.rows] == [1000],
        )


def test_rows_that_wait_for_a_build_stop_writes_but_no_deletes(
    server_factory: ServerFactory,
) -> None:
    if not has_failpoints(server_binary()):
        pytest.skip("this build has no failpoints")
    server = server_factory(*TINY_SEGMENTS, "--unindexed-rows-max", "100", start=False)
    # The first build fails and is tried again after five seconds: until then nothing is indexed.
    server.start({"AZIMUTH_FAILPOINTS": "segment.before_build=full"})
    with server.client() as db:
        items = db.create_collection("items", V)
        items.insert(range(100), unit(100))
        wait_for("the build has failed", lambda: items.stats().index_error != "")
        assert db.server_info().unindexed_rows == 100
        for write in (items.insert, items.upsert):
            with pytest.raises(ResourceExhausted, match="100"):
                write([1000])
        with pytest.raises(ResourceExhausted):
            items.update([1], fields={"a": [1]})
        assert items.delete(keys=[1, 2]).deleted == 2
        assert items.count() == 98
        assert items.truncate() == 98
        assert items.insert([1000]).inserted == 1


def test_builds_catch_up_with_a_writer_that_is_slowed_down(server_factory: ServerFactory) -> None:
    limits = ("--unindexed-rows-slow", "400", "--unindexed-rows-max", "2000")
    with server_factory(*TINY_SEGMENTS, *limits).client() as db:
        items = db.create_collection("items", V)
        rng = np.random.default_rng(1)
        start = 0
        deadline = time.monotonic() + 120
        while start < 6000:
            assert time.monotonic() < deadline, f"{start} of 6000 rows are written"
            try:
                items.insert(range(start, start + 100), rng.normal(size=(100, 4)))
            except ResourceExhausted:
                continue
            start += 100
        assert items.wait_indexed().row_count == 6000


def test_server_info_counts(server: ServerProcess, items: Collection, db: Client) -> None:
    info = db.server_info()
    assert info.limits.batch_records == 100_000
    assert info.limits.request_memory_us == 600_000_000
    assert 0 < info.memory.rocks_bytes < info.memory.budget_bytes
    assert info.memory.growing_bytes > 0
    assert info.unindexed_rows == 10
    assert info.as_of >= items.query().as_of


def test_a_relaxed_write_is_answered_before_it_is_on_disk_and_is_there_within_a_second(
    server: ServerProcess,
) -> None:
    with server.client() as db:
        items = db.create_collection("items", {"v": VectorField(4, "l2")}, {"n": "int64"})
        rows = np.zeros((100, 4), dtype="f4")
        written = items.insert(np.arange(100), rows, {"n": np.arange(100)}, relaxed=True)
        assert not written.synced
        assert items.upsert([1], rows[:1], {"n": [1]}).synced
        assert items.update([2], fields={"n": [5]}, relaxed=True).synced is False
        deleted = items.delete(keys=[3], relaxed=True)
        assert not deleted.synced
        wait_for("it is on disk", lambda: db.server_info().store.synced_seq >= deleted.as_of, 10)
        # The kernel has what the server wrote: a killed process loses nothing.
        last = items.delete(keys=[4], relaxed=True)
        assert not last.synced
    server.kill()
    server.start()
    with server.client() as db:
        items = db.collection("items")
        assert items.count() == 98
        assert items.get([2])[0].fields["n"] == 5
        assert items.get([3, 4]) == [None, None]


def test_the_health_of_the_store_is_told(server: ServerProcess) -> None:
    with server.client() as db:
        items = db.create_collection("items", {"v": VectorField(4, "l2")}, {"n": "int64"})
        written = items.insert([1], np.zeros((1, 4), dtype="f4"), {"n": [1]})
        store = db.server_info().store
        assert store.state == "writable"
        assert store.reason == ""
        assert store.synced_seq >= written.as_of
        assert 0 < store.disk_floor_bytes <= store.disk_capacity_bytes // 20 + 1
        assert 0 < store.disk_free_bytes <= store.disk_capacity_bytes
        assert (store.damaged_rows, store.segments_set_aside) == (0, 0)
        wait_for("it is noted", lambda: db.server_info().store.watermark_seq >= written.as_of, 10)
