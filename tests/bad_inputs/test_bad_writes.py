"""Entries 43 to 71: insert, upsert, update and delete."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from azimuth_db._generated.azimuth.v1 import (
    collections_pb2,
    collections_pb2_grpc,
    records_pb2,
    types_pb2,
)
from bad_input_cases import (
    ABORTED,
    ALREADY_EXISTS,
    INVALID,
    MARK,
    NOT_FOUND,
    STRICT,
    UNIMPLEMENTED,
    UNREADABLE,
    Case,
    Check,
    columns,
    count,
    create,
    delete,
    drop,
    f32,
    field,
    filtered,
    get,
    insert,
    insert_of_value,
    key_list,
    nested_value,
    record,
    search,
    table,
    update,
    upsert,
    value,
    vector,
    vector_field,
    with_bytes,
    with_meta,
)
from bad_input_server import Server, Watch, assert_refused, failure

NAN, INF = float("nan"), float("inf")
SIGNALLING_NAN = struct.pack("<I", 0x7FA00000)
SUBNORMAL = 1e-40
FINITE = r"records\[0\](\.|: )vectors\[.v.\]\[{}\]: NaN or infinite; every element must be finite"


def both(entry: int, name: str, *records: types_pb2.Record, reason: str, into: str = "open",
         code: Any = INVALID) -> Iterator[Case]:  # fmt: skip
    """The same bad records by Insert and by Upsert."""
    yield Case(entry, f"insert {name}", "Insert", insert(*records, into=into), code, reason)
    yield Case(entry, f"upsert {name}", "Upsert", upsert(*records, into=into), code, reason)


def strict(of: Any, v: Any = (1, 0, 0, 0), **fields: Any) -> types_pb2.Record:
    return record(of, v, **({"title": "t"} | fields))


def column(name: str = "n", present: bytes = b"", **values: Any) -> types_pb2.FieldColumn:
    return types_pb2.FieldColumn(name=name, present=present, **values)


def int64s(*values: int) -> dict[str, Any]:
    return {"int64s": types_pb2.Int64List(values=values)}


def two_vectors() -> bytes:
    return f32([1] * 8)


def unserved_key_list() -> records_pb2.InsertRequest:
    request = records_pb2.InsertRequest(collection="open")
    request.columns.vectors.add(name="v", f32=two_vectors())
    return request


BATCHES = [
    *both(43, "into an unknown collection", record(9), into="nothing", code=NOT_FOUND,
          reason="'nothing'"),
    Case(43, "update in an unknown collection", "Update", update(record(9), into="nothing"),
         NOT_FOUND, "'nothing'"),
    Case(43, "truncate of an unknown collection", "Truncate",
         collections_pb2.TruncateCollectionRequest(collection="nothing"), NOT_FOUND, "'nothing'"),
    Case(43, "optimize of an unknown collection", "Optimize",
         collections_pb2.OptimizeRequest(collection="nothing"), NOT_FOUND, "'nothing'"),
    Case(43, "delete in an unknown collection", "Delete", delete("nothing", delete_all=True),
         NOT_FOUND, "'nothing'"),
    Case(43, "get of an unknown collection", "Get", get(1, of="nothing"), NOT_FOUND, "'nothing'"),
    Case(43, "count of an unknown collection", "Count", count("", of="nothing"), NOT_FOUND,
         "'nothing'"),
    Case(43, "search in an unknown collection", "Search", search(within="nothing"), NOT_FOUND,
         "'nothing'"),
    Case(44, "update of no rows", "Update", update(), INVALID, "records: empty batch"),
    *both(44, "of no rows", reason="records: empty batch"),
    Case(44, "insert of nothing set", "Insert", records_pb2.InsertRequest(collection="open"),
         INVALID, "records: empty batch"),
    Case(44, "insert of no columns", "Insert", columns([]), INVALID, "records: empty batch"),
    Case(44, "delete of no keys", "Delete", delete(keys=types_pb2.KeyList()), INVALID, "keys: "),
    Case(45, "100,001 rows", "Insert", lambda: insert(*[types_pb2.Record()] * 100001), INVALID,
         "records: 100001 records; at most 100000"),
    Case(45, "100,001 keys in columns", "Insert",
         lambda: columns(range(100001), f32([1] * 4 * 100001)), INVALID,
         "records: 100001 records; at most 100000"),
    Case(45, "100,001 keys to delete", "Delete",
         lambda: delete(keys=types_pb2.KeyList(
             int64_keys=types_pb2.Int64List(values=range(100001)))),
         INVALID, "keys: 100001 keys; allowed are 1 to 100000"),
]  # fmt: skip

VECTORS = [
    *both(46, "one too few", record(9, [1] * 3),
          reason=r"records\[0\](\.|: )vectors\[.v.\]: expected 4 dimensions, got 3"),
    *both(46, "one too many", record(9, [1] * 5), reason="expected 4 dimensions, got 5"),
    *both(46, "none", record(9, []),
          reason=r"records\[0\](\.|: )vectors\[.v.\].*none of values and f32"),
    *both(46, "empty bytes", record(9, b""), reason="none of values and f32"),
    *both(46, "a million", record(9, [1.0] * 1000000), reason="expected 4 .*got 1000000"),
    *both(46, "in the last of many", *(record(i) for i in range(10, 20)), record(9, [1]),
          reason=r"records\[10\](\.|: )vectors\[.v.\]: expected 4 dimensions, got 1"),
    Case(46, "columns one too few", "Insert", columns([8, 9], f32([1] * 6)), INVALID,
         r'"?v"?.*expected 4 dimensions, got 3'),
    Case(46, "columns one too many", "Insert", columns([8, 9], f32([1] * 10)), INVALID,
         "expected 4 dimensions, got 5"),
    Case(46, "columns without numbers", "Insert", columns([8, 9], b""), INVALID,
         "expected 4 dimensions, got 0"),
    *both(46, "both forms", types_pb2.Record(
        key=types_pb2.Key(int64_key=9),
        vectors={"v": types_pb2.Vector(dense=types_pb2.DenseVector(values=[1], f32=f32([1])))}),
        reason="both of values and f32; set exactly one"),
    *both(46, "no kind of vector", types_pb2.Record(
        key=types_pb2.Key(int64_key=9), vectors={"v": types_pb2.Vector()}),
        reason="missing; set dense"),
    *(case for size in (1, 3, 15, 17) for case in both(
        47, f"{size} bytes", record(9, b"\0" * size),
        reason=rf"records\[0\](\.|: )vectors\[.v.\].*f32: {size} bytes are not a multiple of 4")),
    Case(47, "columns of 33 bytes", "Insert", columns([8, 9], b"\0" * 33), INVALID,
         r"columns\.vectors\[.v.\]: f32: 33 bytes"),
    *(case for (name, bad), at in itertools.product(
        {"NaN": NAN, "Inf": INF, "-Inf": -INF}.items(), (0, 1, 3)) for case in both(
        48, f"{name} at {at}", record(9, [bad if i == at else 1.0 for i in range(4)]),
        reason=FINITE.format(at))),
    *both(48, "signalling NaN", record(9, f32([1, 1]) + SIGNALLING_NAN + f32([1])),
          reason=FINITE.format(2)),
    *both(48, "NaN of all bits", record(9, f32([1, 1, 1]) + b"\xff" * 4), reason=FINITE.format(3)),
    Case(48, "NaN in columns", "Insert", columns([8, 9], f32([1] * 6 + [NAN, 1])), INVALID,
         r"records\[1\](\.|: )vectors\[.v.\]\[2\]: NaN or infinite"),
    *both(48, "NaN with cosine", strict("n", [NAN, 1, 1, 1]), into=STRICT, reason="NaN or inf"),
    *both(49, "3e38", record(9, [3e38] * 4), reason=r"vectors.*squared norm .*8\.5e\+37"),
    *both(49, "one 3e38", record(9, [0, 3e38, 0, 0]), reason="squared norm .* is too large"),
    *both(49, "just over", record(9, [9.22e18, 0, 0, 0]), reason="squared norm .* is too large"),
    *both(49, "3e38 with cosine", strict("n", [3e38] * 4), into=STRICT, reason="squared norm"),
    *both(49, "subnormals with cosine", strict("n", [SUBNORMAL] * 4), into=STRICT,
          reason="zero vector has no direction"),
    *both(50, "zero with cosine", strict("n", [0.0] * 4), into=STRICT,
          reason=r"records\[0\](\.|: )vectors\[.v.\]: a zero vector has no direction"),
    *both(50, "minus zero with cosine", strict("n", [-0.0] * 4), into=STRICT,
          reason="zero vector has no direction"),
    *both(58, "unknown vector field", types_pb2.Record(
        key=types_pb2.Key(int64_key=9), vectors={"nothing": vector([1])}),
        reason=r"records\[0\](\.|: )vectors\[.nothing.\]: there is no such vector field"),
]  # fmt: skip

KEYS = [
    *both(53, "none", record(None), reason=r"records\[0\](\.|: )key: missing; set int64_key"),
    *both(53, "of the wrong type", record("text"),
          reason=r"records\[0\](\.|: )key: expected a key of type int64, got '?\"?text"),
    *both(53, "number for a string", strict(7), into=STRICT,
          reason=r"records\[0\](\.|: )key: expected a key of type string, got 7"),
    *both(53, "empty", strict(""), into=STRICT, reason=r"key: .*1 to 512 bytes of UTF-8"),
    *both(53, "513 bytes", strict("k" * 513), into=STRICT, reason="1 to 512 .*got 513 bytes"),
    *both(53, "NUL", strict("a\0b"), into=STRICT, reason="UTF-8 without NUL"),
    Case(53, "insert invalid UTF-8", "Insert",
         with_bytes(insert(strict(MARK), into=STRICT), b"\xff\xfe\xfd\xfc"), UNREADABLE, ""),
    Case(53, "get invalid UTF-8", "Get", with_bytes(get(MARK, of=STRICT), b"\xff\xfe\xfd\xfc"),
         UNREADABLE, ""),
    Case(53, "columns without keys", "Insert", unserved_key_list(), INVALID, "records: empty"),
    Case(53, "delete wrong type", "Delete", delete(
        keys=types_pb2.KeyList(string_keys=types_pb2.StringList(values=["a"]))), INVALID,
        r"keys\[0\]: expected a key of type int64"),
    Case(53, "delete empty", "Delete", delete(
        STRICT, keys=types_pb2.KeyList(string_keys=types_pb2.StringList(values=["a", ""]))),
        INVALID, r"keys\[1\]: a string key is 1 to 512"),
    Case(54, "rows", "Insert", insert(record(9), record(8), record(9)), INVALID,
         r"records\[2\](\.|: )key: 9 comes twice in the batch"),
    Case(54, "columns", "Insert", columns([9, 9], two_vectors()), INVALID,
         r"records\[1\](\.|: )key: 9 comes twice"),
    Case(55, "existing", "Insert", insert(record(8), record(2)), ALREADY_EXISTS, r"\b2\b"),
    Case(55, "existing string", "Insert", insert(strict("a"), into=STRICT), ALREADY_EXISTS, "'a'"),
]  # fmt: skip

FIELD = r"records\[0\](\.|: )fields\[.{}.\]: "
FIELDS = [
    *both(58, "unknown", strict("n", titel="x"), into=STRICT,
          reason=FIELD.format("titel") + ".*did you mean 'title'.*not dynamic"),
    *both(58, "scalar of a vector's name", types_pb2.Record(
        key=types_pb2.Key(int64_key=9), fields={"v": value(1)}),
        reason=FIELD.format("v") + "is a vector field"),
    *(case for name, bad in {"empty": "", "256 bytes": "f" * 256, "NUL": "a\0b", "key": "key",
                             "line break": "a\nb"}.items()
      for case in both(58, f"dynamic field named {name}", record(9, **{bad: 1}),
                       reason=r"fields\[.*a field name is 1 to 255 bytes of UTF-8")),
    *(case for field_name, bad in (
        ("n", 1.5), ("n", "1"), ("n", True), ("flag", 1), ("flag", "true"), ("price", "1.5"),
        ("price", "NaN"), ("price", True), ("title", 7), ("title", [1]), ("n", {"a": 1}))
      for case in both(59, f"{field_name}={bad!r}", record(9, **{field_name: bad}),
                       reason=FIELD.format(field_name) + "expected .*, got ")),
    *(case for bad in (NAN, INF, -INF) for case in both(
        59, f"price={bad}", record(9, price=bad),
        reason=FIELD.format("price") + "a double must be finite")),
    *(case for bad in (NAN, [1, NAN], {"a": INF}) for case in both(
        59, f"dynamic={bad!r}", record(9, other=bad),
        reason=FIELD.format("other") + "a double must be finite")),
    *both(59, "an integer that no double holds", record(9, price=2**53 + 1),
          reason=FIELD.format("price") + "the integer 9007199254740993 is not exact"),
    *both(59, "no case", record(9, n=types_pb2.Value()),
          reason=r"records\[0\](\.|: )fields\[.n.\]: a value has no case set"),
    *both(60, "null", strict("n", title=None), into=STRICT,
          reason=FIELD.format("title") + "null, but the field is not nullable"),
    *both(60, "missing", record("n"), into=STRICT, reason=FIELD.format("title") + "missing"),
    *both(61, "over the limit", record(9, title="x" * ((1 << 20) + 1)),
          reason=r"records\[0\].fields: 1048[56]\d\d bytes with the key, at most 1048576"),
    Case(61, "invalid UTF-8", "Insert",
         with_bytes(insert(record(9, title=MARK)), b"\xff\xfe\xfd\xfc"), UNREADABLE, ""),
    Case(61, "lone surrogate", "Insert",
         with_bytes(insert(record(9, title=MARK)), b"a\xed\xa0\x80"), UNREADABLE, ""),
    Case(61, "overlong slash", "Insert",
         with_bytes(insert(record(9, title=MARK)), b"a\xc0\xafb"), UNREADABLE, ""),
    *(Case(62, f"{levels} levels", "Insert", insert_of_value(nested_value(levels)), INVALID,
           r"records\[0\](\.|: )fields\[.deep.\]: .*nested .*16")
      for levels in (17, 30)),
    *both(62, "10^5 names", record(9, bag={f"name{i}": i for i in range(100000)}),
          reason=r"records\[0\].fields: 10000[12] names, .* at most 1024"),
    *both(62, "1025 fields", record(9, **{f"f{i}": i for i in range(1025)}),
          reason=r"records\[0\](\.|: )?:? ?fields: 1025 fields, at most 1024"),
    *both(63, "many strings", record(9, **{f"f{i}": "x" * 65536 for i in range(17)}),
          reason=r"records\[0\].fields: 111\d+ bytes with the key, at most 1048576"),
]  # fmt: skip

COLUMNS = [
    Case(64, "too few values", "Insert", columns([8, 9], two_vectors(), [column(**int64s(1))]),
         INVALID, r'columns\.fields\[.n.\]: 1 values for 2 records'),
    Case(64, "too many values", "Insert",
         columns([8, 9], two_vectors(), [column(**int64s(1, 2, 3))]), INVALID,
         r"columns\.fields\[.n.\]: 3 values for 2 records"),
    Case(64, "too few vectors", "Insert", columns([8, 9], f32([1] * 4)), INVALID,
         "expected 4 dimensions, got 2"),
    Case(64, "no values", "Insert", columns([8, 9], two_vectors(), [column()]), INVALID,
         r"columns\.fields\[.n.\]: no values; set one of bools, int64s"),
    Case(64, "two columns of a name", "Insert",
         columns([8, 9], two_vectors(), [column(**int64s(1, 2))] * 2), INVALID,
         r"columns\.fields\[.n.\]: two columns have this name"),
    Case(64, "presence of too many bytes", "Insert",
         columns([8, 9], two_vectors(), [column(present=b"\x03\0", **int64s(1, 2))]), INVALID,
         r"columns\.fields\[.n.\]: present: 2 bytes for 2 rows, expected 1"),
    Case(64, "presence past the rows", "Insert",
         columns([8, 9], two_vectors(), [column(present=b"\x07", **int64s(1, 2))]), INVALID,
         "present: bits past the 2 rows are set"),
    Case(64, "presence of vectors", "Insert", columns([8, 9], two_vectors(), present=b"\x01\x01"),
         INVALID, r"columns\.vectors\[.v.\]: present: 2 bytes for 2 rows"),
    Case(64, "column of the wrong type", "Insert",
         columns([8, 9], two_vectors(), [column("title", **int64s(1, 2))]), INVALID,
         r"records\[0\](\.|: )fields\[.title.\]: expected string, got int64"),
    Case(64, "column of nothing", "Insert",
         columns([8, 9], two_vectors(), [column("", **int64s(1, 2))]), INVALID,
         "a field name is 1 to 255"),
    Case(64, "value without a case", "Insert", columns([8, 9], two_vectors(), [column(
        any=types_pb2.ValueColumn(values=[value(1), types_pb2.Value()]))]), INVALID,
        r"columns\.fields\[.n.\]: any\[1\]: a value has no case set"),
]  # fmt: skip

KEY_1 = types_pb2.KeyList(int64_keys=types_pb2.Int64List(values=[1]))
DELETES = [
    Case(69, "blank filter", "Delete", delete(filter=filtered("")), INVALID,
         "filter: empty, .*delete_all"),
    Case(69, "filter of spaces", "Delete", delete(filter=filtered(" \n\t ")), INVALID,
         "filter: empty, .*delete_all"),
    Case(69, "nothing set", "Delete", delete(), INVALID,
         "0 of keys, filter and delete_all are set; set exactly one"),
    Case(69, "filter and delete_all", "Delete",
         delete(filter=filtered("n = 1"), delete_all=True), INVALID, "2 of keys, filter and"),
    Case(69, "dry run by keys", "Delete", delete(keys=KEY_1, dry_run=True), INVALID,
         "dry_run: allowed with filter or delete_all only"),
    Case(69, "all three", "Delete", delete(
        keys=types_pb2.KeyList(int64_keys=types_pb2.Int64List(values=[1])),
        filter=filtered("n = 1"), delete_all=True), INVALID, "3 of keys, filter and"),
]  # fmt: skip

UPDATES = [
    Case(56, "missing key", "Update", update(record(1), record(77)), NOT_FOUND,
         r"records\[1\].*77"),
    Case(56, "missing key with a version", "Update", update(record(77), if_version=1),
         (NOT_FOUND, ABORTED), "77"),
    Case(54, "update key twice", "Update", update(record(1), record(1)), INVALID, "comes twice"),
    Case(46, "update", "Update", update(record(1, [1] * 3)), INVALID,
         r'records\[0\]\.vectors\["v"\]: expected 4 dimensions, got 3'),
    Case(48, "update", "Update", update(record(1, [1, NAN, 1, 1])), INVALID, "NaN or infinite"),
    Case(53, "update string key", "Update", update(record("a")), INVALID, "int64"),
    Case(58, "update unknown field", "Update", update(record("a", None, nothing=1), into=STRICT),
         INVALID, "unknown field 'nothing'|nothing.*unknown"),
    Case(59, "update wrong type", "Update", update(record(1, n="x")), INVALID,
         r"records\[0\].*n.*expected int64, got string"),
    Case(60, "update to null", "Update", update(record("a", None, title=None), into=STRICT),
         INVALID, "title.*null"),
    Case(63, "update", "Update", update(record(1, **{f"f{i}": "x" * 65536 for i in range(17)})),
         INVALID, "at most 1048576"),
]  # fmt: skip

CONDITIONS = [
    *(Case(57, f"{rpc} {name}", rpc, make(version), ABORTED, rf"1.*if_version asks for {version}")
      for name, version in (("must not exist", 0), ("old", 1), ("of the future", 2**64 - 1))
      for rpc, make in (
          ("Upsert", lambda version: upsert(record(1), if_version=version)),
          ("Update", lambda version: update(record(1), if_version=version)),
          ("Delete", lambda version: delete(keys=KEY_1, if_version=version)))),
    Case(57, "of one record", "Upsert",
         upsert(record(9), with_meta(record(1), if_version=1)), ABORTED,
         r"records\[1\].*asks for 1"),
    Case(57, "of a missing record", "Upsert", upsert(record(9), if_version=5), ABORTED,
         r"records\[0\].*asks for 5"),
    Case(57, "with a filter", "Delete", delete(filter=filtered("n = 1"), if_version=1), INVALID,
         "if_version: allowed with keys only"),
    Case(57, "with delete_all", "Delete", delete(delete_all=True, if_version=1), INVALID,
         "if_version: allowed with keys only"),
]  # fmt: skip

LONG_ID = "r" * 129
REQUEST_IDS = [
    *(Case(71, f"{rpc} too long", rpc, request, INVALID, "request_id: 129 bytes; at most 128")
      for rpc, request in (("Insert", insert(record(9), request_id=LONG_ID)),
                           ("Upsert", upsert(record(9), request_id=LONG_ID)),
                           ("Update", update(record(1), request_id=LONG_ID)),
                           ("Delete", delete(delete_all=True, request_id=LONG_ID)))),
    Case(71, "a mebibyte", "Insert", insert(record(9), request_id="r" * 2**20), INVALID,
         "request_id: 1048576 bytes"),
    Case(71, "invalid UTF-8", "Insert", with_bytes(insert(record(9), request_id=MARK), b"\xff" * 4),
         UNREADABLE, ""),
]  # fmt: skip

MIN_INT64 = -(2**63)
TIMES = [
    *(Case(59, f"{rpc} ends at {moment}", rpc,
           request(with_meta(record(1), expires_at_unix_us=moment)), INVALID,
           rf"records\[0\]\.expires_at_unix_us: {moment}; allowed are 0")
      for rpc, request in (("Insert", insert), ("Upsert", upsert), ("Update", update))
      for moment in (-1, MIN_INT64)),
    *(Case(64, f"{len(times)} times", "Insert", records_pb2.InsertRequest(
        collection="open",
        columns=types_pb2.RecordColumns(keys=key_list([8, 9]), expires_at_unix_us=times)),
        INVALID, rf"columns\.expires_at_unix_us: {len(times)} values for 2 records")
      for times in ([1], [1, 2, 3])),
    *(Case(32, f"ttl {seconds}", "Create", create("c", ttl_seconds=seconds), INVALID,
           rf"schema\.ttl_seconds: {seconds}; allowed are 0")
      for seconds in (-1, MIN_INT64, 2**63 - 1)),
]  # fmt: skip

UNSERVED = [
    Case(31, "insert partition", "Insert", insert(record(9), partition="p"), UNIMPLEMENTED,
         "partition: not served yet"),
    Case(31, "upsert partition", "Upsert", upsert(record(9), partition="p"), UNIMPLEMENTED,
         "partition: not served yet"),
    Case(31, "update partition", "Update", update(record(1), partition="p"), UNIMPLEMENTED,
         "partition: not served yet"),
    Case(29, "durability 9", "Insert", insert(record(9), durability=9), INVALID,
         "durability: 9 is unknown; synced or relaxed"),
    *(Case(25, f"{rpc} unknown database", rpc, request, UNIMPLEMENTED,
           "database: 'other' is not served yet")
      for rpc, request in (("Insert", insert(record(9), database="other")),
                           ("Upsert", upsert(record(9), database="other")),
                           ("Update", update(record(1), database="other")),
                           ("Delete", delete(delete_all=True, database="other")))),
]  # fmt: skip


@pytest.mark.parametrize("case", table(BATCHES))
def test_bad_batch_is_refused(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.parametrize("case", table(VECTORS))
def test_bad_vector_is_refused(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.parametrize("case", table(KEYS))
def test_bad_key_is_refused(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.parametrize("case", table(FIELDS))
def test_bad_field_is_refused(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.parametrize("case", table(COLUMNS))
def test_ragged_columns_are_refused(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.parametrize("case", table(DELETES))
def test_delete_without_a_clear_choice_is_refused(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.parametrize("case", table(UPDATES))
def test_bad_update_is_refused(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.parametrize("case", table(CONDITIONS))
def test_a_condition_that_does_not_hold_is_refused(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.parametrize("case", table(REQUEST_IDS))
def test_bad_request_id_is_refused(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.parametrize("case", table(TIMES))
def test_bad_time_is_refused(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.parametrize("case", table(UNSERVED))
def test_unserved_field_of_a_write_is_unimplemented(refused: Check, case: Case) -> None:
    refused(case)


@pytest.fixture
def scratch(server: Server) -> Iterator[str]:
    """A collection like OPEN that a test may write to."""
    price = field("price", types_pb2.FIELD_TYPE_DOUBLE)
    server.stubs.call("Create", create("scratch", fields=[price]))
    yield "scratch"
    server.stubs.call("Drop", drop("scratch"))


@pytest.mark.bad_input(71)
def test_a_request_id_with_another_body_is_refused(
    server: Server, watch: Watch, scratch: str
) -> None:
    first = insert(record(1), into=scratch, request_id="once")
    as_of = server.stubs.call("Insert", first).as_of
    others: list[tuple[str, Any]] = [
        ("Insert", insert(record(2), into=scratch, request_id="once")),
        ("Insert", insert(record(1), into="open", request_id="once")),
        ("Upsert", upsert(record(1), into=scratch, request_id="once")),
        ("Update", update(record(1), into=scratch, request_id="once")),
        ("Delete", delete(scratch, keys=KEY_1, request_id="once")),
        ("Delete", delete(scratch, delete_all=True, request_id="once")),
    ]
    with watch:
        for rpc, request in others:
            error = failure(lambda rpc=rpc, request=request: server.stubs.call(rpc, request))
            assert_refused(error, INVALID, "request_id: 'once' came with another request", server)
    again = server.stubs.call("Insert", first)
    assert (again.inserted, again.as_of, again.replayed) == (1, as_of, True)


@pytest.mark.bad_input(56)
def test_an_update_may_skip_missing_keys(server: Server, scratch: str) -> None:
    server.stubs.call("Insert", insert(record(1, n=1), into=scratch))
    reply = server.stubs.call(
        "Update", update(record(1, n=2), record(7, n=2), into=scratch, skip_missing=True)
    )
    assert (reply.updated, reply.missing) == (1, 1)
    assert server.stubs.call("Count", count("n = 2", of=scratch)).count == 1


@pytest.mark.bad_input(59)
def test_a_record_that_has_ended_already_is_absent(server: Server, scratch: str) -> None:
    ended = with_meta(record(1), expires_at_unix_us=1)
    assert server.stubs.call("Insert", insert(ended, record(2), into=scratch)).inserted == 2
    reply = server.stubs.call("Get", get(1, 2, of=scratch))
    assert [found.key.int64_key for found in reply.records] == [2]
    assert server.stubs.call("Insert", insert(record(1), into=scratch)).inserted == 1


@pytest.mark.bad_input(119)
def test_two_optimize_at_a_time_both_end(server: Server, scratch: str) -> None:
    server.stubs.call("Insert", insert(record(1), record(2), into=scratch))
    stub = collections_pb2_grpc.CollectionServiceStub(server.stubs.channel)
    request = collections_pb2.OptimizeRequest(collection=scratch)
    streams = [stub.Optimize(request, timeout=60) for _ in range(2)]
    for stream in streams:
        last = list(stream)[-1]
        assert (last.done, last.segments, last.rows_waiting) == (True, 1, 0)


@pytest.mark.bad_input(119)
def test_an_optimize_that_nobody_waits_for_leaves_the_server_well(
    server: Server, scratch: str
) -> None:
    server.stubs.call("Insert", insert(record(1), into=scratch))
    stub = collections_pb2_grpc.CollectionServiceStub(server.stubs.channel)
    request = collections_pb2.OptimizeRequest(collection=scratch)
    for _ in range(5):
        stub.Optimize(request, timeout=60).cancel()
    assert list(stub.Optimize(request, timeout=60))[-1].done
    assert server.health() == "SERVING"


@pytest.mark.bad_input(49)
@pytest.mark.bad_input(50)
def test_zero_and_subnormal_vectors_are_fine_with_l2(server: Server, scratch: str) -> None:
    records = [record(1, [0.0] * 4), record(2, [SUBNORMAL] * 4), record(3, [9.2e18, 0, 0, 0])]
    server.stubs.call("Insert", insert(*records, into=scratch))
    hits = server.stubs.call("Search", search([0.0] * 4, within=scratch)).hits
    assert [hit.key.int64_key for hit in hits] == [1, 2, 3]
    assert all(hit.distance < INF for hit in hits)


@pytest.mark.bad_input(54)
def test_of_a_key_that_comes_twice_upsert_takes_the_last(server: Server, scratch: str) -> None:
    request = upsert(record(1, [1, 0, 0, 0], n=1), record(1, [0, 0, 0, 1], n=2), into=scratch)
    reply = server.stubs.call("Upsert", request)
    assert (reply.inserted, reply.replaced) == (1, 0)
    (found,) = server.stubs.call("Get", get(1, of=scratch)).records
    assert found.fields["n"].int64_value == 2


@pytest.mark.bad_input(58)
def test_a_dynamic_collection_stores_unknown_fields(server: Server, scratch: str) -> None:
    server.stubs.call("Insert", insert(record(1, other="x"), into=scratch))
    assert server.stubs.call("Count", count("other = 'x'", of=scratch)).count == 1


@pytest.mark.bad_input(59)
def test_minus_zero_is_zero(server: Server, scratch: str) -> None:
    server.stubs.call("Insert", insert(record(1, price=-0.0), into=scratch))
    for expression in ("price = 0", "price = -0.0", "price >= 0", "price <= 0"):
        assert server.stubs.call("Count", count(expression, of=scratch)).count == 1


@pytest.mark.bad_input(62)
def test_sixteen_levels_are_stored(server: Server, scratch: str) -> None:
    data = insert_of_value(nested_value(16)).replace(b"\x12\x04open", b"\x12\x07scratch")
    assert server.stubs.call("Insert", data).inserted == 1


@pytest.mark.bad_input(68)
def test_delete_of_unknown_keys_deletes_none(server: Server) -> None:
    keys = types_pb2.KeyList(int64_keys=types_pb2.Int64List(values=[10**9, -1]))
    assert server.stubs.call("Delete", delete(keys=keys)).deleted == 0


@pytest.mark.bad_input(69)
def test_delete_all_keeps_the_collection(server: Server, scratch: str) -> None:
    server.stubs.call("Insert", insert(record(1), record(2), into=scratch))
    assert server.stubs.call("Delete", delete(scratch, delete_all=True)).deleted == 2
    assert server.stubs.call("Count", count("", of=scratch)).count == 0


@pytest.mark.bad_input(46)
def test_a_record_may_lack_its_vector(server: Server, scratch: str) -> None:
    server.stubs.call("Insert", insert(record(1, None), record(2), into=scratch))
    hits = server.stubs.call("Search", search(within=scratch)).hits
    assert [hit.key.int64_key for hit in hits] == [2]


@pytest.mark.bad_input(46)
@pytest.mark.parametrize("rpc", ["Insert", "Upsert"])
def test_the_place_of_a_mistake_is_one_path(server: Server, rpc: str) -> None:
    bad = {"Insert": insert, "Upsert": upsert}[rpc](record(8), record(9, [1] * 3))
    error: Any = failure(lambda: server.stubs.call(rpc, bad))
    assert error.details() == 'records[1].vectors["v"]: expected 4 dimensions, got 3'


@pytest.mark.bad_input(34)
def test_the_widest_vector_is_stored(server: Server) -> None:
    wide = [vector_field(dimension=32768)]
    server.stubs.call("Create", create("wide", wide))
    server.stubs.call("Insert", insert(record(1, f32([1.0] * 32768)), into="wide"))
    reply = server.stubs.call("Search", search([1.0] * 32768, within="wide"))
    assert [hit.distance for hit in reply.hits] == [0.0]
    server.stubs.call("Drop", drop("wide"))
