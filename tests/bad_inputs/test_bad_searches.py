"""Entries 80 to 93: search."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from azimuth_db._generated.azimuth.v1 import search_pb2, types_pb2
from bad_input_cases import (
    EMPTY,
    INVALID,
    OPEN,
    STRICT,
    UNIMPLEMENTED,
    Case,
    Check,
    f32,
    filtered,
    key,
    search,
    search_batch,
    table,
    varint,
    within,
)
from bad_input_server import Server

NAN, INF = float("nan"), float("inf")
ONE = f32([1, 0, 0, 0])
LIMIT_RULE = "limit: {}; allowed are 1 to 16384"
EF_RULE = "ef: {}; allowed are 1 to 32768"
RECALL_RULE = "recall: {}; allowed is more than 0, up to 1"
ONE_OF_THREE = "options.params: more than one of recall, ef and exact is set; at most one"


def params(**more: Any) -> search_pb2.SearchParams:
    return search_pb2.SearchParams(**more)


def search_of_limit(number: int) -> bytes:
    """A limit as wide as varints go; readers keep its lowest 32 bits."""
    query = within(3, within(1, within(2, ONE)))
    return within(2, OPEN.encode()) + query + within(4, b"\x10" + varint(number))


def both(entry: int, name: str, reason: str, code: Any = INVALID, query: bytes = ONE,
         limit: int = 3, collection: str = OPEN, **options: Any) -> tuple[Case, Case]:  # fmt: skip
    """The same bad options by Search and by SearchBatch."""
    return (
        Case(entry, f"search {name}", "Search",
             search(query, limit, collection, **options), code, reason),
        Case(entry, f"batch {name}", "SearchBatch",
             search_batch(query * 2, limit, collection, **options), code, reason),
    )  # fmt: skip


OPTIONS = [
    *(case for limit in (0, 16385, 2**31, 2**32 - 1)
      for case in both(80, f"limit {limit}", LIMIT_RULE.format(limit), limit=limit)),
    Case(80, "limit 2^64-1", "Search", search_of_limit(2**64 - 1), INVALID,
         LIMIT_RULE.format(2**32 - 1)),
    Case(80, "limit 2^32", "Search", search_of_limit(2**32), INVALID, LIMIT_RULE.format(0)),
    *(case for ef in (0, 32769, 2**31, 2**32 - 1)
      for case in both(82, f"ef {ef}", EF_RULE.format(ef), params=params(ef=ef))),
    *both(82, "ef and exact", ONE_OF_THREE, params=params(ef=100, exact=True)),
    *(case for recall, said in ((0, "0"), (-0.0, "-0"), (-1, "-1"), (1.0001, "1.0001"),
                                (1.5, "1.5"), (95, "95"), (-1e-45, "-1.4013e-45"), (NAN, "nan"),
                                (-NAN, "-?nan"), (INF, "inf"), (-INF, "-inf"))
      for case in both(83, f"recall {recall!r}", RECALL_RULE.format(said),
                       params=params(recall=recall))),
    *both(83, "recall and ef", ONE_OF_THREE, params=params(recall=0.9, ef=100)),
    *both(83, "recall and exact", ONE_OF_THREE, params=params(recall=0.9, exact=True)),
    *both(83, "recall 1 and exact", ONE_OF_THREE, params=params(recall=1, exact=True)),
    *both(83, "bad recall and bad ef", ONE_OF_THREE, params=params(recall=2, ef=0)),
    *both(83, "all three", ONE_OF_THREE, params=params(recall=0.9, ef=100, exact=True)),
    *both(86, "unknown field", "vector_field: there is no vector field 'nothing'",
          vector_field="nothing"),
    *both(86, "scalar field", "vector_field: there is no vector field 'n'", vector_field="n"),
    *both(86, "none named of two", "vector_field: must be named, the collection has 2 vector",
          collection=STRICT),
    *both(79, "unknown output field", "output_fields: unknown field 'titel'.*'title'",
          collection=STRICT, vector_field="v",
          output_fields=types_pb2.FieldSelection(names=["titel"])),
    *both(79, "vector as output field", "output_fields: 'v' is a vector field",
          output_fields=types_pb2.FieldSelection(names=["v"])),
    *both(79, "unknown output vector", "output_vectors: 'nothing' is not a vector field",
          output_vectors=["nothing"]),
    *both(94, "filter of a search", r"1:3: .*expected", filter=filtered("n n")),
    *both(98, "filter on an unknown field", "1:1: unknown field 'nothing'",
          collection=STRICT, vector_field="v", filter=filtered("nothing = 1")),
]  # fmt: skip

QUERIES = [
    *(Case(84, f"search {size} dimensions", "Search", search([1.0] * size), INVALID,
           f"query: expected 4 dimensions, got {size}")
      for size in (1, 3, 5, 1000000)),
    Case(84, "search no numbers", "Search", search([]), INVALID,
         "query: dense: none of values and f32"),
    Case(84, "search no query", "Search", search_pb2.SearchRequest(
        collection=OPEN, options=search_pb2.SearchOptions(limit=1)), INVALID,
        "query: missing; set dense"),
    Case(84, "search 15 bytes", "Search", search(b"\0" * 15), INVALID,
         "query: dense.f32: 15 bytes are not a multiple of 4"),
    *(Case(84, f"search {name}", "Search", search([1, 1, bad, 1]), INVALID,
           r"query\[2\]: NaN or infinite")
      for name, bad in (("NaN", NAN), ("Inf", INF), ("-Inf", -INF))),
    Case(84, "search signalling NaN", "Search",
         search(f32([1, 1]) + struct.pack("<I", 0x7FA00000) + f32([1])), INVALID,
         r"query\[2\]: NaN or infinite"),
    Case(84, "search 3e38", "Search", search([3e38] * 4), INVALID, "query: its squared norm"),
    Case(84, "search zero with cosine", "Search",
         search([0.0] * 4, within=STRICT, vector_field="v"), INVALID,
         "query: a zero vector has no direction"),
    Case(84, "search subnormals with cosine", "Search",
         search([1e-40] * 4, within=STRICT, vector_field="v"), INVALID,
         "query: a zero vector has no direction"),
    Case(84, "batch 15 bytes", "SearchBatch", search_batch(b"\0" * 15), INVALID,
         "queries_f32: 15 bytes are not a multiple of 16, which is 4 x the dimension 4"),
    Case(84, "batch 20 bytes", "SearchBatch", search_batch(f32([1] * 5)), INVALID,
         "queries_f32: 20 bytes are not a multiple of 16"),
    Case(84, "batch NaN", "SearchBatch", search_batch(ONE + f32([1, NAN, 1, 1])), INVALID,
         r"queries\w*\[1\]\[1\]: NaN or infinite"),
    Case(84, "batch zero with cosine", "SearchBatch",
         search_batch(ONE + bytes(16), within=STRICT, vector_field="v"), INVALID,
         r"queries\w*\[1\]: a zero vector"),
    Case(85, "none", "SearchBatch", search_batch(b""), INVALID, "queries_f32: no queries"),
    Case(85, "10,001", "SearchBatch", search_batch(ONE * 10001, limit=1), INVALID,
         "10001 with limit 1; allowed are 10000 queries"),
    Case(85, "product", "SearchBatch", search_batch(ONE * 10000, limit=101), INVALID,
         "10000 with limit 101; allowed are .*1000000 queries x limit"),
    Case(85, "one of a million", "SearchBatch", search_batch(ONE * 1000000, limit=1), INVALID,
         "1000000 with limit 1; allowed are 10000 queries"),
]  # fmt: skip

RANGE = search_pb2.RangeBounds(radius=NAN)
UNSERVED_OPTIONS: list[tuple[int, str, dict[str, Any]]] = [
    (78, "offset", {"offset": 1}),
    (78, "offset", {"offset": 2**32 - 1}),
    (87, "range", {"range": RANGE}),
    (87, "range", {"range": search_pb2.RangeBounds()}),
    (87, "score_threshold", {"score_threshold": NAN}),
    (88, "group_by", {"group_by": "nothing"}),
    (88, "group_size", {"group_size": 2**32 - 1}),
    (92, "params.budget_us", {"params": params(budget_us=1)}),
    (92, "params.max_visits", {"params": params(max_visits=0)}),
    (93, "params.oversampling", {"params": params(oversampling=1e9)}),
    (31, "partitions", {"partitions": ["p"]}),
    (31, "explain", {"explain": True}),
]  # fmt: skip
UNSERVED = [
    *(case for number, (entry, name, options) in enumerate(UNSERVED_OPTIONS)
      for case in both(entry, f"{name} {number}", rf"options\.{name}: not served yet",
                       UNIMPLEMENTED, **options)),
    Case(90, "query_key", "Search", search_pb2.SearchRequest(
        collection=OPEN, query_key=key(10**9), options=search_pb2.SearchOptions(limit=1)),
        UNIMPLEMENTED, "query_key: not served yet; send the vector as query"),
    Case(90, "query_text", "Search", search_pb2.SearchRequest(
        collection=OPEN, query_text="shoes", options=search_pb2.SearchOptions(limit=1)),
        UNIMPLEMENTED, "query_text: not served yet; send the vector as query"),
    Case(25, "search unknown database", "Search", search_pb2.SearchRequest(
        database="other", collection=OPEN), UNIMPLEMENTED, "database: 'other' is not served yet"),
]  # fmt: skip


@pytest.mark.parametrize("case", table(OPTIONS))
def test_bad_option_is_refused(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.parametrize("case", table(QUERIES))
def test_bad_query_is_refused(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.parametrize("case", table(UNSERVED))
def test_unserved_field_of_a_search_is_unimplemented(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.bad_input(83)
@pytest.mark.parametrize("recall", [1e-45, 0.5, 0.99999994, 1])
def test_a_recall_within_the_bounds_is_served(server: Server, recall: float) -> None:
    assert len(server.stubs.call("Search", search(limit=3, params=params(recall=recall))).hits) == 3


@pytest.mark.bad_input(81)
def test_a_limit_above_the_rows_gives_them_all(server: Server) -> None:
    assert len(server.stubs.call("Search", search(limit=16384)).hits) == 3
    (result,) = server.stubs.call("SearchBatch", search_batch(ONE, limit=16384)).results
    assert len(result.distances) == 3


@pytest.mark.bad_input(82)
@pytest.mark.parametrize("ef", [1, 2, 32768])
def test_ef_below_the_limit_is_raised_and_above_the_rows_is_fine(server: Server, ef: int) -> None:
    assert len(server.stubs.call("Search", search(limit=3, params=params(ef=ef))).hits) == 3


@pytest.mark.bad_input(84)
def test_a_zero_query_is_fine_with_l2(server: Server) -> None:
    hits = server.stubs.call("Search", search([0.0] * 4)).hits
    assert [hit.key.int64_key for hit in hits] == [1, 2, 3]


@pytest.mark.bad_input(91)
def test_search_in_an_empty_collection_finds_nothing(server: Server) -> None:
    assert not server.stubs.call("Search", search(within=EMPTY)).hits
    results = server.stubs.call("SearchBatch", search_batch(ONE * 2, within=EMPTY)).results
    assert [len(result.distances) for result in results] == [0, 0]
