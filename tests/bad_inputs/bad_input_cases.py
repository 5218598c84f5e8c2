"""Bad inputs as tables: one Case a line, one check for all, and short builders of requests."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from azimuth_db._generated.azimuth.v1 import (
    collections_pb2,
    records_pb2,
    search_pb2,
    types_pb2,
)
from bad_input_server import Server, Watch, assert_refused, failure

INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED
NOT_FOUND = grpc.StatusCode.NOT_FOUND
ALREADY_EXISTS = grpc.StatusCode.ALREADY_EXISTS
ABORTED = grpc.StatusCode.ABORTED
LATE = grpc.StatusCode.DEADLINE_EXCEEDED
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
# gRPC itself answers for bytes that protobuf cannot read; a text that is not UTF-8 is one of them.
UNREADABLE = (grpc.StatusCode.INTERNAL, INVALID)

OPEN = "open"  # int64 keys, dynamic, all kinds of fields, `v` by l2; keys 1 to 3.
STRICT = "strict"  # string keys, not dynamic, `title` is not nullable, `v` by cosine, `w` by ip.
EMPTY = "empty"  # As OPEN without records.
AUTO = "auto"  # As OPEN without records, and the server makes the keys.
DIMENSION = 4


@dataclass(frozen=True)
class Case:
    """One bad input: the number of its entry in the catalogue, and what must come back."""

    entry: int
    name: str
    rpc: str
    request: Any  # A message, its bytes, or a function that makes either (for large ones).
    codes: grpc.StatusCode | Sequence[grpc.StatusCode]
    reason: str  # A pattern that the text of the refusal matches.


def table(cases: Iterable[Case]) -> list[Any]:
    """The argument values of a parametrized test, each marked with its entry."""
    return [
        pytest.param(case, id=f"{case.entry}-{case.name}", marks=pytest.mark.bad_input(case.entry))
        for case in cases
    ]


def check(server: Server, case: Case) -> None:
    """Sends the bad input and looks at everything that the catalogue promises."""
    request = case.request() if callable(case.request) else case.request
    with Watch(server, answers_good_calls, OPEN):
        error = failure(lambda: server.stubs.call(case.rpc, request))
        assert_refused(error, case.codes, case.reason, server)


def answers_good_calls(server: Server) -> None:
    """One search and one write that must work at any time."""
    reply = server.stubs.call("Search", search([1, 0, 0, 0], limit=3))
    found = [hit.key.int64_key for hit in reply.hits]
    assert found == [1, 2, 3], f"a good search finds {found}"
    written = server.stubs.call("Upsert", upsert(record(1, [1, 0, 0, 0], n=1)))
    assert (written.inserted, written.replaced) == (0, 1), f"a good write says {written}"


# --- requests -------------------------------------------------------------------------------------


def value(item: Any) -> types_pb2.Value:
    """A wire value of a Python one; a Value stays as it is."""
    if isinstance(item, types_pb2.Value):
        return item
    if item is None:
        return types_pb2.Value(null_value=types_pb2.NullValue())
    if isinstance(item, bool):
        return types_pb2.Value(bool_value=item)
    if isinstance(item, int):
        return types_pb2.Value(int64_value=item)
    if isinstance(item, float):
        return types_pb2.Value(double_value=item)
    if isinstance(item, str):
        return types_pb2.Value(string_value=item)
    if isinstance(item, list):
        return types_pb2.Value(list_value=types_pb2.ListValue(values=[value(i) for i in item]))
    entries = {name: value(i) for name, i in item.items()}
    return types_pb2.Value(map_value=types_pb2.MapValue(entries=entries))


def key(item: int | str | None) -> types_pb2.Key:
    if item is None:
        return types_pb2.Key()
    if isinstance(item, str):
        return types_pb2.Key(string_key=item)
    return types_pb2.Key(int64_key=item)


def key_list(keys: Any) -> types_pb2.KeyList:
    if keys and isinstance(keys[0], str):
        return types_pb2.KeyList(string_keys=types_pb2.StringList(values=keys))
    return types_pb2.KeyList(int64_keys=types_pb2.Int64List(values=keys))


def f32(numbers: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def vector(item: Any) -> types_pb2.Vector:
    """Numbers as floats, bytes as an f32 block."""
    if isinstance(item, bytes):
        return types_pb2.Vector(dense=types_pb2.DenseVector(f32=item))
    return types_pb2.Vector(dense=types_pb2.DenseVector(values=item))


def keyless(v: Any = (1, 1, 1, 1), **fields: Any) -> types_pb2.Record:
    """A record of AUTO."""
    made = record(1, v, **fields)
    made.ClearField("key")
    return made


def record(of: Any, v: Any = (1, 1, 1, 1), **fields: Any) -> types_pb2.Record:
    """A record of OPEN or EMPTY; of STRICT when it has a `title`."""
    return types_pb2.Record(
        key=key(of),
        fields={name: value(item) for name, item in fields.items()},
        vectors={} if v is None else {"v": vector(v)},
    )


def rows(*records: types_pb2.Record) -> types_pb2.RecordList:
    return types_pb2.RecordList(records=records)


def insert(*records: types_pb2.Record, into: str = OPEN, **more: Any) -> records_pb2.InsertRequest:
    return records_pb2.InsertRequest(collection=into, rows=rows(*records), **more)


def upsert(*records: types_pb2.Record, into: str = OPEN, **more: Any) -> records_pb2.UpsertRequest:
    return records_pb2.UpsertRequest(collection=into, rows=rows(*records), **more)


def update(*records: types_pb2.Record, into: str = OPEN, **more: Any) -> records_pb2.UpdateRequest:
    return records_pb2.UpdateRequest(collection=into, rows=rows(*records), **more)


def with_meta(of: types_pb2.Record, **more: Any) -> types_pb2.Record:
    """The record with its `expires_at_unix_us` or its `if_version` as well."""
    of.MergeFrom(types_pb2.Record(**more))
    return of


def columns(
    keys: Sequence[int],
    vectors: bytes | None = None,
    fields: Sequence[types_pb2.FieldColumn] = (),
    into: str = OPEN,
    present: bytes = b"",
) -> records_pb2.InsertRequest:
    data = types_pb2.RecordColumns(keys=key_list(keys), fields=fields)
    if vectors is not None:
        data.vectors.add(name="v", f32=vectors, present=present)
    return records_pb2.InsertRequest(collection=into, columns=data)


def delete(of: str = OPEN, **more: Any) -> records_pb2.DeleteRequest:
    return records_pb2.DeleteRequest(collection=of, **more)


def get(*keys: Any, of: str = OPEN, **more: Any) -> records_pb2.GetRequest:
    return records_pb2.GetRequest(collection=of, keys=key_list(keys), **more)


def filtered(expression: str, parameters: dict[str, Any] | None = None) -> types_pb2.Filter:
    named = {name: value(item) for name, item in (parameters or {}).items()}
    return types_pb2.Filter(expression=expression, parameters=named)


def query(limit: int = 10, of: str = OPEN, **more: Any) -> records_pb2.QueryRequest:
    return records_pb2.QueryRequest(collection=of, limit=limit, **more)


def count(expression: str, parameters: dict[str, Any] | None = None, of: str = OPEN) -> Any:
    return records_pb2.CountRequest(collection=of, filter=filtered(expression, parameters))


def search(
    of: Sequence[float] | bytes = (1, 0, 0, 0), limit: int = 3, within: str = OPEN, **options: Any
) -> search_pb2.SearchRequest:
    return search_pb2.SearchRequest(
        collection=within,
        query=vector(of),
        options=search_pb2.SearchOptions(limit=limit, **options),
    )


def search_batch(
    queries: bytes, limit: int = 3, within: str = OPEN, **options: Any
) -> search_pb2.SearchBatchRequest:
    return search_pb2.SearchBatchRequest(
        collection=within,
        queries_f32=queries,
        options=search_pb2.SearchOptions(limit=limit, **options),
    )


def vector_field(name: str = "v", **more: Any) -> collections_pb2.VectorFieldSpec:
    """By l2 with DIMENSION dimensions, unless `more` says otherwise."""
    described = {"dimension": DIMENSION, "metric": types_pb2.METRIC_L2} | more
    return collections_pb2.VectorFieldSpec(name=name, **described)


def field(name: str, kind: Any = types_pb2.FIELD_TYPE_INT64, **more: Any) -> Any:
    return collections_pb2.FieldSpec(name=name, type=kind, **more)


def create(
    name: str,
    vectors: Sequence[collections_pb2.VectorFieldSpec] | None = None,
    fields: Sequence[collections_pb2.FieldSpec] = (),
    if_not_exists: bool = False,
    **schema: Any,
) -> collections_pb2.CreateCollectionRequest:
    return collections_pb2.CreateCollectionRequest(
        collection=name,
        schema=collections_pb2.CollectionSchema(
            fields=fields, vectors=[vector_field()] if vectors is None else vectors, **schema
        ),
        if_not_exists=if_not_exists,
    )


def drop(name: str, **more: Any) -> collections_pb2.DropCollectionRequest:
    return collections_pb2.DropCollectionRequest(collection=name, **more)


# --- bytes that no library writes -----------------------------------------------------------------

MARK = "@@@@"  # Stands in a request where other bytes shall be.


def with_bytes(request: Any, instead: bytes) -> bytes:
    """The bytes of a request with `instead` in the place of its MARK."""
    assert len(instead) == len(MARK)
    data: bytes = request.SerializeToString()
    assert data.count(MARK.encode()) == 1
    return data.replace(MARK.encode(), instead)


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def within(number: int, data: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def nested_value(levels: int) -> bytes:
    """A Value of so many lists, each the only item of the next."""
    data = within(5, b"x")
    for _ in range(levels):
        data = within(6, within(1, data))
    return data


def insert_of_value(data: bytes) -> bytes:
    """An InsertRequest into OPEN of one record whose field `deep` is the Value of these bytes."""
    entry = within(2, within(1, b"deep") + within(2, data))
    return within(2, OPEN.encode()) + within(3, within(1, within(1, b"\x08\x09") + entry))


PATH_FIELD_LIMIT = b"\x20"  # The tag of QueryRequest.limit.

Check = Callable[[Case], None]
