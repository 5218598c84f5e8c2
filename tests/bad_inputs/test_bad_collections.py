"""Entries 25 to 42: creating, altering and dropping collections."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from azimuth_db._generated.azimuth.v1 import collections_pb2, types_pb2
from bad_input_cases import (
    ALREADY_EXISTS,
    EMPTY,
    INVALID,
    MARK,
    NOT_FOUND,
    OPEN,
    UNIMPLEMENTED,
    UNREADABLE,
    Case,
    Check,
    count,
    create,
    drop,
    field,
    get,
    insert,
    query,
    record,
    search,
    table,
    vector_field,
    with_bytes,
)
from bad_input_server import Server

NAME_RULE = r"is no name for a collection; allowed are 1 to 255 of A-Z a-z 0-9 _ -"
QUANTIZATIONS = "auto, none, sq8, sq4, rabitq4 or pca4"
FIELD_RULE = r"schema\.\w+\[\d+\]\.name: .*is no name for a field"
BAD_NAMES = {
    "empty": "",
    "256 bytes": "a" * 256,
    "1 MiB": "a" * (1 << 20),
    "dot": ".",
    "two dots": "..",
    "parent": "../etc",
    "slash": "a/b",
    "backslash": "a\\b",
    "NUL": "a\0b",
    "line break": "a\nb",
    "escape": "a\x1bb",
    "space": "a b",
    "leading dash": "-a",
    "leading digit": "1a",
    "letter that is not ASCII": "é",
    "bidirectional control": "a\u202eb",
    "percent": "a%00",
}


def indexed(**index: Any) -> collections_pb2.CreateCollectionRequest:
    options = collections_pb2.IndexOptions(**index)
    return create("c", [vector_field(index=options)])


def with_vector(**more: Any) -> collections_pb2.CreateCollectionRequest:
    return create("c", [vector_field(**more)])


def with_default(kind: int, default: types_pb2.Value, **more: Any) -> Any:
    return create("c", fields=[field("f", kind, default_value=default, **more)])


NAMES = [
    *(Case(25, f"create {n}", "Create", create(bad), INVALID, NAME_RULE)
      for n, bad in BAD_NAMES.items()),
    *(Case(25, f"drop {n}", "Drop", drop(bad), INVALID, NAME_RULE)
      for n, bad in BAD_NAMES.items()),
    Case(25, "create invalid UTF-8", "Create", with_bytes(create(MARK), b"a\xff\xfeb"),
         UNREADABLE, ""),
    Case(25, "create a lone surrogate", "Create", with_bytes(create(MARK), b"a\xed\xa0\x80"),
         UNREADABLE, ""),
    *(Case(25, f"read of {n}", rpc, request, INVALID, NAME_RULE)
      for n, bad in BAD_NAMES.items() if n in ("empty", "parent", "NUL", "1 MiB")
      for rpc, request in (("Count", count("", of=bad)), ("Get", get(1, of=bad)),
                           ("Query", query(of=bad)), ("Search", search(within=bad)))),
    *(Case(25, f"database {n}", "List", collections_pb2.ListCollectionsRequest(database=bad),
           INVALID, "database: .*is no name")
      for n, bad in BAD_NAMES.items() if n != "empty"),
    Case(25, "unknown database", "List", collections_pb2.ListCollectionsRequest(database="other"),
         UNIMPLEMENTED, "database: 'other' is not served yet; .*'default'"),
]  # fmt: skip

METRICS = "l2, ip or cosine"
SCHEMAS = [
    Case(27, "taken", "Create", create(OPEN), ALREADY_EXISTS, "'open'"),
    Case(27, "taken by another schema", "Create", create(EMPTY, if_not_exists=True),
         ALREADY_EXISTS, "'empty'"),
    Case(28, "zero", "Create", with_vector(dimension=0), INVALID,
         r'schema\.vectors\["v"\]\.dimension: 0 is outside of 1 to 32768'),
    Case(28, "unset", "Create", create("c", [collections_pb2.VectorFieldSpec(
        name="v", metric=types_pb2.METRIC_L2)]), INVALID, r"dimension: 0 .*1 to 32768"),
    Case(28, "one too many", "Create", with_vector(dimension=32769), INVALID,
         r"dimension: 32769 .*1 to 32768"),
    Case(28, "minus one", "Create", with_vector(dimension=2**32 - 1), INVALID,
         r"dimension: 4294967295 .*1 to 32768"),
    Case(29, "no metric", "Create", with_vector(metric=0), INVALID,
         rf"schema\.vectors\[0\]\.metric: missing; {METRICS}"),
    Case(29, "metric 77", "Create", with_vector(metric=77), INVALID,
         rf"schema\.vectors\[0\]\.metric: 77 is unknown; {METRICS}"),
    Case(29, "metric -1", "Create", with_vector(metric=-1), INVALID, "metric: -1 is unknown"),
    Case(29, "key type 9", "Create", create("c", key_type=9), INVALID,
         r"schema\.key_type: 9 is unknown; int64 or string"),
    Case(29, "field type 99", "Create", create("c", fields=[field("f", 99)]), INVALID,
         r"schema\.fields\[0\]\.type: 99 is unknown; bool, int64, double or string"),
    Case(29, "no field type", "Create", create("c", fields=[field("f", 0)]), INVALID,
         r"schema\.fields\[0\]\.type: missing; bool, int64, double or string"),
    Case(29, "index kind 8", "Create", indexed(kind=8), INVALID,
         r"schema\.vectors\[0\]\.index\.kind: 8 is unknown; auto, flat or hnsw"),
    Case(29, "quantization 66", "Create", indexed(quantization=66), INVALID,
         rf"quantization: 66 is unknown; {QUANTIZATIONS}"),
    Case(29, "vector kind 50", "Create", with_vector(kind=50), INVALID, "kind: 50 is unknown"),
    Case(29, "element type 50", "Create", with_vector(element_type=50), INVALID,
         "element_type: 50 is unknown; f32"),
    Case(30, "cosine on bits", "Create",
         with_vector(kind=types_pb2.VECTOR_KIND_BINARY, metric=types_pb2.METRIC_COSINE),
         UNIMPLEMENTED, "kind: binary is not served yet; dense"),
    Case(30, "server-made keys of strings", "Create",
         create("c", key_type=types_pb2.KEY_TYPE_STRING, auto_id=True), INVALID,
         r"schema\.auto_id: the server makes keys of type int64 only, and key_type is string"),
    Case(30, "hamming on floats", "Create", with_vector(metric=types_pb2.METRIC_HAMMING),
         UNIMPLEMENTED, f"metric: hamming is not served yet; {METRICS}"),
    *(Case(32, f"m {m}", "Create", indexed(m=m), INVALID,
           rf'schema\.vectors\["v"\]\.index\.m: {m} is outside of 2 to 128')
      for m in (0, 1, 129, 2**31, 2**32 - 1)),
    *(Case(32, f"ef_construction {ef}", "Create", indexed(ef_construction=ef), INVALID,
           rf"index\.ef_construction: {ef} is outside of 8 to 4096")
      for ef in (0, 7, 4097, 2**31, 2**32 - 1)),
    Case(33, "two scalar fields", "Create", create("c", fields=[field("f"), field("f")]), INVALID,
         r"schema\.fields\[1\]\.name: a second field has the name 'f'"),
    Case(33, "two vector fields", "Create", create("c", [vector_field(), vector_field()]), INVALID,
         r"schema\.vectors\[1\]\.name: a second field has the name 'v'"),
    Case(33, "a scalar and a vector field", "Create", create("c", fields=[field("v")]), INVALID,
         "a second field has the name 'v'"),
    Case(33, "the key's name", "Create", create("c", fields=[field("key")]), INVALID,
         r"schema\.fields\[0\]\.name: 'key' .*record's key"),
    Case(33, "a word of filters", "Create", create("c", fields=[field("and")]), INVALID,
         "'and' .*word of the filter language"),
    Case(33, "a vector named as a word of filters", "Create", create("c", [vector_field("NULL")]),
         INVALID, "'NULL' .*word of the filter language"),
    Case(33, "1025 fields", "Create", create("c", fields=[field(f"f{i}") for i in range(1025)]),
         INVALID, r"schema\.fields: 1025 fields; at most 1024"),
    Case(33, "65 vector fields", "Create", create("c", [vector_field(f"v{i}") for i in range(65)]),
         INVALID, r"schema\.vectors: 65 vector fields; 1 to 64"),
    Case(33, "no vector field", "Create", create("c", []), INVALID,
         r"schema\.vectors: 0 vector fields; 1 to 64"),
    Case(33, "no schema", "Create", collections_pb2.CreateCollectionRequest(collection="c"),
         INVALID, "schema: missing"),
    *(Case(33, f"field name {n}", "Create", create("c", fields=[field(bad)]), INVALID, FIELD_RULE)
      for n, bad in {**BAD_NAMES, "dash inside": "a-b", "dot inside": "a.b"}.items()),
    *(Case(33, f"vector field name {n}", "Create", create("c", [vector_field(bad)]), INVALID,
           FIELD_RULE)
      for n, bad in BAD_NAMES.items()),
    Case(59, "default of another type", "Create",
         with_default(types_pb2.FIELD_TYPE_INT64, types_pb2.Value(string_value="1")), INVALID,
         r'schema\.fields\["f"\]\.default_value: .*string.*int64'),
    Case(59, "default NaN", "Create",
         with_default(types_pb2.FIELD_TYPE_DOUBLE, types_pb2.Value(double_value=float("nan"))),
         INVALID, r"default_value: the number is not finite"),
    Case(59, "default without a case", "Create",
         with_default(types_pb2.FIELD_TYPE_INT64, types_pb2.Value()), INVALID,
         r"schema\.fields\[0\]\.default_value: .*no case set"),
    Case(60, "default null", "Create",
         with_default(types_pb2.FIELD_TYPE_INT64,
                      types_pb2.Value(null_value=types_pb2.NullValue()), nullable=False),
         INVALID, r"default_value: null is no default for a field that is not nullable"),
    Case(61, "default over the limit", "Create",
         with_default(types_pb2.FIELD_TYPE_STRING,
                      types_pb2.Value(string_value="x" * ((1 << 20) + 1))),
         INVALID, r"default_value: the string has 1048577 bytes; at most 1048576"),
    Case(38, "unknown", "Drop", drop("nothing"), NOT_FOUND, "'nothing'"),
    *(Case(38, f"{rpc} of unknown", rpc, request(collection="nothing"), NOT_FOUND, "'nothing'")
      for rpc, request in (("Describe", collections_pb2.DescribeCollectionRequest),
                           ("Stats", collections_pb2.CollectionStatsRequest))),
]  # fmt: skip

UNSERVED_TYPES = [
    *((31, f"field type {name}", create("c", fields=[field("f", number)]),
       f"type: {name.removeprefix('FIELD_TYPE_').lower()} is not served yet; bool, int64")
      for name, number in types_pb2.FieldType.items() if number > types_pb2.FIELD_TYPE_STRING),
    *((31, f"{name}", with_vector(kind=number), "kind: .* is not served yet; dense")
      for name, number in types_pb2.VectorKind.items() if number > types_pb2.VECTOR_KIND_DENSE),
    *((31, f"{name}", with_vector(element_type=number), "element_type: .*not served yet; f32")
      for name, number in types_pb2.ElementType.items() if number > types_pb2.ELEMENT_TYPE_F32),
    *((31, f"{name}", with_vector(metric=number), f"metric: .* is not served yet; {METRICS}")
      for name, number in types_pb2.Metric.items() if number > types_pb2.METRIC_COSINE),
    (35, "codes of one bit", indexed(quantization=types_pb2.QUANTIZATION_RABITQ1),
     rf"quantization: rabitq1 is not served yet; {QUANTIZATIONS}"),
    (31, "model", with_vector(model="m"), r"schema\.vectors\[0\]\.model: not served yet"),
    (31, "properties", create("c", properties={"a": "b"}), r"schema\.properties: not served yet"),
]  # fmt: skip
UNSERVED = [
    Case(entry, name, "Create", request, UNIMPLEMENTED, reason)
    for entry, name, request, reason in UNSERVED_TYPES
]


@pytest.mark.parametrize("case", table(NAMES))
def test_bad_name_is_refused(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.parametrize("case", table(SCHEMAS))
def test_bad_schema_is_refused(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.parametrize("case", table(UNSERVED))
def test_what_is_not_built_in_is_unimplemented(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.bad_input(35)
@pytest.mark.parametrize("dimension", [1, 32768])
@pytest.mark.parametrize("quantization", ["NONE", "SQ8", "SQ4", "RABITQ4", "PCA4"])
def test_every_quantization_fits_every_dimension(
    server: Server, dimension: int, quantization: str
) -> None:
    index = collections_pb2.IndexOptions(quantization=f"QUANTIZATION_{quantization}")
    server.stubs.call("Create", create("coded", [vector_field(dimension=dimension, index=index)]))
    server.stubs.call("Drop", drop("coded"))


@pytest.mark.bad_input(26)
def test_names_that_differ_by_case_are_two_collections_and_no_file_names(server: Server) -> None:
    for number, name in enumerate(("CaseOfNames", "caseofnames")):
        server.stubs.call("Create", create(name))
        server.stubs.call("Insert", insert(record(number), into=name))
    for number, name in enumerate(("CaseOfNames", "caseofnames")):
        assert len(server.stubs.call("Get", get(number, of=name)).records) == 1
        assert len(server.stubs.call("Get", get(1 - number, of=name)).records) == 0
    files = [str(path.relative_to(server.data_dir)) for path in server.data_dir.rglob("*")]
    assert files
    assert not [name for name in files if "caseofnames" in name.lower()]
    for name in ("CaseOfNames", "caseofnames"):
        assert server.stubs.call("Drop", drop(name)).dropped


@pytest.mark.bad_input(27)
def test_create_of_the_same_schema_finds_the_collection(server: Server) -> None:
    first = server.stubs.call("Create", create("twice"))
    again = server.stubs.call("Create", create("twice", if_not_exists=True))
    assert (first.created, again.created) == (True, False)
    assert first.collection_id == again.collection_id
    server.stubs.call("Drop", drop("twice"))


@pytest.mark.bad_input(38)
def test_drop_of_an_unknown_collection_with_if_exists_is_no_error(server: Server) -> None:
    assert not server.stubs.call("Drop", drop("nothing", if_exists=True)).dropped


@pytest.mark.bad_input(40)
def test_a_name_is_free_at_once_after_its_drop(server: Server) -> None:
    ids = []
    for n in range(5):
        ids.append(server.stubs.call("Create", create("again")).collection_id)
        assert server.stubs.call("Count", count("", of="again")).count == 0
        server.stubs.call("Insert", insert(*(record(i) for i in range(n + 1)), into="again"))
        server.stubs.call("Drop", drop("again"))
    assert len(set(ids)) == len(ids)


@pytest.mark.bad_input(41)
def test_of_racing_creates_one_wins(server: Server) -> None:
    def race(_: int) -> grpc.StatusCode:
        try:
            server.stubs.call("Create", create("raced"))
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
        return grpc.StatusCode.OK

    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            codes = sorted(pool.map(race, range(8)), key=lambda code: code.value[0])
            assert codes == [grpc.StatusCode.OK] + [ALREADY_EXISTS] * 7
            server.stubs.call("Drop", drop("raced"))
