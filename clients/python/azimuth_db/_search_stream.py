"""Searches one after the other over one stream, with many of them on their way at a time.

gRPC's thread takes the queries and sends them, as fast as the server reads; the caller's reads the
answers, which come in the order of the queries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import grpc
import numpy as np

from ._columns import read_query_matrix, read_vector, to_float32
from ._generated.azimuth.v1 import search_pb2 as pb
from ._transport import Transport
from .errors import AzimuthError, Internal, make_error
from .results import BatchResult

__all__ = ["SearchStream"]

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class SearchStream(Iterator[BatchResult]):
    """The results of a stream of searches. Used by one thread at a time.

    What fails for one item alone is raised in its place, and the next item can be asked for
    nevertheless; what ends the stream is raised once.
    """

    def __init__(
        self,
        transport: Transport,
        start: pb.SearchStreamStart,
        queries: Iterable[Any],
        string_keys: bool,
        timeout: float | None,
    ) -> None:
        """Opens the stream; `queries` is read from gRPC's thread from now on."""
        self._transport = transport
        self._limit = start.options.limit
        self._string_keys = string_keys
        self._timeout = timeout
        self._sent: deque[int] = deque()  # Queries of each item without an answer.
        self._failure: BaseException | None = None  # Of `queries`.
        self._ended = False
        self._call = transport.search_stream(self._requests(start, queries), timeout)

    def _requests(
        self, start: pb.SearchStreamStart, queries: Iterable[Any]
    ) -> Iterator[pb.SearchStreamRequest]:
        yield pb.SearchStreamRequest(start=start)
        try:
            for number, item in enumerate(queries):
                where = f"queries[{number}]"
                if np.ndim(item) == 1:
                    matrix = read_vector(item, where)[np.newaxis]
                else:
                    matrix = to_float32(read_query_matrix(item, where))
                self._sent.append(len(matrix))
                yield pb.SearchStreamRequest(queries_f32=matrix.tobytes())
        except BaseException as error:  # Raised again where the results are read.
            self._failure = error

    def __iter__(self) -> SearchStream:
        return self

    def __next__(self) -> BatchResult:
        """Returns the next result, or raises what became of it."""
        if self._ended:
            raise StopIteration
        try:
            reply = next(self._call)
        except StopIteration:
            self._ended = True
            if self._failure is not None:
                raise self._failure from None
            raise
        except grpc.RpcError as error:
            self._ended = True
            raise self._transport.error_of(error, "SearchStream", self._timeout) from None
        count = self._sent.popleft()
        if reply.code != 0:
            raise self._error_of(reply)
        if len(reply.results) != count:
            raise Internal(
                grpc.StatusCode.INTERNAL,
                f"asked {count} queries, got {len(reply.results)} results",
            )
        return BatchResult([reply], self._limit, self._string_keys)

    def _error_of(self, reply: pb.SearchStreamResponse) -> AzimuthError:
        code = _CODES.get(reply.code, grpc.StatusCode.UNKNOWN)
        details = {"method": "SearchStream", "address": self._transport.address}
        return make_error(code, reply.message, details)

    def close(self) -> None:
        """Ends the stream; what is on its way is cancelled. Harmless when it has ended."""
        self._ended = True
        self._call.cancel()

    def __enter__(self) -> SearchStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
