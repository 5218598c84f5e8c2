"""Bulk loads: many batches on their way at a time, at the pace that the server tells.

Three threads take part in a load: the caller's makes the messages, gRPC's sends them, and one reads
the answers, opens the stream anew after a break and sends again what is not acknowledged.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Callable, NamedTuple

import grpc
import numpy as np
import numpy.typing as npt

from ._columns import decode_keys
from ._generated.azimuth.v1 import records_pb2 as pb
from ._transport import BACKOFF_FIRST_S, BACKOFF_MAX_S, Transport
from .errors import AzimuthError, DeadlineExceeded, Unavailable, make_error
from .results import IngestResult, RefusedBatch

__all__ = ["Load"]

# Half of what a message may have, so that one batch never is too long for the server.
BATCH_BYTES_MAX = 32 * 1024 * 1024

# Of so many batches, the last ones, the server tells again which keys it has made.
KEYS_TOLD_AGAIN = 256

_CODES = {code.value[0]: code for code in grpc.StatusCode}


def _code_of(number: int) -> grpc.StatusCode:
    return _CODES.get(number, grpc.StatusCode.UNKNOWN)


class _Sent(NamedTuple):
    """A batch and its size, which is dear to ask a message for."""

    number: int
    request: pb.IngestRequest
    size: int


def _skip(number: int) -> _Sent:
    """Returns a batch without records: passed over, or told of again if it was applied."""
    return _Sent(number, pb.IngestRequest(batch=pb.IngestBatch(number=number, skip=True)), 0)


class Load:
    """One bulk load. `send` and `finish` are called by one thread."""

    def __init__(
        self,
        transport: Transport,
        start: pb.IngestStart,
        skips: bool,
        timeout: float,
        on_keys: Callable[[int, npt.NDArray[np.int64]], None] | None = None,
    ) -> None:
        """Connects in the background.

        Args:
            transport: The way to the server.
            start: What the load is.
            skips: Whether a batch that is refused is passed over; else it ends the load.
            timeout: How many seconds may pass without an acknowledgement, but for those that
                `on_keys` takes.
            on_keys: Hears of the keys that were made for each batch. What it raises ends the load.
        """
        self._transport = transport
        self._start = start
        self._skips = skips
        self._timeout = timeout
        self._on_keys = on_keys
        self._changed = threading.Condition()
        # All below under `_changed`.
        self._unacked: deque[_Sent] = deque()
        self._to_send: deque[_Sent] = deque()
        self._unacked_bytes = 0
        self._bytes_in_flight = 0
        self._in_flight = 0
        self._pace = pb.IngestPace(batches_in_flight=1, bytes_in_flight=1)
        self._pause_until = 0.0
        self._next = 0  # The number of the next batch; 0 while the server has not said it.
        self._last_progress = time.monotonic()
        self._telling = False  # on_keys runs: nobody waits for the server.
        self._finished = False  # No more batches come.
        self._stream = 0  # Which one is open; requests of an older one end.
        self._started = False  # The server has said where this stream goes on.
        self._call: Any = None
        self._error: BaseException | None = None
        self._refused: list[RefusedBatch] = []
        self._inserted = self._replaced = self._as_of = self._applied = 0
        self._batches_before = 0
        self._driver = threading.Thread(target=self._drive, name="azimuth-ingest", daemon=True)
        self._driver.start()

    # The caller's side.

    def last_batch(self) -> int:
        """Returns the last batch that the server has of this load already."""
        with self._changed:
            self._wait(lambda: self._next > 0)
            return self._batches_before

    def send(self, make: Callable[[], pb.IngestBatch]) -> None:
        """Sends what `make` returns, once there is room; raises the error that ended the load."""
        with self._changed:
            self._wait(lambda: self._next > 0)
            number = self._next
        batch = make()
        batch.number = number
        request = pb.IngestRequest(batch=batch)
        size = request.ByteSize()
        if size > BATCH_BYTES_MAX:
            raise ValueError(
                f"batch {number}: {size} bytes; at most {BATCH_BYTES_MAX} are allowed, so cut it"
            )
        with self._changed:
            self._wait(lambda: self._has_room(size))
            if not self._unacked:
                self._last_progress = time.monotonic()  # Nothing was waited for before.
            self._next += 1
            sent = _Sent(number, request, size)
            self._unacked.append(sent)
            self._unacked_bytes += size
            self._to_send.append(sent)
            self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        return not self._unacked or (
            len(self._unacked) < self._pace.batches_in_flight
            and self._unacked_bytes + size <= self._pace.bytes_in_flight
        )

    def finish(self) -> IngestResult:
        """Waits until all batches are acknowledged."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()
            self._wait(lambda: self._next > 0 and not self._unacked)
        self._driver.join(self._timeout)
        return self.result()

    def result(self) -> IngestResult:
        """Returns what the load has done so far."""
        with self._changed:
            return IngestResult(
                self._start.load,
                self._applied,
                self._inserted,
                self._replaced,
                self._as_of,
                tuple(self._refused),
            )

    def close(self) -> None:
        """Ends the stream; what is not acknowledged may have been applied or not."""
        with self._changed:
            self._fail(AzimuthError(grpc.StatusCode.CANCELLED, "the load was closed"))
            call = self._call
        if call is not None:
            call.cancel()

    def _wait(self, until: Callable[[], bool]) -> None:
        """Waits under `_changed`; raises what ended the load, or DeadlineExceeded."""
        while self._error is None and not until():
            left = self._last_progress + self._timeout - time.monotonic()
            if left <= 0 and not self._telling:
                self._fail(
                    DeadlineExceeded(
                        grpc.StatusCode.DEADLINE_EXCEEDED,
                        f"no batch was acknowledged for {self._timeout:g} s by "
                        f"{self._transport.address}",
                    )
                )
                break
            self._changed.wait(1.0 if self._telling else min(left, 1.0))
        if self._error is not None:
            raise self._error

    def _fail(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error
        self._changed.notify_all()

    # gRPC's side.

    def _requests(self, stream: int) -> Iterator[pb.IngestRequest]:
        yield pb.IngestRequest(start=self._start)
        while True:
            with self._changed:
                while stream == self._stream and self._error is None and not self._may_send():
                    if self._finished and not self._unacked and self._started:
                        return
                    pause = self._pause_until - time.monotonic()
                    self._changed.wait(pause if pause > 0 else 1.0)
                if stream != self._stream or self._error is not None:
                    return
                sent = self._to_send.popleft()
                self._in_flight += 1
                self._bytes_in_flight += sent.size
            yield sent.request

    def _may_send(self) -> bool:
        if not self._to_send or not self._started or time.monotonic() < self._pause_until:
            return False
        if self._in_flight == 0:
            return True
        size = self._to_send[0].size
        return (
            self._in_flight < self._pace.batches_in_flight
            and self._bytes_in_flight + size <= self._pace.bytes_in_flight
        )

    # The answers.

    def _drive(self) -> None:
        backoff = BACKOFF_FIRST_S
        while True:
            before = self._last_progress
            try:
                self._read_answers()
                with self._changed:
                    if self._error is not None or (self._finished and not self._unacked):
                        return
                raise Unavailable(grpc.StatusCode.UNAVAILABLE, "the server ended the stream")
            except Unavailable as error:
                if self._last_progress > before:
                    backoff = BACKOFF_FIRST_S
                pause = backoff * random.uniform(0.5, 1.0)
                backoff = min(backoff * 2, BACKOFF_MAX_S)
                with self._changed:
                    self._stream += 1  # Ends the requests of the stream.
                    self._changed.notify_all()
                    if self._error is not None:
                        return
                    if not self._unacked and self._next > 0:
                        self._last_progress = time.monotonic()  # Nothing is waited for.
                    if time.monotonic() + pause > self._last_progress + self._timeout:
                        self._fail(error)
                        return
                time.sleep(pause)
            except BaseException as error:
                with self._changed:
                    self._fail(error)
                return

    def _read_answers(self) -> None:
        with self._changed:
            stream = self._stream
            self._started = False
            call = self._call = self._transport.ingest(self._requests(stream))
        try:
            for response in call:
                self._take(response)
                if self._error is not None:
                    return
        except grpc.RpcError as error:
            raise self._transport.error_of(error, "Ingest") from None
        finally:
            call.cancel()

    def _take(self, response: pb.IngestResponse) -> None:
        kind = response.WhichOneof("message")
        if kind == "ack" and response.ack.HasField("keys") and not self._tell_keys(response.ack):
            return
        with self._changed:
            if kind == "ack":
                self._acknowledge(response.ack)
            elif kind == "started":
                self._go_on(response.started)
            elif kind == "pace":
                self._pace = response.pace
            elif kind == "refusal":
                self._resend(response.refusal)
            elif kind == "stopped":
                raise make_error(_code_of(response.stopped.code), response.stopped.message)
            self._changed.notify_all()

    def _tell_keys(self, ack: pb.IngestAck) -> bool:
        """Calls `on_keys`, if there is one; False if it has ended the load.

        It may raise whatever a broken stream raises, so that is not left to those who mend streams.
        """
        if self._on_keys is None:
            return True
        with self._changed:
            self._telling = True
        failure: BaseException | None = None
        try:
            self._on_keys(ack.number, decode_keys(ack.keys))
        except BaseException as error:
            failure = error
        with self._changed:
            self._telling = False
            self._last_progress = time.monotonic()
            if failure is not None:
                self._fail(failure)
            return failure is None

    def _go_on(self, started: pb.IngestStarted) -> None:
        self._started = True
        self._start.load = started.load
        if self._next == 0 or self._applied < started.last_batch or not self._unacked:
            self._last_progress = time.monotonic()
        self._pace = started.pace
        self._inserted, self._replaced = started.inserted, started.replaced
        self._applied = started.last_batch
        self._as_of = max(self._as_of, started.as_of)
        if self._next == 0:
            self._batches_before = started.last_batch
            self._next = started.last_batch + 1
            if self._on_keys is not None:
                first = max(1, started.last_batch - KEYS_TOLD_AGAIN + 1)
                self._unacked.extend(map(_skip, range(first, self._next)))
        applied: list[int] = []
        while self._unacked and self._unacked[0].number <= started.last_batch:
            done = self._unacked.popleft()
            self._unacked_bytes -= done.size
            applied.append(done.number)
        first = self._unacked[0].number if self._unacked else self._next
        if first > started.last_batch + 1:
            raise make_error(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"load {started.load!r}: the server has forgotten batches up to {first - 1}, it is "
                f"at {started.last_batch}: the collection was truncated or made anew, or a day has "
                "passed",
            )
        if self._on_keys is not None:
            self._unacked.extendleft(map(_skip, reversed(applied)))
        self._send_again()

    def _send_again(self) -> None:
        self._to_send = deque(self._unacked)
        self._in_flight = self._bytes_in_flight = 0

    def _acknowledge(self, ack: pb.IngestAck) -> None:
        while self._unacked and self._unacked[0].number <= ack.number:
            done = self._unacked.popleft()
            self._unacked_bytes -= done.size
            self._in_flight = max(0, self._in_flight - 1)
            self._bytes_in_flight = max(0, self._bytes_in_flight - done.size)
        if ack.replayed:
            # By a stream that broke, after this one was told how far the load had come.
            self._inserted, self._replaced = ack.load_inserted, ack.load_replaced
        else:
            self._inserted += ack.inserted
            self._replaced += ack.replaced
        self._applied = max(self._applied, ack.number)
        self._as_of = max(self._as_of, ack.as_of)
        self._last_progress = time.monotonic()

    def _resend(self, refusal: pb.IngestRefusal) -> None:
        if refusal.retry_after_ms:
            self._pause_until = time.monotonic() + refusal.retry_after_ms / 1000
            error = make_error(_code_of(refusal.code), refusal.message)
            if self._pause_until > self._last_progress + self._timeout:
                self._fail(error)
        else:
            error = make_error(_code_of(refusal.code), f"batch {refusal.number}: {refusal.message}")
            refused = self._unacked[0] if self._unacked else None
            if (
                not self._skips
                or refused is None
                or refused.number != refusal.number
                or refused.request.batch.skip
            ):
                # Nothing is left of it to be passed over: it would be refused again and again.
                self._fail(error)
            else:
                self._refused.append(RefusedBatch(refusal.number, error))
                self._last_progress = time.monotonic()
                self._unacked_bytes -= refused.size
                self._unacked[0] = _skip(refusal.number)
        self._send_again()
