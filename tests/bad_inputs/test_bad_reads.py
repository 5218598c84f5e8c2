"""Entries 72 to 79: get, query and count."""

from __future__ import annotations

from typing import Any

import pytest
from azimuth_db._generated.azimuth.v1 import records_pb2, types_pb2
from bad_input_cases import (
    EMPTY,
    INVALID,
    LATE,
    MARK,
    OPEN,
    PATH_FIELD_LIMIT,
    STRICT,
    UNIMPLEMENTED,
    UNREADABLE,
    Case,
    Check,
    count,
    f32,
    get,
    key_list,
    query,
    search,
    search_batch,
    table,
    varint,
    with_bytes,
    within,
)
from bad_input_server import Server, Watch, failure

LIMIT_RULE = r"limit: {}; allowed are 1 to 16384"


def query_of_limit(number: int) -> bytes:
    """A limit as wide as varints go; readers keep its lowest 32 bits."""
    return within(2, OPEN.encode()) + PATH_FIELD_LIMIT + varint(number)


def selection(*names: str) -> types_pb2.FieldSelection:
    return types_pb2.FieldSelection(names=names)


READS = [
    Case(72, "16,385 keys", "Get", get(*range(16385)), INVALID,
         "keys: 16385 keys; allowed are 1 to 16384"),
    Case(72, "no keys", "Get", get(), INVALID, "keys: 0 keys; allowed are 1 to 16384"),
    Case(72, "keys unset", "Get", records_pb2.GetRequest(collection=OPEN), INVALID,
         "keys: missing; set int64_keys or string_keys"),
    Case(53, "get of the wrong type", "Get", get("a"), INVALID,
         r"keys\[0\]: expected a key of type int64"),
    Case(53, "get of an empty key", "Get", get("a", "", of=STRICT), INVALID,
         r"keys\[1\]: a string key is 1 to 512 bytes"),
    Case(77, "zero", "Query", query(0), INVALID, LIMIT_RULE.format(0)),
    Case(77, "16,385", "Query", query(16385), INVALID, LIMIT_RULE.format(16385)),
    Case(77, "minus one", "Query", query_of_limit(2**64 - 1), INVALID,
         LIMIT_RULE.format(2**32 - 1)),
    Case(77, "2^31", "Query", query(2**31), INVALID, LIMIT_RULE.format(2**31)),
    Case(77, "2^32", "Query", query_of_limit(2**32), INVALID, LIMIT_RULE.format(0)),
    *(Case(79, f"{rpc} {name}", rpc, request(of=STRICT, **{"output_fields": selection(bad)}),
           INVALID, reason)
      for rpc, request in (("Query", lambda **more: query(**more)),
                           ("Get", lambda **more: get("a", **more)))
      for name, bad, reason in (
          ("unknown", "titel", "output_fields: unknown field 'titel'.*did you mean 'title'"),
          ("empty", "", "output_fields: unknown field ''"),
          ("vector", "v", "output_fields: 'v' is a vector field; ask for it in output_vectors"))),
    *(Case(79, f"{rpc} {name} vector", rpc, request(output_vectors=[bad]), INVALID,
           "output_vectors: .* is not a vector field")
      for rpc, request in (("Query", lambda **more: query(**more)),
                           ("Get", lambda **more: get(1, **more)))
      for name, bad in (("unknown", "nothing"), ("scalar", "n"), ("empty", ""))),
    Case(79, "invalid UTF-8", "Query",
         with_bytes(query(output_fields=selection(MARK)), b"\xff\xfe\xfd\xfc"), UNREADABLE, ""),
]  # fmt: skip

UNSERVED = [
    Case(74, "cursor", "Query", query(cursor="forged"), UNIMPLEMENTED, "cursor: not served yet"),
    Case(75, "cursor of another collection", "Query", query(of=EMPTY, cursor="forged"),
         UNIMPLEMENTED, "cursor: not served yet"),
    Case(31, "query order_by", "Query", query(order_by=["n"]), UNIMPLEMENTED,
         "order_by: not served yet; .*order of key"),
    Case(31, "query partitions", "Query", query(partitions=["p"]), UNIMPLEMENTED,
         "partitions: not served yet"),
    Case(31, "count partitions", "Count",
         records_pb2.CountRequest(collection=OPEN, partitions=["p"]), UNIMPLEMENTED,
         "partitions: not served yet"),
    *(Case(25, f"{rpc} unknown database", rpc, request, UNIMPLEMENTED,
           "database: 'other' is not served yet")
      for rpc, request in (("Get", get(1, database="other")), ("Query", query(database="other")),
                           ("Count", records_pb2.CountRequest(database="other")))),
]  # fmt: skip


@pytest.mark.parametrize("case", table(READS))
def test_bad_read_is_refused(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.parametrize("case", table(UNSERVED))
def test_unserved_field_of_a_read_is_unimplemented(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.bad_input(76)
@pytest.mark.parametrize("rpc", ["Get", "Query", "Count", "Search", "SearchBatch"])
@pytest.mark.parametrize("min_seq", [10**12, 2**64 - 1])
def test_a_read_waits_for_its_sequence_number_until_its_deadline(
    server: Server, watch: Watch, rpc: str, min_seq: int
) -> None:
    request: Any = {
        "Get": lambda: get(1, min_seq=min_seq),
        "Query": lambda: query(min_seq=min_seq),
        "Count": lambda: records_pb2.CountRequest(collection=OPEN, min_seq=min_seq),
        "Search": lambda: search(min_seq=min_seq),
        "SearchBatch": lambda: search_batch(f32([1, 0, 0, 0]), min_seq=min_seq),
    }[rpc]()
    with watch:
        error = failure(lambda: server.stubs.call(rpc, request, timeout=0.2))
        assert error.code() is LATE


@pytest.mark.bad_input(73)
def test_unknown_keys_are_listed_as_missing(server: Server) -> None:
    reply = server.stubs.call("Get", get(7, 2, -8, 2**63 - 1))
    assert [found.key.int64_key for found in reply.records] == [2]
    assert reply.missing == key_list([7, -8, 2**63 - 1])


@pytest.mark.bad_input(77)
def test_a_limit_above_the_rows_gives_them_all(server: Server) -> None:
    assert len(server.stubs.call("Query", query(16384)).records) == 3
    assert len(server.stubs.call("Query", query(16384, of=EMPTY)).records) == 0


@pytest.mark.bad_input(79)
def test_an_output_field_that_no_record_has_is_left_out(server: Server) -> None:
    reply = server.stubs.call("Query", query(output_fields=selection("nothing", "n")))
    assert [sorted(found.fields) for found in reply.records] == [["n"]] * 3


@pytest.mark.bad_input(91)
def test_an_empty_collection_has_nothing(server: Server) -> None:
    assert server.stubs.call("Count", count("", of=EMPTY)).count == 0
    assert not server.stubs.call("Query", query(of=EMPTY)).records
