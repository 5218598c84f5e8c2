"""The whole client against a server within the process."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

import azimuth_db
from azimuth_db import Client, Collection, Field, FilterWarning, Record, VectorField, errors
from azimuth_db._transport import parse_address

if TYPE_CHECKING:
    from conftest import FakeServer


def grid(n: int) -> Any:
    """Returns n vectors (i, 0, 0)."""
    matrix = np.zeros((n, 3), np.float64)
    matrix[:, 0] = np.arange(n)
    return matrix


def fill(items: Collection, n: int = 10) -> None:
    items.insert(np.arange(n), {"image": grid(n)}, {"label": np.arange(n) * 10})


class TestCollections:
    def test_schema_survives_the_round_trip(self, db: Client, server: FakeServer) -> None:
        vectors = {
            "image": VectorField(784, "l2", index="hnsw", m=16, ef_construction=200),
            "text": VectorField(2, "cosine", quantization="none"),
            "sound": VectorField(3, "ip", quantization="sq4"),
        }
        fields: dict[str, str | Field] = {"label": "int64", "title": Field("string", False, "")}
        made = db.create_collection(
            "items", vectors, fields, key_type="string", dynamic=False, if_not_exists=True
        )
        info = made.describe()
        assert info.vectors == vectors
        assert info.fields == {"label": Field("int64"), "title": Field("string", False, "")}
        assert (info.name, info.key_type, info.dynamic) == ("items", "string", False)
        assert info.created_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=timezone.utc)
        assert server.requests[0].if_not_exists is True

    def test_m_is_left_to_the_server_when_it_is_not_given(
        self, db: Client, server: FakeServer
    ) -> None:
        db.create_collection("items", {"v": VectorField(2, "ip")})
        index = server.requests[0].schema.vectors[0].index
        assert not index.HasField("m")
        assert not index.HasField("ef_construction")

    @pytest.mark.parametrize(
        ("vector", "field", "message"),
        [
            (VectorField(2, "manhattan"), "int64", r"vectors\['v'\].metric.*'manhattan'.*'l2'"),
            (VectorField(2, "l2", index="tree"), "int64", "'auto', 'flat', 'hnsw'"),
            (VectorField(2, "l2", quantization="pq"), "int64", "'none', 'sq8', 'rabitq4'.*'pca4'"),
            (VectorField(2, "l2"), "integer", r"fields\['f'\].type.*'integer'.*'int64'"),
        ],
    )
    def test_unknown_names_are_refused_with_those_allowed(
        self, db: Client, server: FakeServer, vector: VectorField, field: str, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            db.create_collection("items", {"v": vector}, {"f": field})
        assert server.requests == []

    def test_list_and_drop(self, db: Client, server: FakeServer) -> None:
        assert [c.name for c in db.list_collections()] == ["items"]
        assert db.drop_collection("items", if_exists=True) is True
        assert server.requests[-1].if_exists is True

    def test_handle_asks_nothing(self, db: Client, server: FakeServer) -> None:
        assert repr(db.collection("items")) == f"Collection('items' at {server.address})"
        assert server.requests == []

    def test_wait_indexed_returns_once_no_row_waits(
        self, items: Collection, server: FakeServer
    ) -> None:
        server.unindexed = [5, 3, 0]
        stats = items.wait_indexed(timeout=20)
        assert stats.unindexed_rows == 0
        assert stats.segments[0].state == "sealed"
        assert stats.segments[0].quantization == {"image": "sq4"}
        assert stats.segments[0].codes_bytes == 5
        assert len(server.requests) == 3

    def test_wait_indexed_gives_up_after_its_timeout(
        self, items: Collection, server: FakeServer
    ) -> None:
        server.unindexed = [5] * 1000
        with pytest.raises(TimeoutError, match="5 of 0 rows still wait"):
            items.wait_indexed(timeout=0)

    def test_wait_indexed_reports_a_failed_build(
        self, items: Collection, server: FakeServer
    ) -> None:
        server.unindexed, server.index_error = [5], "disk full"
        with pytest.raises(azimuth_db.FailedPrecondition, match="disk full"):
            items.wait_indexed()


class TestWrites:
    def test_columns_come_back_as_records(self, items: Collection) -> None:
        result = items.insert(
            [1, 2],
            {"image": np.array([[1, 2, 3], [4, 5, 6]], np.uint8), "text": [None, [1, 0]]},
            {"label": [None, 7], "title": np.array(["a", "b"]), "extra": [[1], {"x": None}]},
        )
        assert result == azimuth_db.WriteResult(inserted=2, replaced=0, as_of=1)
        one, two, three = items.get([1, 2, 3])
        assert one is not None
        assert two is not None
        assert three is None
        assert one.fields == {"title": "a", "extra": [1]}
        assert two.fields == {"label": 7, "title": "b", "extra": {"x": None}}
        assert set(one.vectors) == {"image"}
        assert two.vectors["image"].tolist() == [4, 5, 6]
        assert two.vectors["text"].dtype == np.float32

    def test_bare_array_is_the_only_vector_field(self, notes: Collection) -> None:
        notes.insert(["a", "b"], np.eye(2))
        record = notes.get(["b"])[0]
        assert record is not None
        assert record.vectors["v"].tolist() == [0, 1]

    def test_bare_array_is_refused_when_there_are_several(
        self, items: Collection, server: FakeServer
    ) -> None:
        with pytest.raises(ValueError, match=r"vectors: name the vector field.*'image', 'text'"):
            items.insert([1], grid(1))
        assert server.requests == []

    def test_wrong_shape_is_refused_without_a_request(
        self, items: Collection, server: FakeServer
    ) -> None:
        with pytest.raises(ValueError, match=r"vectors\['image'\].*\(3,\)"):
            items.upsert([1], {"image": np.zeros(3)})
        assert server.requests == []

    def test_upsert_counts_new_and_replaced(self, items: Collection) -> None:
        fill(items, 4)
        result = items.upsert(np.arange(3, 6), {"image": grid(3)})
        assert (result.inserted, result.replaced) == (2, 1)

    def test_nothing_to_write_sends_nothing(self, items: Collection, server: FakeServer) -> None:
        assert items.insert([], {"image": np.zeros((0, 3))}) == azimuth_db.WriteResult(0, 0, 0)
        assert items.insert_records([]) == azimuth_db.WriteResult(0, 0, 0)
        assert server.requests == []

    def test_rows_come_back_as_records(self, items: Collection) -> None:
        dicts = [
            {"key": np.int64(1), "label": 3, "image": [0.5, 1, 2], "text": None, "note": None},
            {"key": 2, "image": np.ones(3), "tags": ["x", {"y": 1.5}]},
        ]
        assert items.insert_records(dicts).inserted == 2
        one, two = items.get([1, 2])
        assert one is not None
        assert two is not None
        assert one.fields == {"label": 3, "note": None}
        assert one.vectors["image"].tolist() == [0.5, 1, 2]
        assert set(one.vectors) == {"image"}
        assert two.fields == {"tags": ["x", {"y": 1.5}]}
        assert items.upsert_records([one, Record(9, {"label": 1}, {})]).inserted == 1

    @pytest.mark.parametrize(
        ("record", "error", "message"),
        [
            ({"label": 1}, ValueError, r"records\[1\]: there is no 'key'"),
            ({"key": 1.5}, TypeError, r"records\[1\]: expected an int or str key, got float"),
            ({"key": 2**63}, ValueError, r"records\[1\]: key 9223372036854775808"),
            ({"key": 1, "x": {1}}, TypeError, r"records\[1\]\['x'\]: .*got set"),
            ({"key": 1, "image": [[1]]}, ValueError, r"records\[1\]\['image'\].*\(1, 1\)"),
            ([1], TypeError, r"records\[1\]: expected a dict or a Record, got list"),
        ],
    )
    def test_bad_row_is_named_and_nothing_is_sent(
        self,
        items: Collection,
        server: FakeServer,
        record: Any,
        error: type[Exception],
        message: str,
    ) -> None:
        with pytest.raises(error, match=message):
            items.insert_records([{"key": 0}, record])
        assert server.requests == []

    def test_failure_of_a_later_request_says_what_was_written(
        self, items: Collection, server: FakeServer
    ) -> None:
        server.failures = [None, (grpc.StatusCode.ALREADY_EXISTS, "key 100001 exists")]
        with pytest.raises(azimuth_db.AlreadyExists) as caught:
            items.insert(np.arange(250_000))
        assert caught.value.partial == azimuth_db.WriteResult(100_000, 0, 1)
        assert str(caught.value) == (
            "key 100001 exists (in rows 100000 to 199999 of 250000, counted from 0)"
        )
        assert [len(r.columns.keys.int64_keys.values) for r in server.requests] == [100_000] * 2

    def test_delete_by_each_means(self, items: Collection, server: FakeServer) -> None:
        fill(items, 5)
        assert items.delete(keys=[3, 4, 77]).deleted == 2
        items.delete(filter="label == $l", params={"l": 3})
        items.delete(all=True)
        by_filter, everything = server.requests[-2:]
        assert by_filter.filter.expression == "label == $l"
        assert by_filter.filter.parameters["l"].int64_value == 3
        assert everything.delete_all is True
        assert not everything.HasField("filter")

    @pytest.mark.parametrize(
        "arguments",
        [
            {},
            {"keys": [1], "all": True},
            {"filter": "a", "keys": [1]},
            {"keys": [1], "params": {"a": 1}},
        ],
    )
    def test_delete_must_be_told_one_means(
        self, items: Collection, server: FakeServer, arguments: Any
    ) -> None:
        with pytest.raises(ValueError, match="delete: "):
            items.delete(**arguments)
        assert server.requests == []


class TestSearch:
    def test_search_returns_hits_and_work(self, items: Collection) -> None:
        fill(items)
        hits = items.search([3.2, 0, 0], limit=3, field="image", output_vectors=["image"])
        assert hits.keys == [3, 4, 2]
        assert len(hits) == 3
        assert hits[0].distance == pytest.approx(0.04)
        assert hits[0].score == -hits[0].distance
        assert hits[0].fields == {"label": 30}
        assert hits[0].vectors["image"].tolist() == [3, 0, 0]
        assert (hits.path, hits.distances_computed, hits.as_of) == ("graph", 42, 2)
        assert hits.warnings == ("careful",)
        assert [hit.key for hit in hits] == hits.keys
        assert "Hit(key=3, distance=0.04" in repr(hits)
        assert "vectors={'image': float32[3]}" in repr(hits)

    def test_search_sends_what_was_asked(self, items: Collection, server: FakeServer) -> None:
        items.search(
            np.zeros(3),
            5,
            field="image",
            filter="a in $a",
            params={"a": [1, 2]},
            ef=70,
            output_fields=[],
        )
        items.search(np.zeros(3), field="image", exact=True, output_fields=["label"])
        items.search(np.zeros(3))
        items.search(np.zeros(3), recall=0.75)
        items.search_batch(np.zeros((1, 3)), field="image", recall=1)
        first, second, third, *by_recall = (request.options for request in server.requests)
        assert (first.limit, first.params.ef, first.params.exact) == (5, 70, False)
        assert first.filter.expression == "a in $a"
        assert len(first.filter.parameters["a"].list_value.values) == 2
        assert first.HasField("output_fields")
        assert list(first.output_fields.names) == []
        assert second.params.exact is True
        assert not second.params.HasField("ef")
        assert list(second.output_fields.names) == ["label"]
        assert (third.limit, third.vector_field) == (10, "")
        assert not third.HasField("output_fields")
        assert not third.HasField("params")
        assert not third.HasField("filter")
        assert [options.params.recall for options in by_recall] == [0.75, 1]
        assert not any(options.params.HasField("ef") for options in by_recall)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"query": np.zeros((1, 3))}, ValueError, r"query.*\(1, 3\)"),
            ({"limit": 0}, ValueError, "limit: expected 1 or more, got 0"),
            ({"ef": -1}, ValueError, "ef: expected 1 or more, got -1"),
            ({"ef": 5, "exact": True}, ValueError, "at most one of recall, exact and ef"),
            ({"ef": 5, "recall": 0.9}, ValueError, "at most one of recall, exact and ef"),
            ({"recall": 1.0, "exact": True}, ValueError, "at most one of recall, exact and ef"),
            ({"recall": 0}, ValueError, "recall: expected more than 0, up to 1, got 0"),
            ({"recall": 1.01}, ValueError, "recall: expected more than 0, up to 1, got 1.01"),
            ({"recall": float("nan")}, ValueError, "recall: .*got nan"),
            ({"params": {"a": 1}}, ValueError, "params are given without a filter"),
            ({"output_fields": "label"}, TypeError, "got the string 'label'"),
            ({"output_vectors": "image"}, TypeError, "got the string 'image'"),
            ({"filter": 5}, TypeError, "filter: expected str, got int"),
        ],
    )
    def test_bad_arguments_send_nothing(
        self,
        items: Collection,
        server: FakeServer,
        arguments: Any,
        error: type[Exception],
        message: str,
    ) -> None:
        with pytest.raises(error, match=message):
            items.search(**{"query": np.zeros(3), **arguments})
        assert server.requests == []

    def test_batch_returns_padded_arrays(self, items: Collection) -> None:
        fill(items, 3)
        batch = items.search_batch(grid(2), limit=4, field="image")
        assert batch.keys.tolist() == [[0, 1, 2, -1], [1, 0, 2, -1]]
        assert batch.keys.dtype == np.int64
        assert batch.counts.tolist() == [3, 3]
        assert batch.distances.dtype == np.float32
        assert batch.distances[0, :3].tolist() == [0, 1, 4]
        assert batch.scores[0, :3].tolist() == [0, -1, -4]
        assert np.isnan(batch.distances[:, 3]).all()
        assert np.isnan(batch.scores[:, 3]).all()
        assert [work.path for work in batch.work] == ["scan", "scan"]
        assert batch.warnings == ("careful",)
        assert repr(batch) == "BatchResult(2 queries, limit=4, 6 hits, as_of=2)"

    def test_batch_is_a_sequence_of_search_results(self, items: Collection) -> None:
        items.insert([0, 1, 2], {"image": grid(3)}, {"label": [5, None, 7]})
        batch = items.search_batch(grid(2), limit=3, field="image", output_vectors=["image"])
        assert len(batch) == 2
        assert [hit.fields for hit in batch[0]] == [{"label": 5}, {}, {"label": 7}]
        assert [hit.vectors["image"].tolist() for hit in batch[-1]] == [
            [1, 0, 0],
            [0, 0, 0],
            [2, 0, 0],
        ]
        assert [result.keys for result in batch] == [[0, 1, 2], [1, 0, 2]]
        assert [result.keys for result in batch[1:]] == [[1, 0, 2]]

    def test_batch_of_string_keys_is_padded_with_none(self, notes: Collection) -> None:
        notes.insert(["a", "b"], np.eye(2))
        batch = notes.search_batch(np.eye(2), limit=3)
        assert batch.keys.dtype == object
        assert batch.keys.tolist() == [["a", "b", None], ["b", "a", None]]
        assert batch[1].keys == ["b", "a"]

    def test_batch_without_queries_is_empty(self, items: Collection, server: FakeServer) -> None:
        batch = items.search_batch(np.zeros((0, 3)), limit=4, field="image")
        assert batch.keys.shape == (0, 4)
        assert server.requests == []

    def test_large_batches_are_split(self, items: Collection, server: FakeServer) -> None:
        batch = items.search_batch(np.zeros((10_001, 3)), limit=1, field="image")
        assert len(batch) == 10_001
        assert [len(r.queries_f32) // 12 for r in server.requests] == [10_000, 1]
        server.requests.clear()
        items.search_batch(np.zeros((130, 3)), limit=16_384, field="image")
        assert [len(r.queries_f32) // 12 for r in server.requests] == [61, 61, 8]

    def test_batch_is_halved_when_its_reply_is_too_large(
        self, items: Collection, server: FakeServer
    ) -> None:
        fill(items, 3)
        server.requests.clear()
        server.filler_bytes = 15 * 1024 * 1024
        batch = items.search_batch(grid(6), limit=1, field="image")
        assert [len(r.queries_f32) // 12 for r in server.requests] == [6, 3, 3]
        assert batch.keys[:, 0].tolist() == [0, 1, 2, 2, 2, 2]

    def test_batch_of_another_dimension_is_refused(
        self, items: Collection, server: FakeServer
    ) -> None:
        with pytest.raises(ValueError, match="'image' has dimension 3, got 6"):
            items.search_batch(np.zeros((2, 6)), field="image")
        with pytest.raises(ValueError, match="no vector field 'imag'; it has 'image', 'text'"):
            items.search_batch(np.zeros((2, 3)), field="imag")
        assert server.names() == ["DescribeCollectionRequest"] * 2

    def test_handle_notices_that_the_dimension_changed(
        self, items: Collection, server: FakeServer
    ) -> None:
        server.schema.vectors[0].dimension = 6
        assert len(items.search_batch(np.zeros((2, 6)), field="image")) == 2


class TestReads:
    def test_get_keeps_the_order_asked(self, items: Collection, server: FakeServer) -> None:
        fill(items)
        found = items.get([7, 99, 2, 7], output_fields=["label"], output_vectors=["image"])
        assert [record and record.key for record in found] == [7, None, 2, 7]
        assert list(server.requests[-1].output_vectors) == ["image"]
        assert list(server.requests[-1].output_fields.names) == ["label"]

    def test_get_of_many_keys_is_split(self, items: Collection, server: FakeServer) -> None:
        assert items.get(range(25_000)) == [None] * 25_000
        assert len(server.requests) == 3

    def test_query_and_count(self, items: Collection, server: FakeServer) -> None:
        fill(items)
        found = items.query("label > $x", 4, params={"x": 1.5})
        assert [record.key for record in found] == [0, 1, 2, 3]
        assert found[-1].fields == {"label": 30}
        assert found.warnings == ("careful",)
        assert server.requests[-1].filter.parameters["x"].double_value == 1.5
        assert items.count() == 10
        with pytest.warns(FilterWarning, match="unknown field 'x'"):
            assert items.count("x > 1") == 10


class TestErrors:
    @pytest.mark.parametrize(
        ("code", "error", "base"),
        [
            ("INVALID_ARGUMENT", errors.InvalidArgument, ValueError),
            ("NOT_FOUND", errors.NotFound, KeyError),
            ("ALREADY_EXISTS", errors.AlreadyExists, errors.AzimuthError),
            ("RESOURCE_EXHAUSTED", errors.ResourceExhausted, errors.AzimuthError),
            ("UNAVAILABLE", errors.Unavailable, ConnectionError),
            ("DEADLINE_EXCEEDED", errors.DeadlineExceeded, TimeoutError),
            ("UNIMPLEMENTED", errors.Unimplemented, NotImplementedError),
            ("FAILED_PRECONDITION", errors.FailedPrecondition, errors.AzimuthError),
            ("ABORTED", errors.Aborted, errors.AzimuthError),
            ("DATA_LOSS", errors.DataLoss, errors.AzimuthError),
            ("INTERNAL", errors.Internal, errors.AzimuthError),
            ("UNAUTHENTICATED", errors.Unauthenticated, errors.AzimuthError),
            ("PERMISSION_DENIED", errors.PermissionDenied, errors.AzimuthError),
            ("UNKNOWN", errors.AzimuthError, Exception),
        ],
    )
    def test_each_status_has_its_exception(
        self,
        items: Collection,
        server: FakeServer,
        code: str,
        error: type[errors.AzimuthError],
        base: type[Exception],
    ) -> None:
        server.failures = [(grpc.StatusCode[code], "what was wrong")] * 4
        with pytest.raises(error) as caught:
            items.insert([1])
        assert type(caught.value) is error
        assert isinstance(caught.value, base)
        assert caught.value.code is grpc.StatusCode[code]
        assert caught.value.details["method"] == "Insert"
        assert caught.value.details["hint"] == "look here"
        assert "what was wrong" in str(caught.value)

    def test_a_call_that_a_stopping_server_cancels_is_unavailable(
        self, items: Collection, server: FakeServer
    ) -> None:
        server.failures = [(grpc.StatusCode.CANCELLED, "what was wrong")] * 4
        with pytest.raises(azimuth_db.Unavailable, match="what was wrong") as caught:
            items.insert([1])
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE

    def test_message_is_the_servers_text(self, items: Collection, server: FakeServer) -> None:
        server.failures = [(grpc.StatusCode.NOT_FOUND, "collection 'items' does not exist")]
        with pytest.raises(azimuth_db.NotFound) as caught:
            items.stats()
        assert str(caught.value) == "collection 'items' does not exist"
        assert repr(caught.value) == "NotFound(NOT_FOUND, \"collection 'items' does not exist\")"

    def test_errors_can_be_pickled(self) -> None:
        error = errors.make_error(grpc.StatusCode.UNAVAILABLE, "gone", {"address": "a:1"})
        error.partial = azimuth_db.WriteResult(1, 0, 2)
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is errors.Unavailable
        assert (copy.message, copy.details, copy.partial) == (
            "gone",
            {"address": "a:1"},
            error.partial,
        )

    def test_reads_are_tried_again(self, items: Collection, server: FakeServer) -> None:
        server.failures = [(grpc.StatusCode.UNAVAILABLE, "draining")] * 2
        assert items.count() == 0
        assert len(server.requests) == 3

    def test_reads_give_up_after_their_retries(self, server: FakeServer) -> None:
        server.failures = [(grpc.StatusCode.UNAVAILABLE, "draining")] * 9
        with Client(server.address, retries=1) as db, pytest.raises(azimuth_db.Unavailable):
            db.list_collections()
        assert len(server.requests) == 2

    def test_writes_without_an_id_are_not_tried_again(
        self, db: Client, items: Collection, server: FakeServer
    ) -> None:
        writes: list[Callable[[], Any]] = [
            lambda: items.delete(filter="label == 3"),
            lambda: items.delete(all=True),
            items.truncate,
            lambda: db.drop_collection("items"),
        ]
        for write in writes:
            server.failures = [(grpc.StatusCode.UNAVAILABLE, "draining")]
            server.requests.clear()
            with pytest.raises(azimuth_db.Unavailable, match="draining"):
                write()
            assert len(server.requests) == 1

    def test_other_errors_of_reads_are_not_tried_again(
        self, items: Collection, server: FakeServer
    ) -> None:
        server.failures = [(grpc.StatusCode.ABORTED, "lost a race")]
        with pytest.raises(azimuth_db.Aborted):
            items.count()
        assert len(server.requests) == 1


class TestConnection:
    def test_refused_connection_names_the_address(self) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{closed.getsockname()[1]}"
            with Client(address, retries=0) as db:
                with pytest.raises(azimuth_db.Unavailable, match=f"server at {address}"):
                    db.list_collections()
            with pytest.raises(azimuth_db.Unavailable, match=f"answered at {address} within 0.1 s"):
                Client(address, wait_ready=0.1)

    def test_deadline_names_the_method(self) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            with Client(address, timeout=0.2) as db:
                with pytest.raises(TimeoutError, match=r"List.* took longer than its 0.2 s"):
                    db.list_collections()

    @pytest.mark.parametrize("text", ["Deadline Exceeded", "Stream removed (Deadline Exceeded)"])
    def test_a_deadline_names_the_method_however_grpc_puts_it(
        self, items: Collection, server: FakeServer, text: str
    ) -> None:
        server.failures = [(grpc.StatusCode.DEADLINE_EXCEEDED, text)]
        with pytest.raises(TimeoutError, match=r"Count took longer than its \S+ s at"):
            items.count()
        server.failures = [(grpc.StatusCode.DEADLINE_EXCEEDED, "the scan took too long")]
        with pytest.raises(TimeoutError, match=r"^the scan took too long$"):
            items.count()

    def test_closed_client_says_so(self, server: FakeServer) -> None:
        with Client(server.address) as db:
            db.list_collections()
        with pytest.raises(RuntimeError, match="the client is closed"):
            db.list_collections()

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("localhost", "localhost:7600"),
            ("10.0.0.1:99", "10.0.0.1:99"),
            ("::1", "[::1]:7600"),
            ("[::1]", "[::1]:7600"),
            ("[::1]:5", "[::1]:5"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
        ],
    )
    def test_port_may_be_left_out(self, given: str, expected: str) -> None:
        assert parse_address(given) == expected

    @pytest.mark.parametrize("address", ["http://localhost:7600", ""])
    def test_url_is_refused(self, address: str) -> None:
        with pytest.raises(ValueError, match="expected 'host:port'"):
            Client(address)

    def test_bad_timeouts_and_retries_are_refused(self) -> None:
        with pytest.raises(ValueError, match="timeout"):
            Client(timeout=0)
        with pytest.raises(ValueError, match="retries"):
            Client(retries=-1)
