"""The way to the server: channel, deadlines, retries, and errors as exceptions."""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from ._generated.azimuth.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    collections_pb2,
    collections_pb2_grpc,
    records_pb2,
    records_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)
from .errors import AzimuthError, Unavailable, make_error

DEFAULT_PORT = 7600
MESSAGE_BYTES_MAX = 64 * 1024 * 1024
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.1, 2.0
# What gRPC itself says, the second where the server ends the stream first; the server says more.
GRPC_DEADLINE = ("Deadline Exceeded", "Stream removed (Deadline Exceeded)")

_CHANNEL_OPTIONS: dict[str, int | str] = {
    "grpc.max_send_message_length": MESSAGE_BYTES_MAX,
    "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
    # Finds dead peers during long calls, and not more often than servers put up with.
    "grpc.keepalive_time_ms": 60_000,
    "grpc.keepalive_timeout_ms": 20_000,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 1_000,
    "grpc.max_reconnect_backoff_ms": 5_000,
    # A database on this host or network is not behind the web proxy of $http_proxy.
    "grpc.enable_http_proxy": 0,
}

R = TypeVar("R", bound=Message)


def parse_address(address: str) -> str:
    """Returns `address` with the default port added when it has none; ValueError for a URL."""
    if "://" in address or not address:
        raise ValueError(f"address: expected 'host:port', got {address!r}")
    host, colon, port = address.rpartition(":")
    if address.startswith("unix:") or (colon and not host.endswith(":") and port.isdigit()):
        return address
    if address.count(":") > 1 and not address.endswith("]"):
        address = f"[{address}]"  # A bare IPv6 address.
    return f"{address}:{DEFAULT_PORT}"


class Transport:
    """One channel and the calls of all services, one method each.

    Reads that answer UNAVAILABLE are tried again, with exponential backoff, within the timeout.
    So are writes that have a request_id, by which the server knows one that it has applied
    already; other writes never are, since the reply may have been lost. (gRPC itself resends what
    provably never reached a server.)

    Thread safety: any number of threads may call.
    """

    def __init__(
        self,
        address: str,
        timeout: float,
        retries: int,
        channel_options: Mapping[str, int | str] | None = None,
    ) -> None:
        """Opens a channel; it connects with the first call."""
        self.address = parse_address(address)
        self.timeout = timeout
        self._retries = retries
        options = {**_CHANNEL_OPTIONS, **(channel_options or {})}
        self._channel = grpc.insecure_channel(self.address, options=list(options.items()))
        self._collections = collections_pb2_grpc.CollectionServiceStub(self._channel)
        self._records = records_pb2_grpc.RecordServiceStub(self._channel)
        self._search = search_pb2_grpc.SearchServiceStub(self._channel)
        self._admin = admin_pb2_grpc.AdminServiceStub(self._channel)
        self._closed = False

    @property
    def retries_writes(self) -> bool:
        """Whether a write that has a request_id would be tried again."""
        return self._retries > 0

    def close(self) -> None:
        """Closes the channel; running calls are cancelled."""
        self._closed = True
        self._channel.close()

    def wait_ready(self, timeout: float) -> None:
        """Returns once a server answers. Unavailable after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        request = collections_pb2.ListCollectionsRequest()
        while True:
            left = deadline - time.monotonic()
            try:
                self._collections.List(request, timeout=max(left, 0.001), wait_for_ready=True)
                return
            except grpc.RpcError as error:
                code = error.code()
                if code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise self._error(error, "List") from None
            if left <= 0:
                raise Unavailable(
                    grpc.StatusCode.UNAVAILABLE,
                    f"no Azimuth server answered at {self.address} within {timeout:g} s",
                    {"address": self.address},
                )
            time.sleep(min(0.05, max(deadline - time.monotonic(), 0)))

    # Collections.

    def create(
        self, request: collections_pb2.CreateCollectionRequest
    ) -> collections_pb2.CreateCollectionResponse:
        return self._write(
            self._collections.Create, request, collections_pb2.CreateCollectionResponse
        )

    def drop(
        self, request: collections_pb2.DropCollectionRequest
    ) -> collections_pb2.DropCollectionResponse:
        return self._write(self._collections.Drop, request, collections_pb2.DropCollectionResponse)

    def describe(
        self, request: collections_pb2.DescribeCollectionRequest
    ) -> collections_pb2.DescribeCollectionResponse:
        return self._read(
            self._collections.Describe, request, collections_pb2.DescribeCollectionResponse
        )

    def list_all(
        self, request: collections_pb2.ListCollectionsRequest
    ) -> collections_pb2.ListCollectionsResponse:
        return self._read(self._collections.List, request, collections_pb2.ListCollectionsResponse)

    def stats(
        self, request: collections_pb2.CollectionStatsRequest
    ) -> collections_pb2.CollectionStatsResponse:
        return self._read(self._collections.Stats, request, collections_pb2.CollectionStatsResponse)

    def truncate(
        self, request: collections_pb2.TruncateCollectionRequest
    ) -> collections_pb2.TruncateCollectionResponse:
        return self._write(
            self._collections.Truncate, request, collections_pb2.TruncateCollectionResponse
        )

    def optimize(
        self, request: collections_pb2.OptimizeRequest, timeout: float | None
    ) -> Generator[collections_pb2.OptimizeResponse, None, None]:
        """Yields progress until the last report; to end the iterator ends the call."""
        if self._closed:
            raise RuntimeError("the client is closed")
        call = self._collections.Optimize(request, timeout=timeout)
        try:
            yield from call
        except grpc.RpcError as error:
            raise self._error(error, "Optimize", timeout) from None
        finally:
            call.cancel()

    # The server.

    def server_info(self, request: admin_pb2.ServerInfoRequest) -> admin_pb2.ServerInfoResponse:
        return self._read(self._admin.ServerInfo, request, admin_pb2.ServerInfoResponse)

    def verify(
        self, request: admin_pb2.VerifyRequest, timeout: float | None
    ) -> admin_pb2.VerifyResponse:
        return self._once(self._admin.Verify, request, admin_pb2.VerifyResponse, timeout)

    # Snapshots.

    def create_snapshot(
        self, request: admin_pb2.CreateSnapshotRequest, timeout: float | None
    ) -> admin_pb2.CreateSnapshotResponse:
        return self._once(
            self._admin.CreateSnapshot, request, admin_pb2.CreateSnapshotResponse, timeout
        )

    def list_snapshots(
        self, request: admin_pb2.ListSnapshotsRequest
    ) -> admin_pb2.ListSnapshotsResponse:
        return self._read(self._admin.ListSnapshots, request, admin_pb2.ListSnapshotsResponse)

    def verify_snapshot(
        self, request: admin_pb2.VerifySnapshotRequest, timeout: float | None
    ) -> admin_pb2.VerifySnapshotResponse:
        return self._once(
            self._admin.VerifySnapshot, request, admin_pb2.VerifySnapshotResponse, timeout
        )

    def restore_snapshot(
        self, request: admin_pb2.RestoreSnapshotRequest, timeout: float | None
    ) -> admin_pb2.RestoreSnapshotResponse:
        return self._once(
            self._admin.RestoreSnapshot, request, admin_pb2.RestoreSnapshotResponse, timeout
        )

    def delete_snapshot(
        self, request: admin_pb2.DeleteSnapshotRequest
    ) -> admin_pb2.DeleteSnapshotResponse:
        return self._write(self._admin.DeleteSnapshot, request, admin_pb2.DeleteSnapshotResponse)

    # Records.

    def insert(self, request: records_pb2.InsertRequest) -> records_pb2.InsertResponse:
        return self._write(self._records.Insert, request, records_pb2.InsertResponse)

    def upsert(self, request: records_pb2.UpsertRequest) -> records_pb2.UpsertResponse:
        return self._write(self._records.Upsert, request, records_pb2.UpsertResponse)

    def update(self, request: records_pb2.UpdateRequest) -> records_pb2.UpdateResponse:
        return self._write(self._records.Update, request, records_pb2.UpdateResponse)

    def ingest(self, requests: Iterator[records_pb2.IngestRequest]) -> Any:
        """Opens a stream; returns the call, whose iterator raises grpc.RpcError."""
        if self._closed:
            raise RuntimeError("the client is closed")
        return self._records.Ingest(requests)

    def error_of(
        self, error: grpc.RpcError, method: str, timeout: float | None = None
    ) -> AzimuthError:
        """Returns the exception for a stream that failed."""
        return self._error(error, method, timeout)

    def delete(self, request: records_pb2.DeleteRequest) -> records_pb2.DeleteResponse:
        return self._write(self._records.Delete, request, records_pb2.DeleteResponse)

    def get(self, request: records_pb2.GetRequest) -> records_pb2.GetResponse:
        return self._read(self._records.Get, request, records_pb2.GetResponse)

    def query(self, request: records_pb2.QueryRequest) -> records_pb2.QueryResponse:
        return self._read(self._records.Query, request, records_pb2.QueryResponse)

    def count(self, request: records_pb2.CountRequest) -> records_pb2.CountResponse:
        return self._read(self._records.Count, request, records_pb2.CountResponse)

    # Searches.

    def search(self, request: search_pb2.SearchRequest) -> search_pb2.SearchResponse:
        return self._read(self._search.Search, request, search_pb2.SearchResponse)

    def search_batch(
        self, request: search_pb2.SearchBatchRequest
    ) -> search_pb2.SearchBatchResponse:
        return self._read(self._search.SearchBatch, request, search_pb2.SearchBatchResponse)

    def search_stream(
        self, requests: Iterator[search_pb2.SearchStreamRequest], timeout: float | None
    ) -> Any:
        """Opens a stream; returns the call, whose iterator raises grpc.RpcError."""
        if self._closed:
            raise RuntimeError("the client is closed")
        return self._search.SearchStream(requests, timeout=timeout)

    # All of them.

    def _once(self, method: Any, request: Message, _reply: type[R], timeout: float | None) -> R:
        """Calls once, for as long as it takes if `timeout` is None."""
        if self._closed:
            raise RuntimeError("the client is closed")
        try:
            reply: R = method(request, timeout=timeout)
            return reply
        except grpc.RpcError as error:
            name = type(request).__name__.removesuffix("Request")
            raise self._error(error, name, timeout) from None

    def _read(self, method: Any, request: Message, _reply: type[R]) -> R:
        return self._call(method, request, _reply, self._retries)

    def _write(self, method: Any, request: Message, _reply: type[R]) -> R:
        repeatable = bool(getattr(request, "request_id", ""))
        return self._call(method, request, _reply, self._retries if repeatable else 0)

    def _call(self, method: Any, request: Message, _reply: type[R], retries: int) -> R:
        """Calls; `_reply` is for the type checker, since the generated stubs have no types."""
        if self._closed:
            raise RuntimeError("the client is closed")
        deadline = time.monotonic() + self.timeout
        backoff = BACKOFF_FIRST_S
        while True:
            try:
                reply: R = method(request, timeout=max(deadline - time.monotonic(), 0.001))
                return reply
            except grpc.RpcError as error:
                failure = self._error(error, type(request).__name__.removesuffix("Request"))
            pause = backoff * random.uniform(0.5, 1.0)
            if (
                not isinstance(failure, Unavailable)
                or retries == 0
                or time.monotonic() + pause >= deadline
            ):
                raise failure
            time.sleep(pause)
            retries -= 1
            backoff = min(backoff * 2, BACKOFF_MAX_S)

    def _error(self, error: Any, method: str, timeout: float | None = None) -> AzimuthError:
        """Returns the exception for a failed call; `timeout` if it is not the client's own."""
        code: grpc.StatusCode = error.code()
        message = error.details() or code.name
        if code is grpc.StatusCode.CANCELLED and not self._closed:
            # Nobody here does that: the server stopped before it took the call, or in its midst.
            code = grpc.StatusCode.UNAVAILABLE
        if code is grpc.StatusCode.UNAVAILABLE:
            message = f"no answer from an Azimuth server at {self.address}: {message}"
        elif message in GRPC_DEADLINE:
            allowed = self.timeout if timeout is None else timeout
            message = f"{method} took longer than its {allowed:g} s at {self.address}"
        metadata = dict(error.trailing_metadata() or ())
        return make_error(code, message, {**metadata, "method": method, "address": self.address})
