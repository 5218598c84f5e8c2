"""The writes of a collection: what :class:`Collection` inherits.

All of them go through `send_parts`, one request after the other, each with an id of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import count, islice
from typing import Any, Callable, Optional, TypeVar, Union
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from ._columns import REQUEST_BYTES_MAX, REQUEST_ROWS_MAX, Batch, Keys, cut, decode_keys
from ._generated.azimuth.v1 import collections_pb2 as pb_collections
from ._generated.azimuth.v1 import records_pb2 as pb_records
from ._generated.azimuth.v1 import types_pb2 as pb
from ._ingest import Load
from ._rows import encode_record, read_version
from ._transport import Transport
from ._values import make_filter
from .errors import AzimuthError
from .results import DeleteResult, IngestResult, Record, UpdateResult, WriteResult
from .schema import CollectionInfo

Params = Optional[Mapping[str, Any]]
Vectors = Union[Mapping[str, Any], npt.ArrayLike]
T = TypeVar("T", WriteResult, UpdateResult, DeleteResult)

_NOTHING, _NO_UPDATE = WriteResult(0, 0, 0), UpdateResult(0, 0, 0)


def request_ids(given: str | None, automatic: bool) -> Iterator[str]:
    """Returns the ids of a call's requests: the given one, then ``given#1`` and so on.

    With none given: new ones if `automatic`, else empty ones, which mean none.
    """
    if given is None:
        return (str(uuid4()) if automatic else "" for _ in count())
    if not isinstance(given, str) or not given:
        raise ValueError(f"request_id: expected a string of 1 to 128 bytes, got {given!r}")
    return (f"{given}#{n}" if n else given for n in count())


def send_parts(
    nothing: T,
    rows: int,
    parts: Iterable[tuple[int, int]],
    send: Callable[[int, int], T],
) -> T:
    """Sends the parts of a write one after the other, and adds up what they did to `nothing`."""
    total = nothing
    for start, stop in parts:
        try:
            done = send(start, stop)
        except AzimuthError as error:
            if stop - start < rows:
                error.partial = total
                error.message += f" (in rows {start} to {stop - 1} of {rows}, counted from 0)"
            raise
        total = total._and_then(done)
    return total


def _durability(relaxed: bool) -> int:
    return pb.DURABILITY_RELAXED if relaxed else pb.DURABILITY_SYNCED


def _synced(durability: int) -> bool:
    return bool(durability != pb.DURABILITY_RELAXED)


def _version(version: int | None) -> int | None:
    return None if version is None else read_version(version, "if_version")


def _ingest_batch(columns: Batch) -> pb_records.IngestBatch:
    return pb_records.IngestBatch(columns=columns.message(0, len(columns)))


class CollectionWrites:
    """The part of :class:`Collection` that writes, and what it knows of the schema."""

    def __init__(self, transport: Transport, name: str) -> None:
        """For :class:`Client`: use its `collection` or `create_collection`."""
        self._transport = transport
        self._name = name
        self._info: CollectionInfo | None = None

    @property
    def name(self) -> str:
        """The collection's name."""
        return self._name

    def describe(self) -> CollectionInfo:
        """Returns the schema with all defaults filled in."""
        request = pb_collections.DescribeCollectionRequest(collection=self._name)
        self._info = CollectionInfo._from_message(self._transport.describe(request))
        return self._info

    def _schema(self) -> CollectionInfo:
        return self._info if self._info is not None else self.describe()

    def _only_vector_field(self, argument: str) -> str:
        names = list(self._schema().vectors)
        if len(names) == 1:
            return names[0]
        listed = ", ".join(map(repr, names))
        raise ValueError(f"{argument}: name the vector field; {self._name!r} has {listed}")

    # Writes.

    def insert(
        self,
        keys: npt.ArrayLike | None = None,
        vectors: Vectors | None = None,
        fields: Mapping[str, Any] | None = None,
        *,
        expires_at: Any = None,
        request_id: str | None = None,
        relaxed: bool = False,
    ) -> WriteResult:
        """Adds records, given in columns; fails when a key exists.

        Args:
            keys: n keys, all int or all str. None where the server makes them (``auto_id``): the
                result has them in `keys`.
            vectors: n x dimension arrays by vector field, of any real type (converted to float32);
                just the array when the collection has one vector field. A None in a list of
                vectors is a record without one.
            fields: n values by scalar field: numpy arrays, lists, anything that numpy takes. None
                in a list or object array, or a masked entry, means that the record lacks the
                field (it gets the default, if there is one).
            expires_at: When the records end: one moment for all, or n of them. A datetime with its
                time zone, a numpy datetime64 (UTC) or int microseconds since 1970; 0: never. None:
                by the collection's ``ttl_seconds``.
            request_id: Makes repeating the call safe; see the class.
            relaxed: Whether the server may answer before the write is on disk, which it then is
                within a second: it survives the death of the server, but not that of the machine.

        Raises:
            AlreadyExists: A key exists; nothing of that request was written.
            InvalidArgument: A key comes twice, or a value does not fit the schema.
            ResourceExhausted: Too many rows wait for their index: try again later.
            ValueError, TypeError: Shapes or types are wrong; nothing was sent.
        """
        send = self._inserting(request_id, relaxed)
        return self._write_columns(_NOTHING, send, keys, vectors, fields, expires_at)

    def upsert(
        self,
        keys: npt.ArrayLike | None = None,
        vectors: Vectors | None = None,
        fields: Mapping[str, Any] | None = None,
        *,
        expires_at: Any = None,
        if_version: int | None = None,
        request_id: str | None = None,
        relaxed: bool = False,
    ) -> WriteResult:
        """Adds or replaces whole records, given in columns. Arguments as in :meth:`insert`.

        Of a key that comes twice the last record wins. Where the server makes the keys
        (``auto_id``), records without keys are added and those with keys replaced.

        Args:
            if_version: The version that every one of the records must have now (0: must not exist).

        Raises:
            Aborted: A record has another version than `if_version`; nothing of that request was
                written.
            NotFound: A key has no record, and the server makes the keys.
        """
        send = self._upserting(request_id, relaxed, if_version)
        return self._write_columns(_NOTHING, send, keys, vectors, fields, expires_at)

    def ingest(
        self,
        batches: Iterable[Mapping[str, Any]],
        *,
        mode: str = "upsert",
        load: str | None = None,
        skip_refused: bool = False,
        relaxed: bool = False,
        timeout: float | None = None,
        on_keys: Callable[[int, npt.NDArray[np.int64]], None] | None = None,
    ) -> IngestResult:
        """Loads many batches of records over one stream: the fastest way to write.

        While batches are on their way the next ones are made; the server says how many may be, and
        slows the load down when it cannot keep up. Each batch is atomic, and durable when it is
        acknowledged; they are applied in order. After a break the stream is opened again and goes
        on where it was: no batch is applied twice.

        Args:
            batches: Each a dict with ``keys`` (unless the server makes them) and whatever of
                ``vectors``, ``fields`` and ``expires_at`` the records have, as :meth:`upsert` takes
                them; best are some megabytes, at most 32 MiB.
            mode: ``"upsert"``, or ``"insert"``: a batch with a key that exists is refused.
            load: A name for the load, 1 to 100 bytes. A call that names a load which was broken off
                (within a day) passes over the batches that it had applied: give it the same
                batches again. After a truncation it begins anew. None: a name of its own, for this
                call alone.
            skip_refused: Whether to go on after a batch that the server refuses; the result tells
                which. Else its error ends the load; and so does one that is refused without its
                records too, as when the collection is gone.
            relaxed: As in :meth:`insert`.
            timeout: How many seconds may pass without an acknowledgement; None: as the client's.
                What `on_keys` takes does not count.
            on_keys: Where the server makes the keys (``auto_id``): called with the number of each
                batch that is acknowledged, counted from 1, and its new keys, by a thread of the
                load, one call at a time. What it raises ends the load and is raised here; the batch
                stays written. It hears of each batch at least once: of a load that goes on it first
                hears of the last batches again, 256 at most, which the broken call may not have
                told. So what it keeps should be kept by the number.

        Raises:
            What :meth:`upsert` and :meth:`insert` raise, of the first batch that is refused:
            batches before it stay written, and ``partial_load`` of the error has the result so far.
        """
        modes = {"upsert": pb_records.INGEST_MODE_UPSERT, "insert": pb_records.INGEST_MODE_INSERT}
        if mode not in modes:
            raise ValueError(f"mode: expected 'upsert' or 'insert', got {mode!r}")
        if load is not None and (not isinstance(load, str) or not load):
            raise ValueError(f"load: expected a string of 1 to 100 bytes, got {load!r}")
        start = pb_records.IngestStart(mode=modes[mode], load=load or "", **self._common(relaxed))
        running = Load(
            self._transport, start, skip_refused, timeout or self._transport.timeout, on_keys
        )
        try:
            done = running.last_batch() if load is not None else 0
            for batch in islice(batches, done, None):
                columns = self._batch(**batch)
                running.send(partial(_ingest_batch, columns))
            return running.finish()
        except AzimuthError as error:
            error.partial_load = running.result()
            raise
        finally:
            running.close()

    def update(
        self,
        keys: npt.ArrayLike,
        vectors: Vectors | None = None,
        fields: Mapping[str, Any] | None = None,
        *,
        expires_at: Any = None,
        if_version: int | None = None,
        skip_missing: bool = False,
        request_id: str | None = None,
        relaxed: bool = False,
    ) -> UpdateResult:
        """Changes the given fields and vectors of records that exist, and keeps all others.

        Arguments as in :meth:`upsert`; None in a column leaves that record's value as it is, and so
        does `expires_at` that is not given.

        Args:
            skip_missing: Whether keys without a record are left out and counted.

        Raises:
            NotFound: A key has no record (without `skip_missing`); nothing of that request was
                written.
            InvalidArgument: A key comes twice, or a value does not fit the schema.
            TypeError: No keys are given.
        """
        if keys is None:
            raise TypeError("keys: none are given, and only records that exist can be changed")
        send = self._updating(request_id, relaxed, if_version, skip_missing)
        return self._write_columns(_NO_UPDATE, send, keys, vectors, fields, expires_at)

    def insert_records(
        self,
        records: Iterable[Mapping[str, Any] | Record],
        *,
        request_id: str | None = None,
        relaxed: bool = False,
    ) -> WriteResult:
        """Adds records, given one by one; fails when a key exists.

        Args:
            records: Dicts such as ``{"key": 1, "label": 3, "image": [0.5, 0.25]}``, or
                :class:`Record`. In a dict, what bears the name of a vector field is its vector
                (None: the record has none); ``"expires_at"`` is when the record ends, as in
                :meth:`insert`, and ``"if_version"`` the version that it must have (both are
                ordinary fields if the schema declares them); all else but ``"key"`` are scalar
                fields, where None is an explicit null and a name left out is an absent field. There
                is no ``"key"`` where the server makes it (``auto_id``).
            request_id: As in :meth:`insert`.

        Raises:
            As :meth:`insert`. For many records :meth:`insert` is much faster.
        """
        send = self._inserting(request_id, relaxed)
        return self._write_records(_NOTHING, send, records, keyless=self._schema().auto_id)

    def upsert_records(
        self,
        records: Iterable[Mapping[str, Any] | Record],
        *,
        if_version: int | None = None,
        request_id: str | None = None,
        relaxed: bool = False,
    ) -> WriteResult:
        """Adds or replaces whole records, given one by one; see :meth:`insert_records`.

        A record's own ``"if_version"`` goes before `if_version`, which is for all of them.
        """
        send = self._upserting(request_id, relaxed, if_version)
        return self._write_records(_NOTHING, send, records, keyless=self._schema().auto_id)

    def update_records(
        self,
        records: Iterable[Mapping[str, Any] | Record],
        *,
        if_version: int | None = None,
        skip_missing: bool = False,
        request_id: str | None = None,
        relaxed: bool = False,
    ) -> UpdateResult:
        """Changes what the dicts name and keeps all else; see :meth:`update`.

        Dicts are as in :meth:`insert_records`: None sets a scalar field to null, and leaves a
        vector as it is.
        """
        send = self._updating(request_id, relaxed, if_version, skip_missing)
        return self._write_records(_NO_UPDATE, send, records, keyless=False)

    def delete(
        self,
        *,
        keys: npt.ArrayLike | None = None,
        filter: str | None = None,
        params: Params = None,
        all: bool = False,
        dry_run: bool = False,
        if_version: int | None = None,
        request_id: str | None = None,
        relaxed: bool = False,
    ) -> DeleteResult:
        """Deletes records by `keys` (unknown ones are no error), by `filter`, or `all` of them.

        A delete by filter is atomic: it chooses records at one sequence number, and leaves alone
        what a concurrent write has changed meanwhile. More than 100 000 records are deleted in
        several steps (``commits``), each of them atomic.

        Args:
            dry_run: With `filter` or `all`: counts the records and deletes none.
            if_version: With `keys`: the version that every one of the records must have.
            request_id: Makes repeating the call safe; see the class.
        """
        if (keys is not None) + (filter is not None) + bool(all) != 1:
            raise ValueError("delete: expected exactly one of keys, filter and all=True")
        if keys is None:
            if if_version is not None:
                raise ValueError("delete: if_version goes with keys only")
            send = self._deleting(request_id, relaxed, False, dry_run=dry_run)
            return send(filter=make_filter(filter, params), delete_all=all)
        if params:
            raise ValueError("delete: params are given without a filter that uses them")
        if dry_run:
            raise ValueError("delete: dry_run goes with filter and all only")
        read = Keys(keys)
        send = self._deleting(request_id, relaxed, True, if_version)
        return send_parts(
            DeleteResult(0, 0, commits=0),
            len(read),
            cut(len(read), [read.sizes()]),
            lambda start, stop: send(keys=read.message(start, stop)),
        )

    def truncate(self) -> int:
        """Removes all records at once and returns how many there were; the collection stays.

        Unlike ``delete(all=True)`` its cost does not depend on the number of records.
        """
        request = pb_collections.TruncateCollectionRequest(collection=self._name)
        return self._transport.truncate(request).removed

    # Requests.

    def _common(self, relaxed: bool, if_version: int | None = None) -> dict[str, Any]:
        common: dict[str, Any] = {"collection": self._name, "durability": _durability(relaxed)}
        if if_version is not None:
            common["if_version"] = _version(if_version)
        return common

    def _inserting(self, request_id: str | None, relaxed: bool) -> Callable[..., WriteResult]:
        ids = request_ids(request_id, self._transport.retries_writes)
        common = self._common(relaxed)

        def send(**records: Any) -> WriteResult:
            reply = self._transport.insert(
                pb_records.InsertRequest(request_id=next(ids), **common, **records)
            )
            synced = _synced(reply.durability)
            keys = decode_keys(reply.keys)
            return WriteResult(reply.inserted, 0, reply.as_of, reply.replayed, synced, keys)

        return send

    def _upserting(
        self, request_id: str | None, relaxed: bool, if_version: int | None
    ) -> Callable[..., WriteResult]:
        ids = request_ids(request_id, self._transport.retries_writes)
        common = self._common(relaxed, if_version)

        def send(**records: Any) -> WriteResult:
            reply = self._transport.upsert(
                pb_records.UpsertRequest(request_id=next(ids), **common, **records)
            )
            synced = _synced(reply.durability)
            return WriteResult(
                reply.inserted,
                reply.replaced,
                reply.as_of,
                reply.replayed,
                synced,
                decode_keys(reply.keys),
            )

        return send

    def _updating(
        self, request_id: str | None, relaxed: bool, if_version: int | None, skip_missing: bool
    ) -> Callable[..., UpdateResult]:
        ids = request_ids(request_id, self._transport.retries_writes)
        common = self._common(relaxed, if_version)

        def send(**records: Any) -> UpdateResult:
            reply = self._transport.update(
                pb_records.UpdateRequest(
                    request_id=next(ids), skip_missing=skip_missing, **common, **records
                )
            )
            synced = _synced(reply.durability)
            return UpdateResult(reply.updated, reply.missing, reply.as_of, reply.replayed, synced)

        return send

    def _deleting(
        self,
        request_id: str | None,
        relaxed: bool,
        automatic: bool,
        if_version: int | None = None,
        dry_run: bool = False,
    ) -> Callable[..., DeleteResult]:
        ids = request_ids(request_id, automatic and self._transport.retries_writes)
        common = {**self._common(relaxed, if_version), "dry_run": dry_run}

        def send(**chosen: Any) -> DeleteResult:
            reply = self._transport.delete(
                pb_records.DeleteRequest(request_id=next(ids), **common, **chosen)
            )
            synced = _synced(reply.durability)
            return DeleteResult(reply.deleted, reply.as_of, reply.replayed, reply.commits, synced)

        return send

    def _write_columns(
        self,
        nothing: T,
        send: Callable[..., T],
        keys: npt.ArrayLike | None,
        vectors: Vectors | None,
        fields: Mapping[str, Any] | None,
        expires_at: Any,
    ) -> T:
        batch = self._batch(keys, vectors, fields, expires_at)
        return send_parts(
            nothing,
            len(batch),
            batch.parts(),
            lambda start, stop: send(columns=batch.message(start, stop)),
        )

    def _batch(
        self,
        keys: npt.ArrayLike | None = None,
        vectors: Vectors | None = None,
        fields: Mapping[str, Any] | None = None,
        expires_at: Any = None,
    ) -> Batch:
        if vectors is None:
            vectors = {}
        elif not isinstance(vectors, Mapping):
            vectors = {self._only_vector_field("vectors"): vectors}
        return Batch(keys, vectors, fields or {}, expires_at)

    def _write_records(
        self,
        nothing: T,
        send: Callable[..., T],
        records: Iterable[Mapping[str, Any] | Record],
        keyless: bool,
    ) -> T:
        schema = self._schema()
        vectors, fields = schema.vectors.keys(), schema.fields.keys()
        rows = [
            encode_record(record, vectors, fields, f"records[{i}]", keyless)
            for i, record in enumerate(records)
        ]
        sizes = np.fromiter((row.ByteSize() + 6 for row in rows), np.int64, len(rows))
        return send_parts(
            nothing,
            len(rows),
            cut(len(rows), [sizes], REQUEST_BYTES_MAX, REQUEST_ROWS_MAX),
            lambda start, stop: send(rows=pb.RecordList(records=rows[start:stop])),
        )
