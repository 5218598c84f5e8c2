"""The way to the server: channel, deadlines, retries, and errors as exceptions."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from ._generated.azimuth.v1 import (
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
    Writes never are: the server may have applied one whose reply was lost. (gRPC itself resends
    what provably never reached a server.)

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
        self._closed = False

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

    # Records.

    def insert(self, request: records_pb2.InsertRequest) -> records_pb2.InsertResponse:
        return self._write(self._records.Insert, request, records_pb2.InsertResponse)

    def upsert(self, request: records_pb2.UpsertRequest) -> records_pb2.UpsertResponse:
        return self._write(self._records.Upsert, request, records_pb2.UpsertResponse)

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

    # All of them.

    def _read(self, method: Any, request: Message, _reply: type[R]) -> R:
        return self._call(method, request, _reply, self._retries)

    def _write(self, method: Any, request: Message, _reply: type[R]) -> R:
        return self._call(method, request, _reply, 0)

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

    def _error(self, error: Any, method: str) -> AzimuthError:
        """Returns the exception for a failed call."""
        code: grpc.StatusCode = error.code()
        message = error.details() or code.name
        if code is grpc.StatusCode.UNAVAILABLE:
            message = f"no answer from an Azimuth server at {self.address}: {message}"
        elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
            message = f"{method} took longer than its {self.timeout:g} s at {self.address}"
        metadata = dict(error.trailing_metadata() or ())
        return make_error(code, message, {**metadata, "method": method, "address": self.address})
