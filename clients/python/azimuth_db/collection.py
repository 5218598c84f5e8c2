"""A handle on one collection: writes, searches and reads."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from contextlib import closing
from typing import Callable

import grpc
import numpy as np
import numpy.typing as npt

from ._columns import (
    REQUEST_BYTES_MAX,
    Keys,
    cut,
    read_query_matrix,
    read_vector,
    to_float32,
)
from ._generated.azimuth.v1 import collections_pb2 as pb_collections
from ._generated.azimuth.v1 import records_pb2 as pb_records
from ._generated.azimuth.v1 import search_pb2 as pb_search
from ._generated.azimuth.v1 import types_pb2 as pb
from ._search_stream import SearchStream
from ._values import make_filter, make_selection, names_of
from ._writes import CollectionWrites, Params
from .errors import DeadlineExceeded, FailedPrecondition, Internal, ResourceExhausted
from .results import (
    BatchResult,
    Key,
    QueryResult,
    Record,
    SearchResult,
    SearchWork,
    decode_hit,
    decode_key,
    decode_record,
)
from .schema import CollectionStats, OptimizeProgress

__all__ = ["Collection", "FilterWarning"]

# What the server takes in one SearchBatch, and how many records one Get asks for.
BATCH_QUERIES_MAX = 10_000
BATCH_HITS_MAX = 1_000_000
GET_KEYS_MAX = 10_000
# How wait_indexed looks again: first often, then less.
POLL_FIRST_S, POLL_MAX_S = 0.05, 1.0


class FilterWarning(UserWarning):
    """The server's remark on a filter, from calls whose result has no place for it."""


class Collection(CollectionWrites):
    """A handle on one collection, from :meth:`Client.collection` or `create_collection`.

    Making one asks the server nothing. It reads the schema when it needs it, and remembers it:
    after dropping a collection and making another of the same name, take a new handle.

    Any number of threads may share one.

    **Filters** are expressions such as ``category in ["shoe", "bag"] and price < $max``; values
    for the ``$names`` come in `params`, so that they are never pasted into the text.

    **Output**: `output_fields` names the scalar fields to return (None: all, ``[]``: none);
    vectors come only when `output_vectors` names them.

    **Large calls** are split into requests of at most 32 MiB and 100 000 rows. Each request is
    atomic and durable; the call as a whole is not: when a later request of a write fails, the
    error says in `partial` what was written before it.

    **Repeating writes** is safe with a `request_id`, any string of 1 to 128 bytes that names this
    one write: for ten minutes, over restarts too, the server answers the same id with the reply of
    the first time (``replayed``) and does nothing again, and refuses the id with another content.
    The client makes ids for its own retries (see :class:`Client`). Of a call that takes several
    requests the second has the id with ``#1`` at its end, and so on.

    **Conditions**: with `if_version`, a record that is not at that version (``Record.version``)
    fails the whole request with ``Aborted``.

    **Expiry**: a record whose time (`expires_at`) has passed is absent for reads and writes.
    """

    def __repr__(self) -> str:
        return f"Collection({self._name!r} at {self._transport.address})"

    # Searches.

    def search(
        self,
        query: npt.ArrayLike,
        limit: int = 10,
        *,
        field: str | None = None,
        filter: str | None = None,
        params: Params = None,
        recall: float | None = None,
        exact: bool = False,
        ef: int | None = None,
        output_fields: Iterable[str] | None = None,
        output_vectors: Iterable[str] = (),
        min_seq: int = 0,
    ) -> SearchResult:
        """Returns the `limit` records nearest to a query vector, nearest first.

        Args:
            query: One vector.
            limit: 1 to 16384.
            field: The vector field; None when the collection has only one.
            filter: Which records count; None: all.
            params: The values of the filter's ``$names``.
            recall: Share of the `limit` nearest to be found on average, more than 0, up to 1
                (exact): the server knows for each of its graphs what that takes. None, and
                neither `exact` nor `ef`: 0.95. At most one of the three.
            exact: Whether to scan for the exact answer in place of searching the graph.
            ef: Width of the graph search, up to 32768: larger is more exact and slower.
            output_fields: The scalar fields to return; None: all.
            output_vectors: The vectors to return.
            min_seq: The read sees at least this sequence number, the ``as_of`` of a write, and
                waits for it within the client's timeout (then ``DeadlineExceeded``).
        """
        vector = read_vector(query, "query")
        options = self._options(
            limit, field, filter, params, recall, exact, ef, output_fields, output_vectors, min_seq
        )
        dense = pb.DenseVector(f32=vector.tobytes())
        request = pb_search.SearchRequest(
            collection=self._name, query=pb.Vector(dense=dense), options=options
        )
        reply = self._transport.search(request)
        return SearchResult(
            [decode_hit(hit) for hit in reply.hits],
            SearchWork._from_message(reply.work),
            reply.as_of,
            tuple(reply.warnings),
        )

    def search_batch(
        self,
        queries: npt.ArrayLike,
        limit: int = 10,
        *,
        field: str | None = None,
        filter: str | None = None,
        params: Params = None,
        recall: float | None = None,
        exact: bool = False,
        ef: int | None = None,
        output_fields: Iterable[str] | None = None,
        output_vectors: Iterable[str] = (),
        min_seq: int = 0,
    ) -> BatchResult:
        """Returns the `limit` records nearest to each of n query vectors.

        Args:
            queries: n x dimension, of any real type. The other arguments are those of
                :meth:`search`; ``output_fields=[]`` is fastest.

        Returns:
            Arrays of n x limit keys, distances and scores; see :class:`BatchResult`. All queries
            see one sequence number, as long as one request holds them (10 000 queries, and
            1 000 000 hits).
        """
        matrix = read_query_matrix(queries, "queries")
        options = self._options(
            limit, field, filter, params, recall, exact, ef, output_fields, output_vectors, min_seq
        )
        name = field if field is not None else self._only_vector_field("field")
        self._check_dimension(name, matrix.shape[1])
        sizes = [4 * matrix.shape[1]]
        if options.output_vectors:
            sizes = [max(sizes[0], limit * self._bytes_per_record(options.output_vectors))]
        rows_max = max(1, min(BATCH_QUERIES_MAX, BATCH_HITS_MAX // limit))
        replies: list[pb_search.SearchBatchResponse] = []
        for start, stop in cut(len(matrix), sizes, REQUEST_BYTES_MAX, rows_max):
            replies += self._search_part(to_float32(matrix[start:stop]), options)
        return BatchResult(replies, limit, self._schema().key_type == "string")

    def search_stream(
        self,
        queries: Iterable[npt.ArrayLike],
        limit: int = 10,
        *,
        field: str | None = None,
        filter: str | None = None,
        params: Params = None,
        recall: float | None = None,
        exact: bool = False,
        ef: int | None = None,
        output_fields: Iterable[str] | None = None,
        output_vectors: Iterable[str] = (),
        min_seq: int = 0,
        timeout: float | None = None,
    ) -> SearchStream:
        """Searches for many queries over one stream: without the cost of a call for each of them.

        Args:
            queries: Each item is one vector or a matrix of several ones. It is read ahead of the
                results, by another thread, as far as the server reads: 32 items or 16 MiB.
            timeout: Seconds for the whole stream; None: no bound. The other arguments are those of
                :meth:`search`, and hold for all queries.

        Returns:
            An iterator with one :class:`BatchResult` for each item, in order; each sees what was
            written before its item was sent. What is wrong with one item alone (another dimension,
            say) is raised in its place, and the iterator can go on after it; so is what `queries`
            raises, and it ends the stream, as all other errors do. Close it, or use it in a
            ``with``, if you do not read it to its end.
        """
        options = self._options(
            limit, field, filter, params, recall, exact, ef, output_fields, output_vectors, min_seq
        )
        start = pb_search.SearchStreamStart(collection=self._name, options=options)
        string_keys = self._schema().key_type == "string"
        return SearchStream(self._transport, start, queries, string_keys, timeout)

    # Reads.

    def get(
        self,
        keys: npt.ArrayLike,
        *,
        output_fields: Iterable[str] | None = None,
        output_vectors: Iterable[str] = (),
        min_seq: int = 0,
    ) -> list[Record | None]:
        """Returns the records of `keys`, in their order, with None for those that do not exist.

        `min_seq` is as in :meth:`search`.
        """
        read = Keys(keys)
        selection = make_selection(output_fields)
        vectors = names_of(output_vectors, "output_vectors")
        found: dict[Key, Record] = {}

        def fetch(start: int, stop: int) -> None:
            request = pb_records.GetRequest(
                collection=self._name,
                keys=read.message(start, stop),
                output_fields=selection,
                output_vectors=vectors,
                min_seq=min_seq,
            )
            for record in self._transport.get(request).records:
                found[decode_key(record.key)] = decode_record(record)

        sizes = [read.sizes(), self._bytes_per_record(vectors) if vectors else 0]
        for start, stop in cut(len(read), sizes, REQUEST_BYTES_MAX, GET_KEYS_MAX):
            _halving(fetch, start, stop)
        return [found.get(key) for key in read.to_list()]

    def query(
        self,
        filter: str | None = None,
        limit: int = 100,
        *,
        params: Params = None,
        output_fields: Iterable[str] | None = None,
        output_vectors: Iterable[str] = (),
        min_seq: int = 0,
    ) -> QueryResult:
        """Returns the first `limit` (1 to 16384) records that match a filter, in order of key.

        `min_seq` is as in :meth:`search`.
        """
        request = pb_records.QueryRequest(
            collection=self._name,
            filter=make_filter(filter, params),
            limit=_positive("limit", limit),
            output_fields=make_selection(output_fields),
            output_vectors=names_of(output_vectors, "output_vectors"),
            min_seq=min_seq,
        )
        reply = self._transport.query(request)
        records = [decode_record(record) for record in reply.records]
        return QueryResult(records, reply.as_of, tuple(reply.warnings))

    def count(self, filter: str | None = None, params: Params = None, *, min_seq: int = 0) -> int:
        """Returns the number of records that match a filter; of all records without one.

        What the server remarks on the filter is issued as :class:`FilterWarning`. `min_seq` is as
        in :meth:`search`.
        """
        request = pb_records.CountRequest(
            collection=self._name, filter=make_filter(filter, params), min_seq=min_seq
        )
        reply = self._transport.count(request)
        for text in reply.warnings:
            warnings.warn(text, FilterWarning, stacklevel=2)
        return reply.count

    # About the collection.

    def stats(self) -> CollectionStats:
        """Returns counts and sizes."""
        request = pb_collections.CollectionStatsRequest(collection=self._name)
        return CollectionStats._from_message(self._transport.stats(request))

    def wait_indexed(self, timeout: float | None = 600.0) -> CollectionStats:
        """Returns once no row waits for its segment file; all searches are right before, too.

        Args:
            timeout: Seconds to wait; None: for ever.

        Raises:
            DeadlineExceeded: Rows still wait after `timeout` seconds.
            FailedPrecondition: Building failed on the server; the message says why.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = POLL_FIRST_S
        while True:
            stats = self.stats()
            if stats.unindexed_rows == 0:
                return stats
            if stats.index_error:
                raise FailedPrecondition(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"{self._name}: building the index failed: {stats.index_error}",
                )
            left = pause if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise DeadlineExceeded(
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    f"{self._name}: {stats.unindexed_rows} of {stats.row_count} rows still wait "
                    f"for the index after {timeout:g} s",
                )
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, POLL_MAX_S)

    def optimize(
        self,
        progress: Callable[[OptimizeProgress], None] | None = None,
        *,
        wait: bool = True,
        timeout: float | None = None,
    ) -> OptimizeProgress:
        """Has all rows built and merged into as few segments as the server allows.

        Args:
            progress: Called with each report, about ten times a second.
            wait: Whether to wait for the end; the work goes on without it.
            timeout: Seconds to wait, then ``DeadlineExceeded``; None: for ever. (The client's own
                timeout is not for this call.)

        Returns:
            The last report: the end, or the first one without `wait`.
        """
        request = pb_collections.OptimizeRequest(collection=self._name)
        last: OptimizeProgress | None = None
        with closing(self._transport.optimize(request, timeout)) as replies:
            for reply in replies:
                last = OptimizeProgress._from_message(reply)
                if progress is not None:
                    progress(last)
                if not wait:
                    break
        if last is None or (wait and not last.done):
            raise Internal(grpc.StatusCode.INTERNAL, "Optimize ended without its last report")
        return last

    # The schema, as far as calls need it.

    def _check_dimension(self, name: str, columns: int) -> None:
        """Refuses queries of another width: their bytes alone would pass as more or fewer ones."""
        info = self._schema()
        if name not in info.vectors or info.vectors[name].dim != columns:
            info = self.describe()  # The handle may be older than the collection.
        if name not in info.vectors:
            listed = ", ".join(map(repr, info.vectors))
            raise ValueError(f"field: {self._name!r} has no vector field {name!r}; it has {listed}")
        if info.vectors[name].dim != columns:
            raise ValueError(
                f"queries: vector field {name!r} has dimension {info.vectors[name].dim}, "
                f"got {columns}"
            )

    def _bytes_per_record(self, output_vectors: Iterable[str]) -> int:
        vectors = self._schema().vectors
        return sum(4 * vectors[name].dim for name in output_vectors if name in vectors)

    # Requests.

    def _options(
        self,
        limit: int,
        field: str | None,
        filter: str | None,
        params: Params,
        recall: float | None,
        exact: bool,
        ef: int | None,
        output_fields: Iterable[str] | None,
        output_vectors: Iterable[str],
        min_seq: int,
    ) -> pb_search.SearchOptions:
        asked = [exact, ef is not None, recall is not None].count(True)
        if asked > 1:
            raise ValueError("expected at most one of recall, exact and ef")
        search_params = pb_search.SearchParams(
            recall=None if recall is None else _share("recall", recall),
            ef=None if ef is None else _positive("ef", ef),
            exact=exact,
        )
        return pb_search.SearchOptions(
            vector_field=field,
            limit=_positive("limit", limit),
            filter=make_filter(filter, params),
            params=search_params if asked else None,
            output_fields=make_selection(output_fields),
            output_vectors=names_of(output_vectors, "output_vectors"),
            min_seq=min_seq,
        )

    def _search_part(
        self, queries: npt.NDArray[np.float32], options: pb_search.SearchOptions
    ) -> list[pb_search.SearchBatchResponse]:
        replies: list[pb_search.SearchBatchResponse] = []

        def search(start: int, stop: int) -> None:
            request = pb_search.SearchBatchRequest(
                collection=self._name, queries_f32=queries[start:stop].tobytes(), options=options
            )
            reply = self._transport.search_batch(request)
            if len(reply.results) != stop - start:
                raise Internal(
                    grpc.StatusCode.INTERNAL,
                    f"asked {stop - start} queries, got {len(reply.results)} results",
                )
            replies.append(reply)

        _halving(search, 0, len(queries))
        return replies


def _halving(ask: Callable[[int, int], None], start: int, stop: int) -> None:
    """Asks for a range; in halves when the answer is larger than a message may be."""
    try:
        ask(start, stop)
    except ResourceExhausted as error:
        if stop - start < 2 or "larger than max" not in error.message:
            raise
        middle = (start + stop) // 2
        _halving(ask, start, middle)
        _halving(ask, middle, stop)


def _share(name: str, number: float) -> float:
    """Returns the number; ValueError unless 0 < number <= 1."""
    if not 0 < number <= 1:
        raise ValueError(f"{name}: expected more than 0, up to 1, got {number}")
    return float(number)


def _positive(name: str, number: int) -> int:
    """Returns the number; ValueError unless 1 <= number < 2^32 (the server knows the rest)."""
    if not 1 <= number < 2**32:
        raise ValueError(f"{name}: expected 1 or more, got {number}")
    return int(number)
