"""Ingest streams that are no loads, or break off; what is in them is Insert's business."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import grpc
import pytest
from azimuth_db._generated.azimuth.v1 import records_pb2 as pb
from azimuth_db._generated.azimuth.v1 import records_pb2_grpc
from bad_input_cases import AUTO, EMPTY, create, keyless, record, rows
from bad_input_server import Server, Watch, until

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def start(collection: str = EMPTY, **fields: Any) -> pb.IngestRequest:
    return pb.IngestRequest(start=pb.IngestStart(collection=collection, **fields))


def batch(number: int, *records: Any, **fields: Any) -> pb.IngestRequest:
    entries = rows(*records) if records else None
    return pb.IngestRequest(batch=pb.IngestBatch(number=number, rows=entries, **fields))


def answers(server: Server, requests: Iterable[pb.IngestRequest]) -> tuple[list[Any], Any]:
    """Returns the answers of a stream, and the error that it ended with, None if it was OK."""
    got: list[Any] = []
    stub = records_pb2_grpc.RecordServiceStub(server.stubs.channel)
    try:
        for answer in stub.Ingest(iter(requests), timeout=30):
            got.append(answer)
    except grpc.RpcError as error:
        return got, error
    return got, None


@pytest.mark.parametrize(
    ("requests", "code", "reason"),
    [
        pytest.param([], INVALID, "start: the first message", marks=pytest.mark.bad_input(70)),
        pytest.param(
            [batch(1, record(1))], INVALID, "start: the first", marks=pytest.mark.bad_input(70)
        ),
        pytest.param(
            [start(), start()], INVALID, "batch: after `start`", marks=pytest.mark.bad_input(70)
        ),
        pytest.param(
            [start("nothing")],
            grpc.StatusCode.NOT_FOUND,
            "'nothing'",
            marks=pytest.mark.bad_input(43),
        ),
        pytest.param(
            [start(load="x" * 101)], INVALID, "load: 101 bytes", marks=pytest.mark.bad_input(70)
        ),
    ],
)
def test_a_stream_that_is_no_load_is_refused(
    server: Server, watch: Watch, requests: list[pb.IngestRequest], code: Any, reason: str
) -> None:
    with watch:
        got, error = answers(server, requests)
        assert error is not None
        assert error.code() == code
        assert reason in error.details()
        assert not any(answer.HasField("ack") for answer in got)


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        pytest.param(batch(1), INVALID, "records: empty batch", marks=pytest.mark.bad_input(44)),
        pytest.param(
            batch(7, record(1)),
            grpc.StatusCode.FAILED_PRECONDITION,
            "batch 7 came, and batch 1 is next",
            marks=pytest.mark.bad_input(70),
        ),
        pytest.param(
            batch(1, record(1), skip=True), INVALID, "skip", marks=pytest.mark.bad_input(70)
        ),
        pytest.param(
            batch(1, record(1, v=(1.0,))),
            INVALID,
            "dimensions",
            marks=pytest.mark.bad_input(70),
        ),
    ],
)
def test_a_bad_batch_is_refused_and_the_stream_goes_on(
    server: Server, watch: Watch, request_: pb.IngestRequest, code: Any, reason: str
) -> None:
    with watch:
        got, error = answers(server, [start(), request_])
        assert error is None
        (refusal,) = [answer.refusal for answer in got if answer.HasField("refusal")]
        assert refusal.number == 1
        assert refusal.code == code.value[0]
        assert reason in refusal.message


@pytest.mark.bad_input(53)
@pytest.mark.parametrize(
    ("mode", "record_", "code", "reason"),
    [
        (pb.INGEST_MODE_INSERT, record(9), INVALID, "records[1].key: 9 is given, and the server"),
        (pb.INGEST_MODE_UPSERT, record(9), grpc.StatusCode.NOT_FOUND, "records[1].key: 9 does not"),
    ],
)
def test_a_batch_with_a_key_that_the_server_did_not_make_is_refused(
    server: Server, watch: Watch, mode: int, record_: Any, code: Any, reason: str
) -> None:
    with watch:
        got, error = answers(server, [start(AUTO, mode=mode), batch(1, keyless(), record_)])
        assert error is None
        (refusal,) = [answer.refusal for answer in got if answer.HasField("refusal")]
        assert refusal.code == code.value[0]
        assert reason in refusal.message
        assert not any(answer.HasField("ack") for answer in got)


@pytest.mark.bad_input(70)
def test_a_load_that_breaks_off_is_whole_batches(server: Server) -> None:
    server.stubs.call("Create", create("broken"))
    hold = threading.Event()

    def breaks() -> Iterator[pb.IngestRequest]:
        yield start("broken", load="broken")
        for number in range(1, 101):
            yield batch(number, record(2 * number), record(2 * number + 1))
        hold.wait(30)

    stub = records_pb2_grpc.RecordServiceStub(server.stubs.channel)
    call = stub.Ingest(breaks(), timeout=60)
    for _ in range(10):
        next(call)
    call.cancel()
    hold.set()

    def settled() -> bool:
        counts = [
            server.stubs.call("Count", pb.CountRequest(collection="broken")).count for _ in range(2)
        ]
        return counts[0] == counts[1]

    until(settled, "the load goes on")
    count = server.stubs.call("Count", pb.CountRequest(collection="broken")).count
    last = answers(server, [start("broken", load="broken")])[0][0].started.last_batch
    assert count == 2 * last > 0
