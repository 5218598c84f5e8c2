"""A server within the process: real gRPC, and an in-memory store written as plainly as can be."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import pytest

from azimuth_db import Client, Collection, Field, VectorField
from azimuth_db._generated.azimuth.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    collections_pb2,
    collections_pb2_grpc,
    records_pb2,
    records_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
    types_pb2,
)


def unpack_bits(present: bytes, rows: int) -> list[bool]:
    """Reads a `present` bitmap bit by bit, as types.proto describes it."""
    if not present:
        return [True] * rows
    assert len(present) == (rows + 7) // 8
    return [bool(present[i >> 3] >> (i & 7) & 1) for i in range(rows)]


def key_of(record: types_pb2.Record) -> Any:
    return getattr(record.key, record.key.WhichOneof("kind") or "")


def rows_of(request: Any) -> list[types_pb2.Record]:
    """Returns the records of a write in row form, whichever form they came in."""
    if request.WhichOneof("records") == "rows":
        return list(request.rows.records)
    columns = request.columns
    kind = columns.keys.WhichOneof("kind")
    keys = list(getattr(columns.keys, kind).values) if kind else [None] * columns.count
    assert columns.count in (0, len(keys))
    records = []
    for key in keys:
        is_string = kind == "string_keys"
        named = types_pb2.Key(string_key=key) if is_string else types_pb2.Key(int64_key=key)
        records.append(types_pb2.Record(key=None if key is None else named))
    names = {"bools": "bool_value", "int64s": "int64_value", "doubles": "double_value"}
    names["strings"] = "string_value"
    for field in columns.fields:
        kind = field.WhichOneof("values")
        values = getattr(field, kind).values
        assert len(values) == len(keys)
        for record, value, here in zip(records, values, unpack_bits(field.present, len(keys))):
            if here and kind == "any":
                record.fields[field.name].CopyFrom(value)
            elif here:
                setattr(record.fields[field.name], names[kind], value)
    assert len(columns.expires_at_unix_us) in (0, len(keys))
    for record, moment in zip(records, columns.expires_at_unix_us):
        record.expires_at_unix_us = moment
    for column in columns.vectors:
        size = len(column.f32) // len(keys)
        for i, here in enumerate(unpack_bits(column.present, len(keys))):
            if here:
                part = column.f32[i * size : (i + 1) * size]
                records[i].vectors[column.name].dense.f32 = part
    return records


class FakeServer(
    admin_pb2_grpc.AdminServiceServicer,
    collections_pb2_grpc.CollectionServiceServicer,
    records_pb2_grpc.RecordServiceServicer,
    search_pb2_grpc.SearchServiceServicer,
):
    """Stores one collection, keeps every request, and fails on demand.

    `failures` holds (status, message) for the next calls; None lets one pass.
    """

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.failures: list[tuple[grpc.StatusCode, str] | None] = []
        self.schema = collections_pb2.CollectionSchema()
        self.records: dict[Any, types_pb2.Record] = {}
        self.unindexed: list[int] = []
        self.index_error = ""
        self.progress: list[collections_pb2.OptimizeResponse] = []
        self.filler_bytes = 0
        self.keys_made = 0
        self.address = ""

    def names(self) -> list[str]:
        return [type(request).__name__ for request in self.requests]

    def _begin(self, request: Any, context: grpc.ServicerContext) -> int:
        self.requests.append(request)
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            context.set_trailing_metadata((("hint", "look here"),))
            context.abort(*failure)
        return len(self.requests)

    def Create(self, request: Any, context: Any) -> Any:
        as_of = self._begin(request, context)
        self.schema = request.schema
        return collections_pb2.CreateCollectionResponse(collection_id=1, created=True, as_of=as_of)

    def Drop(self, request: Any, context: Any) -> Any:
        as_of = self._begin(request, context)
        return collections_pb2.DropCollectionResponse(dropped=True, as_of=as_of)

    def Describe(self, request: Any, context: Any) -> Any:
        self._begin(request, context)
        return collections_pb2.DescribeCollectionResponse(
            collection=request.collection,
            collection_id=1,
            schema=self.schema,
            created_unix_us=1_700_000_000_000_000,
        )

    def List(self, request: Any, context: Any) -> Any:
        self._begin(request, context)
        summary = collections_pb2.CollectionSummary(collection="items", collection_id=1)
        return collections_pb2.ListCollectionsResponse(collections=[summary])

    def Stats(self, request: Any, context: Any) -> Any:
        self._begin(request, context)
        segment = collections_pb2.SegmentStats(
            segment_id=4,
            state=collections_pb2.SEGMENT_STATE_SEALED,
            rows=9,
            codes_bytes=5,
            vectors=[
                collections_pb2.SegmentVectorStats(field="image", quantization="QUANTIZATION_SQ4"),
                collections_pb2.SegmentVectorStats(field="text"),
            ],
        )
        return collections_pb2.CollectionStatsResponse(
            row_count=len(self.records),
            unindexed_rows=self.unindexed.pop(0) if self.unindexed else 0,
            segments=[segment],
            index_error=self.index_error,
        )

    def Truncate(self, request: Any, context: Any) -> Any:
        as_of = self._begin(request, context)
        removed = len(self.records)
        self.records.clear()
        return collections_pb2.TruncateCollectionResponse(removed=removed, as_of=as_of)

    def Optimize(self, request: Any, context: Any) -> Any:
        self._begin(request, context)
        yield from self.progress

    def ServerInfo(self, request: Any, context: Any) -> Any:
        self._begin(request, context)
        return admin_pb2.ServerInfoResponse(
            version="1.2.3",
            limits=admin_pb2.ServerLimits(batch_records=7, unindexed_rows=8),
            memory=admin_pb2.MemoryUse(budget_bytes=9, growing_bytes=10),
            unindexed_rows=11,
            incarnation=12,
            as_of=13,
        )

    def Verify(self, request: Any, context: Any) -> Any:
        self._begin(request, context)
        found = admin_pb2.VerifyFinding(
            severity="derived", kind="segment.checksum", place="segment 4", message="it differs"
        )
        return admin_pb2.VerifyResponse(deep=request.deep, sound=False, rows=5, findings=[found])

    def Insert(self, request: Any, context: Any) -> Any:
        as_of = self._begin(request, context)
        rows = rows_of(request)
        reply = records_pb2.InsertResponse(inserted=len(rows), as_of=as_of)
        if self.schema.auto_id:
            self._make_keys(rows, reply)
        self.records.update({key_of(row): row for row in rows})
        return reply

    def Upsert(self, request: Any, context: Any) -> Any:
        as_of = self._begin(request, context)
        rows = rows_of(request)
        reply = records_pb2.UpsertResponse(as_of=as_of)
        if self.schema.auto_id:
            self._make_keys(rows, reply)
        reply.replaced = sum(key_of(row) in self.records for row in rows)
        reply.inserted = len(rows) - reply.replaced
        self.records.update({key_of(row): row for row in rows})
        return reply

    def _make_keys(self, rows: list[types_pb2.Record], reply: Any) -> None:
        for row in rows:
            if not row.HasField("key"):
                self.keys_made += 1
                row.key.int64_key = self.keys_made
                reply.keys.int64_keys.values.append(self.keys_made)

    def Update(self, request: Any, context: Any) -> Any:
        as_of = self._begin(request, context)
        reply = records_pb2.UpdateResponse(as_of=as_of)
        for row in rows_of(request):
            if key_of(row) in self.records:
                self.records[key_of(row)].MergeFrom(row)
                reply.updated += 1
            else:
                assert request.skip_missing
                reply.missing += 1
        return reply

    def Delete(self, request: Any, context: Any) -> Any:
        as_of = self._begin(request, context)
        keys = [*request.keys.int64_keys.values, *request.keys.string_keys.values]
        gone = [key for key in keys if self.records.pop(key, None) is not None]
        return records_pb2.DeleteResponse(deleted=len(gone), as_of=as_of, commits=1)

    def Get(self, request: Any, context: Any) -> Any:
        as_of = self._begin(request, context)
        keys = [*request.keys.int64_keys.values, *request.keys.string_keys.values]
        found = [self.records[key] for key in keys if key in self.records]
        return records_pb2.GetResponse(records=found, as_of=as_of)

    def Query(self, request: Any, context: Any) -> Any:
        as_of = self._begin(request, context)
        rows = [self.records[key] for key in sorted(self.records)][: request.limit]
        return records_pb2.QueryResponse(records=rows, as_of=as_of, warnings=["careful"])

    def Count(self, request: Any, context: Any) -> Any:
        self._begin(request, context)
        warnings = ["unknown field 'x'"] if request.HasField("filter") else []
        return records_pb2.CountResponse(count=len(self.records), warnings=warnings)

    def _nearest(self, query: Any, options: Any) -> list[tuple[float, Any]]:
        name = options.vector_field or self.schema.vectors[0].name
        found = []
        for key, record in self.records.items():
            if name in record.vectors:
                vector = np.frombuffer(record.vectors[name].dense.f32, "<f4")
                found.append((float(((vector - query) ** 2).sum()), key))
        return sorted(found)[: options.limit]

    def Search(self, request: Any, context: Any) -> Any:
        as_of = self._begin(request, context)
        query = np.frombuffer(request.query.dense.f32, "<f4")
        hits = []
        for distance, key in self._nearest(query, request.options):
            record = self.records[key]
            hits.append(
                search_pb2.Hit(
                    key=record.key,
                    distance=distance,
                    score=-distance,
                    fields=record.fields,
                )
            )
            for name in request.options.output_vectors:
                hits[-1].vectors[name].CopyFrom(record.vectors[name])
        work = search_pb2.SearchWork(
            path=search_pb2.SEARCH_PATH_GRAPH, distances_computed=42, complete=True
        )
        return search_pb2.SearchResponse(hits=hits, work=work, as_of=as_of, warnings=["careful"])

    def SearchBatch(self, request: Any, context: Any) -> Any:
        as_of = self._begin(request, context)
        name = request.options.vector_field or self.schema.vectors[0].name
        size = next(spec.dimension for spec in self.schema.vectors if spec.name == name)
        queries = np.frombuffer(request.queries_f32, "<f4").reshape(-1, size)
        reply = search_pb2.SearchBatchResponse(as_of=as_of, warnings=["careful"])
        if self.filler_bytes:
            reply.warnings.append("x" * (self.filler_bytes * len(queries)))
        for query in queries:
            result = reply.results.add()
            result.work.path = search_pb2.SEARCH_PATH_SCAN
            for distance, key in self._nearest(query, request.options):
                column = result.keys.string_keys if isinstance(key, str) else result.keys.int64_keys
                column.values.append(key)
                result.distances.append(distance)
                result.scores.append(-distance)
            records = [self.records[key] for _, key in self._nearest(query, request.options)]
            self._add_columns(result, records, request.options)
        return reply

    def SearchStream(self, requests: Any, context: Any) -> Any:
        """Answers by SearchBatch; queries that begin with -1 fail, and -2 ends the stream."""
        start = search_pb2.SearchStreamStart()
        for request in requests:
            if request.HasField("start"):
                start = request.start
                continue
            first = np.frombuffer(request.queries_f32, "<f4", count=1)[0]
            if first == -2:
                context.abort(grpc.StatusCode.NOT_FOUND, "it is gone")
            if first == -1:
                code = grpc.StatusCode.INVALID_ARGUMENT.value[0]
                yield search_pb2.SearchStreamResponse(code=code, message="not this one")
                continue
            batch = search_pb2.SearchBatchRequest(
                collection=start.collection,
                queries_f32=request.queries_f32,
                options=start.options,
            )
            reply = self.SearchBatch(batch, context)
            yield search_pb2.SearchStreamResponse(
                results=reply.results, as_of=reply.as_of, warnings=reply.warnings
            )

    def _add_columns(self, result: Any, records: list[Any], options: Any) -> None:
        present = [("label" in record.fields) for record in records]
        label = result.fields.add(name="label")
        label.present = bytes([sum(here << i for i, here in enumerate(present[:8]))])
        label.int64s.values.extend(record.fields["label"].int64_value for record in records)
        for name in options.output_vectors:
            parts = [record.vectors[name].dense.f32 for record in records]
            result.vectors.add(name=name, f32=b"".join(parts))


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    options = [("grpc.max_receive_message_length", 64 * 1024 * 1024)]
    grpc_server = grpc.server(futures.ThreadPoolExecutor(2), options=options)
    collections_pb2_grpc.add_CollectionServiceServicer_to_server(fake, grpc_server)
    records_pb2_grpc.add_RecordServiceServicer_to_server(fake, grpc_server)
    search_pb2_grpc.add_SearchServiceServicer_to_server(fake, grpc_server)
    admin_pb2_grpc.add_AdminServiceServicer_to_server(fake, grpc_server)
    fake.address = f"127.0.0.1:{grpc_server.add_insecure_port('127.0.0.1:0')}"
    grpc_server.start()
    yield fake
    grpc_server.stop(None).wait()


@pytest.fixture
def db(server: FakeServer) -> Iterator[Client]:
    with Client(server.address, timeout=20, wait_ready=True) as client:
        server.requests.clear()
        yield client


@pytest.fixture
def items(db: Client, server: FakeServer) -> Collection:
    made = db.create_collection(
        "items",
        vectors={
            "image": VectorField(3, "l2", index="hnsw", m=8),
            "text": VectorField(2, "cosine"),
        },
        fields={"label": "int64", "title": Field("string", nullable=False, default="?")},
    )
    made.describe()
    server.requests.clear()
    return made


@pytest.fixture
def notes(db: Client, server: FakeServer) -> Collection:
    """A collection with one vector field and string keys."""
    made = db.create_collection("notes", {"v": VectorField(2, "ip")}, key_type="string")
    made.describe()
    server.requests.clear()
    return made
