"""Streams of searches that are wrong at their start, in one message, or in how they end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
import pytest
from azimuth_db._generated.azimuth.v1 import search_pb2 as pb
from azimuth_db._generated.azimuth.v1 import search_pb2_grpc
from bad_input_cases import INVALID, NOT_FOUND, OPEN, UNIMPLEMENTED, create, drop, f32
from bad_input_server import Server, Watch, failure, until

ONE = f32([1, 0, 0, 0])
NAN = float("nan")


def start(collection: str = OPEN, limit: int = 3, **options: Any) -> pb.SearchStreamRequest:
    settings = pb.SearchOptions(limit=limit, **options)
    return pb.SearchStreamRequest(
        start=pb.SearchStreamStart(collection=collection, options=settings)
    )


def ask(queries: bytes = ONE) -> pb.SearchStreamRequest:
    return pb.SearchStreamRequest(queries_f32=queries)


def answers(server: Server, requests: Iterable[Any], to_bytes: Any = None) -> tuple[list[Any], Any]:
    """Returns the answers of a stream, and the error that it ended with, None if it was OK."""
    got: list[Any] = []
    stub = search_pb2_grpc.SearchServiceStub(server.stubs.channel)
    call = stub.SearchStream
    if to_bytes is not None:
        path = "/azimuth.v1.SearchService/SearchStream"
        decode = pb.SearchStreamResponse.FromString
        call = server.stubs.channel.stream_stream(path, to_bytes, decode)
    try:
        for answer in call(iter(requests), timeout=30):
            got.append(answer)
    except grpc.RpcError as error:
        return got, error
    return got, None


def of(entry: int, *values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.bad_input(entry))


@pytest.mark.parametrize(
    ("requests", "code", "reason"),
    [
        of(70, [], INVALID, "start: the first message"),
        of(70, [ask()], INVALID, "start: the first message"),
        of(70, [start(), start()], INVALID, "start: only the first message"),
        of(43, [start("nothing"), ask()], NOT_FOUND, "'nothing'"),
        of(86, [start(vector_field="x"), ask()], INVALID, "x"),
        of(78, [start(offset=1), ask()], UNIMPLEMENTED, "options.offset"),
        of(
            83,
            [start(params=pb.SearchParams(recall=0.9, ef=9)), ask()],
            INVALID,
            "options.params: more than one of recall, ef and exact is set",
        ),
    ],
)
def test_a_stream_that_is_no_search_is_refused(
    server: Server, watch: Watch, requests: list[Any], code: Any, reason: str
) -> None:
    with watch:
        got, error = answers(server, requests)
        assert error is not None
        assert error.code() == code
        assert reason in error.details()
        assert not got


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        of(84, ask(b"\0" * 15), "15 bytes"),
        of(84, ask(f32([1] * 5)), "20 bytes"),
        of(84, ask(f32([1, NAN, 1, 1])), "query"),
        of(85, ask(b""), "no queries"),
        of(85, ask(ONE * 10001), "10001"),
    ],
)
def test_a_bad_message_is_answered_and_the_stream_goes_on(
    server: Server, watch: Watch, message: Any, reason: str
) -> None:
    with watch:
        got, error = answers(server, [start(), ask(), message, ask()])
        assert error is None
        assert [answer.code for answer in got] == [0, INVALID.value[0], 0]
        assert reason in got[1].message
        assert not got[1].results
        for good in (got[0], got[2]):
            assert list(good.results[0].keys.int64_keys.values) == [1, 2, 3]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        of(80, {"limit": 16385}, "16385"),
        of(83, {"params": pb.SearchParams(recall=1.5)}, "recall: 1.5; allowed is more than 0"),
    ],
)
def test_a_bad_option_is_the_answer_to_each_message(
    server: Server, watch: Watch, options: dict[str, Any], reason: str
) -> None:
    with watch:
        got, error = answers(server, [start(**options), ask(), ask()])
        assert error is None
        assert [answer.code for answer in got] == [INVALID.value[0]] * 2
        assert reason in got[0].message


@pytest.mark.bad_input(3)
def test_a_message_that_is_none_ends_the_stream(server: Server, watch: Watch) -> None:
    with watch:
        good = [start().SerializeToString(), ask().SerializeToString()]
        got, error = answers(server, [*good, b"\xff" * 11, good[1]], to_bytes=bytes)
        assert len(got) == 1
        assert error is not None
        assert error.code() is grpc.StatusCode.INTERNAL


@pytest.mark.bad_input(43)
def test_a_drop_in_its_midst_ends_the_stream(server: Server) -> None:
    server.stubs.call("Create", create("streamed"))
    stub = search_pb2_grpc.SearchServiceStub(server.stubs.channel)

    def requests() -> Iterable[Any]:
        yield start("streamed")
        yield ask()
        until(lambda: got, "no answer came")
        server.stubs.call("Drop", drop("streamed"))
        yield ask()
        yield ask()

    got: list[Any] = []
    call = stub.SearchStream(requests(), timeout=30)
    got.append(next(call))
    error: Any = failure(lambda: next(call))
    assert error.code() is NOT_FOUND
    assert "streamed" in error.details()


@pytest.mark.bad_input(20)
def test_streams_that_are_cancelled_leave_the_server_well(server: Server, watch: Watch) -> None:
    stub = search_pb2_grpc.SearchServiceStub(server.stubs.channel)
    with watch:
        for taken in range(20):
            call = stub.SearchStream(iter([start(), *[ask(ONE * 100)] * 50]), timeout=30)
            for _ in range(taken):
                next(call)
            call.cancel()
