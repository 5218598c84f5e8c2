"""What calls return. All of it is read-only data; vectors are numpy float32 arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any, NamedTuple, Union, overload

import numpy as np
import numpy.typing as npt

from ._columns import decode_field, decode_vectors
from ._generated.azimuth.v1 import search_pb2 as pb_search
from ._generated.azimuth.v1 import types_pb2 as pb
from ._times import from_micros
from ._values import read_value
from .errors import AzimuthError

__all__ = [
    "BatchResult",
    "DeleteResult",
    "Hit",
    "IngestResult",
    "Key",
    "QueryResult",
    "Record",
    "RefusedBatch",
    "SearchResult",
    "SearchWork",
    "UpdateResult",
    "WriteResult",
]

Key = Union[int, str]
Vector = npt.NDArray[np.float32]

_PATHS = {
    pb_search.SEARCH_PATH_SCAN: "scan",
    pb_search.SEARCH_PATH_GRAPH: "graph",
    pb_search.SEARCH_PATH_MIXED: "mixed",
}


class Record(NamedTuple):
    """One record.

    Attributes:
        key: Its key.
        fields: Its scalar fields that were asked for; absent ones are missing.
        vectors: Its vectors that were asked for; absent ones are missing.
        version: The sequence number that wrote it; for `if_version`. Ignored in writes.
        expires_at: When it ends, in UTC; None: never. In writes None is: by the collection's
            ``ttl_seconds``.
    """

    key: Key
    fields: dict[str, Any]
    vectors: dict[str, Vector]
    version: int = 0
    expires_at: datetime | None = None

    def __repr__(self) -> str:
        ends = f", expires_at={self.expires_at}" if self.expires_at is not None else ""
        return f"Record(key={self.key!r}{_extras(self.fields, self.vectors)}{ends})"


class Hit(NamedTuple):
    """One record that a search found.

    Attributes:
        key: Its key.
        distance: The metric's own number; less is nearer.
        score: More is better: minus the distance (l2), the product (ip) or the cosine (cosine).
        fields: As in :class:`Record`.
        vectors: As in :class:`Record`.
    """

    key: Key
    distance: float
    score: float
    fields: dict[str, Any]
    vectors: dict[str, Vector]

    def __repr__(self) -> str:
        numbers = f"distance={self.distance:.6g}, score={self.score:.6g}"
        return f"Hit(key={self.key!r}, {numbers}{_extras(self.fields, self.vectors)})"


def _no_keys() -> npt.NDArray[np.int64]:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class WriteResult:
    """What an insert or upsert did.

    Attributes:
        inserted: Keys that were new.
        replaced: Keys that existed; always 0 for an insert.
        as_of: The sequence number of the (last) batch; 0 when there was nothing to write.
        replayed: Whether the server had done (a part of) it before, by its `request_id`.
        synced: Whether all of it was on disk when the server answered; see `relaxed`.
        keys: Those that the server made (``auto_id``), in the order of the records without a key.
            Does not count when results are compared.
    """

    inserted: int
    replaced: int
    as_of: int
    replayed: bool = False
    synced: bool = True
    keys: npt.NDArray[np.int64] = dataclasses.field(
        default_factory=_no_keys, repr=False, compare=False
    )

    def _and_then(self, later: WriteResult) -> WriteResult:
        return WriteResult(
            self.inserted + later.inserted,
            self.replaced + later.replaced,
            later.as_of,
            self.replayed or later.replayed,
            self.synced and later.synced,
            np.concatenate((self.keys, later.keys)),
        )


class RefusedBatch(NamedTuple):
    """A batch of a load that was passed over.

    Attributes:
        number: Which one, counted from 1.
        error: Why; nothing of it was written.
    """

    number: int
    error: AzimuthError


class IngestResult(NamedTuple):
    """What a load has done, over all its streams.

    Attributes:
        load: Its name.
        batches: The last batch that was applied or passed over.
        inserted: Keys that were new.
        replaced: Keys that existed.
        as_of: The sequence number of the last batch; 0 if there was none.
        refused: Batches that were passed over by this call.
    """

    load: str
    batches: int
    inserted: int
    replaced: int
    as_of: int
    refused: tuple[RefusedBatch, ...] = ()


@dataclass(frozen=True)
class UpdateResult:
    """What an update did.

    Attributes:
        updated: Records that were changed.
        missing: Keys without a record; always 0 without `skip_missing`.
        as_of: As in :class:`WriteResult`.
        replayed: As in :class:`WriteResult`.
        synced: As in :class:`WriteResult`.
    """

    updated: int
    missing: int
    as_of: int
    replayed: bool = False
    synced: bool = True

    def _and_then(self, later: UpdateResult) -> UpdateResult:
        return UpdateResult(
            self.updated + later.updated,
            self.missing + later.missing,
            later.as_of,
            self.replayed or later.replayed,
            self.synced and later.synced,
        )


@dataclass(frozen=True)
class DeleteResult:
    """What a delete did.

    Attributes:
        deleted: Records that were there and are not any more (with `dry_run`: that would be).
        as_of: The sequence number of the (last) batch; 0 when there was nothing to delete.
        replayed: As in :class:`WriteResult`.
        commits: In how many atomic steps.
        synced: As in :class:`WriteResult`.
    """

    deleted: int
    as_of: int
    replayed: bool = False
    commits: int = 1
    synced: bool = True

    def _and_then(self, later: DeleteResult) -> DeleteResult:
        return DeleteResult(
            self.deleted + later.deleted,
            later.as_of,
            self.replayed or later.replayed,
            self.commits + later.commits,
            self.synced and later.synced,
        )


@dataclass(frozen=True)
class SearchWork:
    """What the server did for one query.

    Attributes:
        path: ``"graph"``, ``"scan"``, ``"mixed"``, or ``"none"`` when there was nothing to search.
        distances_computed: How many vectors were compared with the query.
        segments_by_graph: Segments that their graph answered.
        segments_by_scan: Segments that were scanned.
        rows_matching: Rows that the filter admits; 0 when there is no filter.
        complete: False when the search may have stopped short of `limit` matching rows.
    """

    path: str
    distances_computed: int
    segments_by_graph: int
    segments_by_scan: int
    rows_matching: int
    complete: bool

    @classmethod
    def _from_message(cls, work: pb_search.SearchWork) -> SearchWork:
        return cls(
            path=_PATHS.get(work.path, "none"),
            distances_computed=work.distances_computed,
            segments_by_graph=work.segments_by_graph,
            segments_by_scan=work.segments_by_scan,
            rows_matching=work.rows_matching,
            complete=work.complete,
        )


class SearchResult(Sequence[Hit]):
    """The hits of one query, nearest first, and what the server did to find them.

    Attributes:
        hits: The hits; iterating or indexing the result does the same.
        work: What the server did.
        as_of: The sequence number that was searched.
        warnings: What the server thinks you should know (an unknown field in the filter, say).
    """

    def __init__(
        self, hits: list[Hit], work: SearchWork, as_of: int, warnings: tuple[str, ...]
    ) -> None:
        self.hits = hits
        self.work = work
        self.as_of = as_of
        self.warnings = warnings

    @property
    def path(self) -> str:
        """``"graph"``, ``"scan"``, ``"mixed"`` or ``"none"``."""
        return self.work.path

    @property
    def distances_computed(self) -> int:
        """How many vectors were compared with the query."""
        return self.work.distances_computed

    @property
    def keys(self) -> list[Key]:
        """The keys of the hits."""
        return [hit.key for hit in self.hits]

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> list[Hit]: ...
    def __getitem__(self, index: int | slice) -> Hit | list[Hit]:
        return self.hits[index]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __repr__(self) -> str:
        lines = "".join(f"\n  {hit!r}" for hit in self.hits[:10])
        more = f"\n  ... {len(self) - 10} more" if len(self) > 10 else ""
        return (
            f"SearchResult({len(self)} hits, path={self.path!r}, as_of={self.as_of}){lines}{more}"
        )


class BatchResult(Sequence[SearchResult]):
    """The hits of n queries, as n x limit arrays and as one :class:`SearchResult` per query.

    Rows with fewer hits than `limit` are padded: keys with -1 (int64) or None (string), distances
    and scores with NaN; `counts` says how many hits are real.

    Attributes:
        keys: n x limit, int64, or object for collections with string keys.
        distances: n x limit, float32.
        scores: n x limit, float32.
        counts: n, int64.
        work: What the server did for each query.
        as_of: The sequence number that was searched. Of a batch that was sent as several requests
            the lowest one; the results of single queries have their own.
        warnings: As in :class:`SearchResult`, each one once.
    """

    def __init__(
        self, replies: Sequence[pb_search.SearchBatchResponse], limit: int, string_keys: bool
    ) -> None:
        columns = [(reply, result) for reply in replies for result in reply.results]
        self._columns = columns
        counts = [len(result.distances) for _, result in columns]
        shape = (len(columns), limit)
        self.counts: npt.NDArray[np.int64] = np.array(counts, np.int64)
        real = np.arange(limit) < self.counts[:, np.newaxis]
        self.keys: npt.NDArray[Any]
        if string_keys:
            self.keys = np.full(shape, None, object)
            flat = list(chain.from_iterable(r.keys.string_keys.values for _, r in columns))
            self.keys[real] = flat
        else:
            self.keys = np.full(shape, -1, np.int64)
            self.keys[real] = np.fromiter(
                chain.from_iterable(r.keys.int64_keys.values for _, r in columns), np.int64
            )
        self.distances: npt.NDArray[np.float32] = np.full(shape, np.nan, np.float32)
        self.distances[real] = np.fromiter(
            chain.from_iterable(r.distances for _, r in columns), np.float32
        )
        self.scores: npt.NDArray[np.float32] = np.full(shape, np.nan, np.float32)
        self.scores[real] = np.fromiter(
            chain.from_iterable(r.scores for _, r in columns), np.float32
        )
        self.work = [SearchWork._from_message(result.work) for _, result in columns]
        self.as_of: int = min((reply.as_of for reply in replies), default=0)
        self.warnings = tuple(dict.fromkeys(chain.from_iterable(r.warnings for r in replies)))

    def __len__(self) -> int:
        return len(self._columns)

    @overload
    def __getitem__(self, index: int) -> SearchResult: ...
    @overload
    def __getitem__(self, index: slice) -> list[SearchResult]: ...
    def __getitem__(self, index: int | slice) -> SearchResult | list[SearchResult]:
        if isinstance(index, slice):
            return [self._result(i) for i in range(*index.indices(len(self)))]
        return self._result(range(len(self))[index])

    def _result(self, i: int) -> SearchResult:
        reply, result = self._columns[i]
        return SearchResult(decode_hits(result), self.work[i], reply.as_of, tuple(reply.warnings))

    def __repr__(self) -> str:
        n, limit = self.keys.shape
        hits = int(self.counts.sum())
        return f"BatchResult({n} queries, limit={limit}, {hits} hits, as_of={self.as_of})"


class QueryResult(Sequence[Record]):
    """The records that match a filter, in order of key.

    Attributes:
        records: The records; iterating or indexing the result does the same.
        as_of: The sequence number that was read.
        warnings: As in :class:`SearchResult`.
    """

    def __init__(self, records: list[Record], as_of: int, warnings: tuple[str, ...]) -> None:
        self.records = records
        self.as_of = as_of
        self.warnings = warnings

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        return self.records[index]

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __repr__(self) -> str:
        lines = "".join(f"\n  {record!r}" for record in self.records[:10])
        more = f"\n  ... {len(self) - 10} more" if len(self) > 10 else ""
        return f"QueryResult({len(self)} records, as_of={self.as_of}){lines}{more}"


def decode_key(key: pb.Key) -> Key:
    """Returns the key as int or str."""
    return key.string_key if key.WhichOneof("kind") == "string_key" else key.int64_key


def decode_record(record: pb.Record) -> Record:
    """Returns a record that came in row form."""
    return Record(
        decode_key(record.key),
        {name: read_value(value) for name, value in record.fields.items()},
        {name: _decode_vector(vector) for name, vector in record.vectors.items()},
        record.version,
        from_micros(record.expires_at_unix_us),
    )


def decode_hit(hit: pb_search.Hit) -> Hit:
    """Returns a hit that came in row form."""
    return Hit(
        decode_key(hit.key),
        hit.distance,
        hit.score,
        {name: read_value(value) for name, value in hit.fields.items()},
        {name: _decode_vector(vector) for name, vector in hit.vectors.items()},
    )


def decode_hits(columns: pb_search.HitColumns) -> list[Hit]:
    """Returns the hits of one query that came in column form."""
    count = len(columns.distances)
    keys: Sequence[Key] = columns.keys.int64_keys.values or columns.keys.string_keys.values
    hits = [
        Hit(key, distance, score, {}, {})
        for key, distance, score in zip(keys, columns.distances, columns.scores)
    ]
    for field in columns.fields:
        values, present = decode_field(field)
        for i, (hit, value) in enumerate(zip(hits, values)):
            if present is None or present[i]:
                hit.fields[field.name] = value
    for column in columns.vectors:
        matrix, present = decode_vectors(column, count)
        for i, (hit, vector) in enumerate(zip(hits, matrix)):
            if present is None or present[i]:
                hit.vectors[column.name] = vector
    return hits


def _decode_vector(vector: pb.Vector) -> Vector:
    dense = vector.dense
    if dense.f32:
        return np.frombuffer(dense.f32, "<f4")
    return np.array(dense.values, "<f4")


def _extras(fields: dict[str, Any], vectors: dict[str, Vector]) -> str:
    """Returns the rest of a record's repr, with shapes in place of vectors."""
    shown: list[str | None] = [f", fields={fields!r}" if fields else None]
    if vectors:
        shapes = ", ".join(f"{name!r}: float32[{len(v)}]" for name, v in vectors.items())
        shown.append(f", vectors={{{shapes}}}")
    return "".join(part for part in shown if part)
