"""Entries 53 and 64 where the server makes the keys, and records without keys where it does not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from azimuth_db._generated.azimuth.v1 import records_pb2, types_pb2
from bad_input_cases import (
    AUTO,
    INVALID,
    NOT_FOUND,
    Case,
    Check,
    columns,
    f32,
    insert,
    keyless,
    record,
    table,
    update,
    upsert,
)


def column(*values: int) -> types_pb2.FieldColumn:
    return types_pb2.FieldColumn(name="n", int64s=types_pb2.Int64List(values=values))


def two_vectors() -> bytes:
    return f32([1] * 8)


def counted(rows: int, request: records_pb2.InsertRequest) -> records_pb2.InsertRequest:
    request.columns.count = rows
    return request


def keyless_columns(
    rows: int, fields: Sequence[types_pb2.FieldColumn] = (), into: str = AUTO
) -> records_pb2.InsertRequest:
    """Two vectors that are said to be those of so many records."""
    request = counted(rows, columns([], two_vectors(), fields, into=into))
    request.columns.ClearField("keys")
    return request


KEYS = [
    Case(53, "insert no key where none is made", "Insert", insert(record(9), keyless()), INVALID,
         r"records\[1\]\.key: missing; set int64_key or string_key"),
    Case(53, "upsert no key where none is made", "Upsert", upsert(record(9), keyless()), INVALID,
         r"records\[1\]\.key: missing; set int64_key or string_key"),
    Case(53, "insert a key where it is made", "Insert", insert(keyless(), record(9), into=AUTO),
         INVALID, r"records\[1\]\.key: 9 is given, and the server makes the keys of this"),
    Case(53, "insert columns of keys where they are made", "Insert",
         columns([8, 9], two_vectors(), into=AUTO), INVALID, r"records\[0\]\.key: 8 is given"),
    Case(53, "upsert a key that was never made", "Upsert",
         upsert(keyless(), record(9), into=AUTO), NOT_FOUND,
         r"records\[1\]\.key: 9 does not exist, and the server makes the keys"),
    Case(53, "upsert a string where int64 is made", "Upsert", upsert(record("a"), into=AUTO),
         INVALID, r"records\[0\]\.key: expected a key of type int64"),
    Case(53, "update without a key", "Update", update(keyless(), into=AUTO), INVALID,
         r"records\[0\]\.key: missing"),
    Case(53, "condition on a record without a key", "Upsert",
         upsert(keyless(), into=AUTO, if_version=3), INVALID,
         r"records\[0\]\.key: missing, so it is a new record, and if_version asks for 3"),
    Case(53, "columns without keys where none are made", "Insert", keyless_columns(2, into="open"),
         INVALID, r"records\[0\]\.key: missing"),
]  # fmt: skip

COLUMNS = [
    Case(64, "count of another number of keys", "Insert",
         counted(3, columns([8, 9], two_vectors())), INVALID,
         r"columns\.count: 3, and columns\.keys has 2"),
    Case(64, "count of no keys", "Insert", counted(2, columns([], two_vectors(), into=AUTO)),
         INVALID, r"columns\.count: 2, and columns\.keys has 0"),
    Case(64, "count that the vectors do not have", "Insert", keyless_columns(3), INVALID,
         r"f32: 32 bytes are not the same whole number of floats for each of 3 records"),
    Case(64, "count that a column does not have", "Insert",
         keyless_columns(2, [column(1)]), INVALID,
         r"columns\.fields\[.n.\]: 1 values for 2 records"),
    Case(64, "count of none", "Insert", keyless_columns(0), INVALID, "records: empty batch"),
    Case(64, "count of too many", "Insert", keyless_columns(2**32 - 1), INVALID,
         "records: 4294967295 records; at most 100000"),
]  # fmt: skip


@pytest.mark.parametrize("case", table(KEYS))
def test_a_key_where_the_server_makes_it_or_none_where_it_does_not_is_refused(
    refused: Check, case: Case
) -> None:
    refused(case)


@pytest.mark.parametrize("case", table(COLUMNS))
def test_a_count_of_records_that_is_not_that_of_the_columns_is_refused(
    refused: Check, case: Case
) -> None:
    refused(case)
