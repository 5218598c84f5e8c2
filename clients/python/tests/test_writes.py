"""Updates, conditions, ids of requests, expiry, truncate and optimize."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

import azimuth_db
from azimuth_db import (
    Client,
    Collection,
    Finding,
    OptimizeProgress,
    Record,
    UpdateResult,
    VectorField,
)
from azimuth_db._generated.azimuth.v1 import collections_pb2
from azimuth_db._times import from_micros, to_micros, to_micros_column

if TYPE_CHECKING:
    from conftest import FakeServer

NOON = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)
NOON_US = 1_893_499_200_000_000


@pytest.fixture
def items(db: Client, server: FakeServer) -> Collection:
    made = db.create_collection("items", {"v": VectorField(2, "l2")}, {"label": "int64"})
    made.describe()
    server.requests.clear()
    return made


def only(items: Collection, key: int) -> Record:
    (record,) = items.get([key])
    assert record is not None
    return record


class TestKeysOfTheServer:
    @pytest.fixture
    def made(self, db: Client) -> Collection:
        return db.create_collection("made", {"v": VectorField(2, "l2")}, auto_id=True)

    def test_columns_come_without_keys_and_the_result_has_them(
        self, made: Collection, server: FakeServer
    ) -> None:
        done = made.insert(vectors=np.eye(2), fields={"n": [5, 6]})
        assert (done.inserted, done.keys.tolist()) == (2, [1, 2])
        assert done.keys.dtype == np.int64
        sent = server.requests[-1].columns
        assert not sent.HasField("keys")
        assert sent.count == 2
        assert only(made, 2).fields == {"n": 6}
        assert made.describe().auto_id is True
        assert made.upsert(fields={"n": [7]}).keys.tolist() == [3]
        assert made.upsert([3], fields={"n": [8]}).keys.tolist() == []
        assert server.requests[-1].columns.count == 0

    def test_rows_may_lack_their_key(self, made: Collection) -> None:
        made.insert_records([{"n": 1}, {"key": None, "n": 2}])
        done = made.upsert_records([{"n": 3}, {"key": 1, "n": 4}, {"n": 5}])
        assert (done.replaced, done.keys.tolist()) == (1, [3, 4])
        assert [only(made, key).fields["n"] for key in (1, 2, 3, 4)] == [4, 2, 3, 5]
        with pytest.raises(ValueError, match=r"records\[0\]: there is no 'key'"):
            made.update_records([{"n": 1}])

    def test_keys_of_several_requests_add_up(self, made: Collection, server: FakeServer) -> None:
        done = made.insert(fields={"n": range(100_001)})
        assert done.keys.tolist() == list(range(1, 100_002))
        assert [request.columns.count for request in server.requests[-2:]] == [100_000, 1]

    def test_without_keys_something_must_say_how_many_there_are(self, items: Collection) -> None:
        with pytest.raises(ValueError, match="keys: none are given, nor a column"):
            items.insert()
        with pytest.raises(ValueError, match="expected 2 values"):
            items.insert(vectors=np.eye(2), fields={"label": [1]})
        with pytest.raises(ValueError, match="there is no 'key'"):
            items.insert_records([{"label": 1}])
        assert items.insert([1], np.ones((1, 2))).keys.tolist() == []


class TestUpdate:
    def test_columns_change_what_they_name(self, items: Collection) -> None:
        items.insert([1, 2], np.eye(2), {"label": [1, 2], "note": ["a", "b"]})
        assert items.update([1, 2], fields={"label": [5, None]}) == UpdateResult(2, 0, 2)
        assert only(items, 1).fields == {"label": 5, "note": "a"}
        assert only(items, 2).fields == {"label": 2, "note": "b"}
        assert only(items, 1).vectors["v"].tolist() == [1, 0]
        items.update([1], [[3, 4]])
        assert only(items, 1).vectors["v"].tolist() == [3, 4]

    def test_rows_change_what_they_name(self, items: Collection) -> None:
        items.insert([1], np.ones((1, 2)), {"label": [1], "note": ["a"]})
        items.update_records([{"key": 1, "note": None, "v": None}])
        assert only(items, 1).fields == {"label": 1, "note": None}
        assert only(items, 1).vectors["v"].tolist() == [1, 1]

    def test_without_keys_nothing_is_sent(self, items: Collection, server: FakeServer) -> None:
        before = len(server.requests)
        keys: Any = None
        with pytest.raises(TypeError, match="keys: none are given"):
            items.update(keys, fields={"label": [1]})
        assert len(server.requests) == before

    def test_keys_without_a_record_are_skipped_when_asked(
        self, items: Collection, server: FakeServer
    ) -> None:
        items.insert([1])
        done = items.update([1, 2, 3], fields={"label": [1, 2, 3]}, skip_missing=True)
        assert (done.updated, done.missing) == (1, 2)
        assert server.requests[-1].skip_missing is True
        done = items.update_records([{"key": 9, "label": 1}], skip_missing=True)
        assert (done.updated, done.missing) == (0, 1)

    def test_results_of_several_requests_add_up(
        self, items: Collection, server: FakeServer
    ) -> None:
        items.insert([5])
        done = items.update(range(100_001), skip_missing=True, request_id="r")
        assert (done.updated, done.missing, done.as_of) == (1, 100_000, 3)
        assert [request.request_id for request in server.requests[-2:]] == ["r", "r#1"]


class TestRequestIds:
    @pytest.mark.parametrize("rpc", ["insert", "upsert", "update", "delete"])
    def test_a_write_is_tried_again_with_its_id(
        self, items: Collection, server: FakeServer, rpc: str
    ) -> None:
        items.insert([1])
        server.requests.clear()
        server.failures = [(grpc.StatusCode.UNAVAILABLE, "draining")] * 2
        write: Callable[..., Any] = getattr(items, rpc)
        write(keys=[1])
        ids = {request.request_id for request in server.requests}
        assert len(server.requests) == 3
        assert len(ids) == 1
        assert len(ids.pop()) == 36
        write(keys=[1])
        assert server.requests[-1].request_id != server.requests[0].request_id

    def test_a_client_without_retries_makes_no_ids(
        self, items: Collection, server: FakeServer
    ) -> None:
        with Client(server.address, retries=0) as db:
            db.collection("items").insert([1])
        assert server.requests[-1].request_id == ""

    def test_a_given_id_is_used_by_every_write(self, items: Collection, server: FakeServer) -> None:
        items.insert([1], request_id="a")
        items.insert_records([{"key": 2}], request_id="b")
        items.upsert([1], request_id="c")
        items.upsert_records([{"key": 2}], request_id="d")
        items.update([1], request_id="e")
        items.update_records([{"key": 2}], request_id="f")
        items.delete(keys=[1], request_id="g")
        items.delete(filter="label == 1", request_id="h")
        items.delete(all=True, request_id="i")
        assert "".join(request.request_id for request in server.requests) == "abcdefghi"

    def test_a_delete_by_filter_with_an_id_is_tried_again(
        self, items: Collection, server: FakeServer
    ) -> None:
        server.failures = [(grpc.StatusCode.UNAVAILABLE, "draining")]
        items.delete(filter="label == 1", request_id="h")
        assert [request.request_id for request in server.requests] == ["h", "h"]

    def test_an_empty_id_is_refused(self, items: Collection, server: FakeServer) -> None:
        with pytest.raises(ValueError, match="request_id: expected a string of 1 to 128 bytes"):
            items.insert([1], request_id="")
        assert server.requests == []


class TestConditions:
    def test_if_version_is_sent_by_each_write(self, items: Collection, server: FakeServer) -> None:
        items.upsert([1], if_version=0)
        items.upsert_records([{"key": 1}], if_version=4)
        items.update([1], if_version=5)
        items.update_records([{"key": 1}], if_version=6)
        items.delete(keys=[1], if_version=7)
        assert [request.if_version for request in server.requests] == [0, 4, 5, 6, 7]
        items.upsert([1])
        assert server.requests[0].HasField("if_version")
        assert not server.requests[-1].HasField("if_version")

    def test_a_dict_has_its_own(self, items: Collection, server: FakeServer) -> None:
        items.upsert_records([{"key": 1, "if_version": np.int64(3)}, {"key": 2}])
        one, two = server.requests[-1].rows.records
        assert (one.if_version, dict(one.fields)) == (3, {})
        assert not two.HasField("if_version")

    @pytest.mark.parametrize(
        ("version", "error"), [(-1, ValueError), ("1", TypeError), (True, TypeError)]
    )
    def test_bad_versions_are_refused(
        self, items: Collection, server: FakeServer, version: Any, error: type[Exception]
    ) -> None:
        with pytest.raises(error, match="if_version"):
            items.upsert([1], if_version=version)
        with pytest.raises(error, match=r"records\[0\]\['if_version'\]"):
            items.upsert_records([{"key": 1, "if_version": version}])
        assert server.requests == []

    def test_delete_refuses_what_does_not_go_together(
        self, items: Collection, server: FakeServer
    ) -> None:
        with pytest.raises(ValueError, match="if_version goes with keys"):
            items.delete(filter="a == 1", if_version=1)
        with pytest.raises(ValueError, match="dry_run goes with filter and all"):
            items.delete(keys=[1], dry_run=True)
        assert server.requests == []

    def test_dry_run_is_sent(self, items: Collection, server: FakeServer) -> None:
        items.delete(filter="label == 1", dry_run=True)
        items.delete(all=True)
        assert [request.dry_run for request in server.requests] == [True, False]

    def test_records_bear_their_version(self, items: Collection, server: FakeServer) -> None:
        items.insert([1])
        server.records[1].version = 77
        assert items.query()[0].version == 77
        assert only(items, 1).version == 77


class TestExpiry:
    def test_a_moment_comes_back_as_it_was(self, items: Collection, server: FakeServer) -> None:
        items.insert([1, 2], expires_at=NOON)
        items.insert_records([{"key": 3, "expires_at": NOON_US}, {"key": 4, "expires_at": None}])
        items.update([2], expires_at=[0])
        assert only(items, 1).expires_at == NOON
        assert "expires_at=2030-01-01 12:00:00+00:00" in repr(only(items, 1))
        assert only(items, 2).expires_at is None
        assert only(items, 3).expires_at == NOON
        assert not server.records[4].HasField("expires_at_unix_us")
        items.upsert_records([only(items, 1), Record(5, {}, {})])
        assert only(items, 1).expires_at == NOON
        assert not server.records[5].HasField("expires_at_unix_us")

    def test_times_are_cut_with_the_rows(self, items: Collection, server: FakeServer) -> None:
        items.insert(range(100_002), expires_at=np.arange(100_002))
        assert list(server.requests[-1].columns.expires_at_unix_us) == [100_000, 100_001]

    def test_a_declared_field_of_that_name_stays_a_field(
        self, db: Client, server: FakeServer
    ) -> None:
        made = db.create_collection("f", {"v": VectorField(2, "l2")}, {"expires_at": "int64"})
        made.insert_records([{"key": 1, "expires_at": 5}])
        (record,) = server.requests[-1].rows.records
        assert record.fields["expires_at"].int64_value == 5
        assert not record.HasField("expires_at_unix_us")

    def test_ttl_is_part_of_the_schema(self, db: Client, server: FakeServer) -> None:
        made = db.create_collection("t", {"v": VectorField(2, "l2")}, ttl_seconds=60)
        assert server.requests[-1].schema.ttl_seconds == 60
        assert made.describe().ttl_seconds == 60

    @pytest.mark.parametrize(
        "moment",
        [
            NOON,
            NOON.astimezone(timezone(timedelta(hours=5))),
            np.datetime64("2030-01-01T12:00"),
            NOON_US,
            np.int64(NOON_US),
        ],
    )
    def test_moments_of_any_kind_become_microseconds(self, moment: Any) -> None:
        assert to_micros(moment, "m") == NOON_US
        assert to_micros_column(moment, 2, "m").tolist() == [NOON_US] * 2
        assert to_micros_column([moment, 0], 2, "m").tolist() == [NOON_US, 0]

    def test_arrays_of_moments_become_microseconds(self) -> None:
        hours = np.array(["1970-01-01T00", "1970-01-01T01"], "datetime64[h]")
        assert to_micros_column(hours, 2, "m").tolist() == [0, 3_600_000_000]
        assert to_micros_column(np.array(NOON_US), 1, "m").tolist() == [NOON_US]

    @pytest.mark.parametrize(
        ("moments", "error", "message"),
        [
            (datetime(2030, 1, 1), ValueError, "has no time zone"),
            (-1, ValueError, "expected 0"),
            (2**63, ValueError, "expected 0"),
            (1.5, TypeError, "expected a datetime or int microseconds since 1970, got float"),
            (True, TypeError, "got bool"),
            ("2030", TypeError, "got str"),
            ([0, None], TypeError, r"expires_at\[1\]: .*got NoneType"),
            ([0], ValueError, "expected one time or 2, one per record, got 1"),
            (np.datetime64("NaT"), ValueError, "NaT"),
        ],
    )
    def test_bad_times_send_nothing(
        self,
        items: Collection,
        server: FakeServer,
        moments: Any,
        error: type[Exception],
        message: str,
    ) -> None:
        with pytest.raises(error, match=message):
            items.insert([1, 2], expires_at=moments)
        assert server.requests == []

    def test_the_far_future_is_the_last_moment_there_is(self) -> None:
        assert from_micros(2**63 - 1) == datetime.max.replace(tzinfo=timezone.utc)
        assert from_micros(0) is None


class TestReadsAndUpkeep:
    def test_min_seq_is_sent_by_each_read(self, items: Collection, server: FakeServer) -> None:
        items.get([1], min_seq=1)
        items.query(min_seq=2)
        items.count(min_seq=3)
        items.search([1, 1], min_seq=4)
        items.search_batch([[1, 1]], min_seq=5)
        plain = [request.min_seq for request in server.requests[:3]]
        assert plain + [r.options.min_seq for r in server.requests[3:]] == [1, 2, 3, 4, 5]

    def test_truncate_says_how_many_there_were(self, items: Collection) -> None:
        items.insert([1, 2, 3])
        assert items.truncate() == 3
        assert items.count() == 0

    def test_optimize_reports_until_it_is_done(self, items: Collection, server: FakeServer) -> None:
        server.progress = [
            collections_pb2.OptimizeResponse(segments=3, rows_waiting=9, rows=10, error="no"),
            collections_pb2.OptimizeResponse(segments=1, rows=10, done=True, as_of=7),
        ]
        seen: list[OptimizeProgress] = []
        last = items.optimize(seen.append)
        assert seen == [OptimizeProgress(3, 9, 10, False, "no"), last]
        assert last == OptimizeProgress(1, 0, 10, True, "", 7)
        assert items.optimize(wait=False) == seen[0]

    def test_optimize_that_ends_early_is_an_error(
        self, items: Collection, server: FakeServer
    ) -> None:
        with pytest.raises(azimuth_db.Internal, match="without its last report"):
            items.optimize()
        server.failures = [(grpc.StatusCode.NOT_FOUND, "no collection 'items'")]
        with pytest.raises(azimuth_db.NotFound, match="no collection 'items'"):
            items.optimize()

    def test_verify_reports_findings(self, db: Client, server: FakeServer) -> None:
        report = db.verify("items", deep=True)
        assert (report.sound, report.deep, report.rows) == (False, True, 5)
        assert report.findings == [
            Finding("derived", "segment.checksum", "segment 4", "it differs")
        ]
        assert (server.requests[-1].collection, server.requests[-1].deep) == ("items", True)
        server.failures = [(grpc.StatusCode.NOT_FOUND, "no collection 'none'")]
        with pytest.raises(azimuth_db.NotFound, match="no collection 'none'"):
            db.verify("none")

    def test_server_info_has_limits_and_memory(self, db: Client) -> None:
        info = db.server_info()
        assert (info.version, info.unindexed_rows, info.incarnation) == ("1.2.3", 11, 12)
        assert info.as_of == 13
        assert (info.limits.batch_records, info.limits.unindexed_rows) == (7, 8)
        assert (info.memory.budget_bytes, info.memory.growing_bytes) == (9, 10)
