"""Bulk loads over streams that break, as a server tells of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import grpc
import pytest

from azimuth_db._generated.azimuth.v1 import records_pb2 as pb
from azimuth_db._generated.azimuth.v1 import types_pb2
from azimuth_db._ingest import Load
from azimuth_db.errors import (
    AzimuthError,
    DeadlineExceeded,
    FailedPrecondition,
    NotFound,
    Unavailable,
)

PACE = pb.IngestPace(batches_in_flight=10, bytes_in_flight=1 << 20)
Script = Callable[[Iterator[pb.IngestRequest]], Iterator[pb.IngestResponse]]


def started(**fields: Any) -> pb.IngestResponse:
    return pb.IngestResponse(started=pb.IngestStarted(load="x", pace=PACE, **fields))


def ack(number: int, **fields: Any) -> pb.IngestResponse:
    return pb.IngestResponse(ack=pb.IngestAck(number=number, **fields))


class Call:
    """A stream whose answers a script makes."""

    def __init__(self, answers: Iterator[pb.IngestResponse]) -> None:
        self._answers = answers

    def __iter__(self) -> Iterator[pb.IngestResponse]:
        return self._answers

    def cancel(self) -> None:
        """Ends nothing: the script does."""


class Scripted:
    """A transport with a script for each stream."""

    address = "nowhere:1"

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)

    def ingest(self, requests: Iterator[pb.IngestRequest]) -> Call:
        return Call(self._scripts.pop(0)(requests))

    def error_of(self, error: grpc.RpcError, method: str) -> AzimuthError:
        return Unavailable(grpc.StatusCode.UNAVAILABLE, f"{method}: {error}")


def numbers(requests: Iterator[pb.IngestRequest], count: int) -> list[int]:
    return [next(requests).batch.number for _ in range(count)]


def breaks_after(batches: int) -> Script:
    """Takes batches without a word of them, and breaks off."""

    def script(requests: Iterator[pb.IngestRequest]) -> Iterator[pb.IngestResponse]:
        assert next(requests).HasField("start")
        yield started()
        assert numbers(requests, batches) == list(range(1, batches + 1))

    return script


def load(*scripts: Script, timeout: float = 20.0, on_keys: Any = None, skips: bool = False) -> Load:
    transport: Any = Scripted(*scripts)
    start = pb.IngestStart(collection="items")
    return Load(transport, start, skips=skips, timeout=timeout, on_keys=on_keys)


def send(running: Load, batches: int) -> None:
    for _ in range(batches):
        running.send(pb.IngestBatch)


def send_all(running: Load, batches: int) -> None:
    send(running, batches)
    running.finish()


def test_batches_that_the_broken_stream_applied_late_are_counted() -> None:
    def resumes(requests: Iterator[pb.IngestRequest]) -> Iterator[pb.IngestResponse]:
        assert next(requests).HasField("start")
        yield started(last_batch=1, inserted=10, replaced=1, as_of=5)
        assert numbers(requests, 3) == [2, 3, 4]
        # By now the broken stream has applied the second and the third.
        for number in (2, 3):
            yield ack(number, replayed=True, as_of=7, load_inserted=30, load_replaced=3)
        yield ack(4, inserted=10, replaced=1, as_of=8)

    running = load(breaks_after(4), resumes)
    send(running, 4)
    assert running.finish() == ("x", 4, 40, 4, 8, ())


def test_what_the_resume_position_covers_is_counted() -> None:
    def resumes(requests: Iterator[pb.IngestRequest]) -> Iterator[pb.IngestResponse]:
        assert next(requests).HasField("start")
        yield started(last_batch=3, inserted=28, replaced=2, as_of=9)

    running = load(breaks_after(3), resumes)
    send(running, 3)
    assert running.finish() == ("x", 3, 28, 2, 9, ())


def test_a_load_that_the_server_has_forgotten_ends() -> None:
    def applies(requests: Iterator[pb.IngestRequest]) -> Iterator[pb.IngestResponse]:
        assert next(requests).HasField("start")
        yield started()
        assert numbers(requests, 2) == [1, 2]
        yield ack(1, inserted=1, as_of=1)
        yield ack(2, inserted=1, as_of=2)

    def resumes(requests: Iterator[pb.IngestRequest]) -> Iterator[pb.IngestResponse]:
        assert next(requests).HasField("start")
        yield started()
        numbers(requests, 1)

    running = load(applies, resumes)
    send(running, 2)
    with pytest.raises(FailedPrecondition, match=r"forgotten batches up to 2.*truncated"):
        send(running, 1000)


class TestRefusalsOfABatchWithoutRecords:
    """As where the collection is gone: passing over the batch again would have no end."""

    def gone(self, next_batch: int, asked: list[tuple[int, bool]]) -> Script:
        def script(requests: Iterator[pb.IngestRequest]) -> Iterator[pb.IngestResponse]:
            assert next(requests).HasField("start")
            yield started(last_batch=next_batch - 1)
            for request in islice(requests, 10):
                asked.append((request.batch.number, request.batch.skip))
                code, _ = grpc.StatusCode.NOT_FOUND.value
                refusal = pb.IngestRefusal(number=next_batch, code=code, message="gone")
                yield pb.IngestResponse(refusal=refusal)
            raise AssertionError("it is sent again and again")

        return script

    def test_end_the_load(self) -> None:
        asked: list[tuple[int, bool]] = []
        running = load(self.gone(1, asked), skips=True)
        with pytest.raises(NotFound, match=r"^batch 1: gone$"):
            send_all(running, 1)
        assert asked == [(1, False), (1, True)]
        assert [refused.number for refused in running.result().refused] == [1]

    def test_end_one_that_goes_on_and_asks_for_keys_again(self) -> None:
        asked: list[tuple[int, bool]] = []
        running = load(self.gone(4, asked), skips=True, on_keys=lambda number, keys: None)
        with pytest.raises(NotFound, match="gone"):
            running.finish()
        assert asked == [(1, True)]
        assert running.result().refused == ()


def keys_of(*values: int) -> types_pb2.KeyList:
    return types_pb2.KeyList(int64_keys=types_pb2.Int64List(values=values))


def makes_keys(requests: Iterator[pb.IngestRequest]) -> Iterator[pb.IngestResponse]:
    """Makes a key for each batch: ten times its number."""
    assert next(requests).HasField("start")
    yield started()
    for request in requests:
        number = request.batch.number
        yield ack(number, inserted=1, as_of=number, keys=keys_of(10 * number))


class TestKeys:
    def test_are_told_before_the_load_ends(self) -> None:
        told: list[tuple[int, list[int]]] = []
        running = load(makes_keys, on_keys=lambda n, keys: told.append((n, keys.tolist())))
        send(running, 3)
        running.finish()
        assert told == [(1, [10]), (2, [20]), (3, [30])]

    @pytest.mark.parametrize(
        "error",
        [
            ValueError("mine"),
            Unavailable(grpc.StatusCode.UNAVAILABLE, "mine"),
            grpc.RpcError("mine"),
            KeyboardInterrupt("mine"),
        ],
    )
    def test_an_error_of_their_reader_ends_the_load(self, error: BaseException) -> None:
        """There is one script: a second stream would be an error of its own."""
        heard: list[int] = []

        def on_keys(number: int, keys: Any) -> None:
            heard.append(number)
            if number == 2:
                raise error

        running = load(makes_keys, on_keys=on_keys)
        with pytest.raises(type(error), match="mine") as raised:
            send_all(running, 3)
        assert raised.value is error
        assert heard == [1, 2]
        assert running.result().batches == 1

    def test_a_slow_reader_does_not_run_out_of_time(self) -> None:
        waits = threading.Event()
        running = load(makes_keys, timeout=0.2, on_keys=lambda n, keys: waits.wait(0.5))
        send(running, 2)
        assert running.finish().batches == 2

    def test_a_server_that_says_nothing_still_does(self) -> None:
        def silent(requests: Iterator[pb.IngestRequest]) -> Iterator[pb.IngestResponse]:
            assert next(requests).HasField("start")
            yield started()
            assert numbers(requests, 1) == [1]
            yield ack(1, inserted=1, as_of=1, keys=keys_of(10))
            release.wait(20)

        release = threading.Event()
        running = load(silent, timeout=0.2, on_keys=lambda n, keys: None)
        with pytest.raises(DeadlineExceeded, match=r"no batch was acknowledged for 0\.2 s"):
            send_all(running, 2)
        release.set()
