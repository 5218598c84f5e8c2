"""The client: one connection to a server, and the life of collections."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from ._generated.azimuth.v1 import admin_pb2 as pb_admin
from ._generated.azimuth.v1 import collections_pb2 as pb_collections
from ._transport import Transport
from .collection import Collection
from .schema import CollectionSummary, Field, VectorField, make_schema
from .server_info import ServerInfo
from .snapshots import RestoreResult, SnapshotInfo, SnapshotReport
from .verify import VerifyReport

__all__ = ["Client"]


def _id_of(snapshot: str | SnapshotInfo) -> str:
    return snapshot.id if isinstance(snapshot, SnapshotInfo) else snapshot


class Client:
    """A connection to an Azimuth server.

    It connects with the first call and again whenever the connection breaks. Any number of threads
    may share one. Use it as a context manager, or call :meth:`close`.

        with Client("127.0.0.1:7600") as db:
            items = db.collection("items")

    Reads (search, get, query, count, describe, list, stats) that find the server unavailable are
    tried again, and so are insert, upsert, update and delete by keys: each of their requests bears
    a new id, by which the server answers one that it has done already with its first reply. A
    delete by filter is tried again only with a `request_id` of your own; create, drop and truncate
    never are. After ``Unavailable`` or ``DeadlineExceeded`` it is not known whether a write took
    effect: call again with the same `request_id`, and it is done once.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:7600",
        *,
        timeout: float = 60.0,
        wait_ready: float | None = None,
        retries: int = 3,
        channel_options: Mapping[str, int | str] | None = None,
    ) -> None:
        """Makes a client.

        Args:
            address: ``"host:port"``; the port may be left out (7600).
            timeout: Seconds that each request may take, retries included.
            wait_ready: Seconds to wait here for the server to answer (``Unavailable`` if it does
                not); True: `timeout` seconds; None or False: do not wait.
            retries: How often a read, or a write with a request id, is tried again when the server
                is unavailable; 0: never, and writes then have an id only if you give one.
            channel_options: gRPC channel options, such as ``{"grpc.enable_http_proxy": 1}``, in
                addition to and in place of the client's own.
        """
        if timeout <= 0:
            raise ValueError(f"timeout: expected a positive number of seconds, got {timeout}")
        if retries < 0:
            raise ValueError(f"retries: expected 0 or more, got {retries}")
        self._transport = Transport(address, timeout, retries, channel_options)
        if wait_ready is not None and wait_ready is not False:
            try:
                self._transport.wait_ready(timeout if wait_ready is True else float(wait_ready))
            except BaseException:
                self.close()
                raise

    @property
    def address(self) -> str:
        """The server's address, with its port."""
        return self._transport.address

    def close(self) -> None:
        """Closes the connection. Calls that are running elsewhere raise ``Cancelled``."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.address!r})"

    def create_collection(
        self,
        name: str,
        vectors: Mapping[str, VectorField],
        fields: Mapping[str, str | Field] | None = None,
        *,
        key_type: str = "int64",
        dynamic: bool = True,
        ttl_seconds: int = 0,
        auto_id: bool = False,
        if_not_exists: bool = False,
    ) -> Collection:
        """Makes a collection; it is durable when the call returns.

        Args:
            name: Letters, digits, ``_`` and ``-``; not a digit or ``-`` first.
            vectors: The vector fields by name, at least one.
            fields: The declared scalar fields by name: a type name, or a :class:`Field`.
            key_type: ``"int64"`` or ``"string"``.
            dynamic: Whether records may have fields that are not declared.
            ttl_seconds: How long a record lives that does not say when it ends; 0: for ever.
            auto_id: Whether the server makes the keys, ascending int64 numbers that it never uses
                again: records are inserted without keys, and the result has those that were made.
            if_not_exists: Whether to take the collection of that name when there is one with the
                same schema.

        Returns:
            A handle on it.

        Raises:
            AlreadyExists: The name is taken (with `if_not_exists`: by another schema).
        """
        request = pb_collections.CreateCollectionRequest(
            collection=name,
            schema=make_schema(vectors, fields, key_type, dynamic, ttl_seconds, auto_id),
            if_not_exists=if_not_exists,
        )
        self._transport.create(request)
        return Collection(self._transport, name)

    def collection(self, name: str) -> Collection:
        """Returns a handle on a collection. Asks nothing: calls on it raise ``NotFound``."""
        return Collection(self._transport, name)

    def server_info(self) -> ServerInfo:
        """Returns the server's version, limits and memory."""
        return ServerInfo._from_message(self._transport.server_info(pb_admin.ServerInfoRequest()))

    def verify(
        self, collection: str = "", *, deep: bool = False, timeout: float | None = None
    ) -> VerifyReport:
        """Compares what is on the server's disk with itself, while everything goes on.

        It reads everything and takes as long.

        Args:
            collection: Its name; empty for all of them, and the store as a whole.
            deep: Compare the content of all rows with that of their segments, else of a sample.
            timeout: In seconds; None for as long as it takes.

        Raises:
            NotFound: There is no such collection.
        """
        request = pb_admin.VerifyRequest(collection=collection, deep=deep)
        return VerifyReport._from_message(self._transport.verify(request, timeout))

    def create_snapshot(
        self,
        collection: str | None = None,
        *,
        name: str | None = None,
        timeout: float | None = None,
    ) -> SnapshotInfo:
        """Takes a snapshot: what a collection, or the whole store, has at one moment.

        Reads and writes go on meanwhile. It lies under ``snapshots/`` of the server's data
        directory; a backup is a copy of that folder elsewhere.

        Args:
            collection: Its name; None for the whole store.
            name: Letters, digits, ``_`` and ``-``; not a digit or ``-`` first. None: the server
                gives one, with the time in it.
            timeout: In seconds; None for as long as it takes.

        Raises:
            NotFound: There is no such collection.
            AlreadyExists: A snapshot has the name.
            Aborted: Another snapshot is being made, checked, restored or deleted.
            ResourceExhausted: The disk is full, or nearly so.
        """
        request = pb_admin.CreateSnapshotRequest(collection=collection or "", name=name or "")
        reply = self._transport.create_snapshot(request, timeout)
        return SnapshotInfo._from_message(reply.snapshot)

    def list_snapshots(self, collection: str | None = None) -> list[SnapshotInfo]:
        """Returns the snapshots, the oldest first, then those that are damaged.

        Args:
            collection: Those of one collection only (and damaged ones).
        """
        reply = self._transport.list_snapshots(
            pb_admin.ListSnapshotsRequest(collection=collection or "")
        )
        return [SnapshotInfo._from_message(each) for each in reply.snapshots]

    def verify_snapshot(
        self, snapshot: str | SnapshotInfo, *, timeout: float | None = None
    ) -> SnapshotReport:
        """Reads all of a snapshot and checks it as a restore would.

        Args:
            snapshot: Its name or id, or what :meth:`create_snapshot` returned.
            timeout: In seconds; None for as long as it takes.

        Raises:
            NotFound: There is none.
            Aborted: Another snapshot is being made, checked, restored or deleted.
            ResourceExhausted: The server's memory is not for a check of so many rows, nor for a
                restore.
        """
        request = pb_admin.VerifySnapshotRequest(snapshot=_id_of(snapshot))
        return SnapshotReport._from_message(self._transport.verify_snapshot(request, timeout))

    def restore_snapshot(
        self,
        snapshot: str | SnapshotInfo,
        collection: str | None = None,
        *,
        as_name: str | None = None,
        overwrite: bool = False,
        timeout: float | None = None,
    ) -> RestoreResult:
        """Makes a collection of a snapshot; all of it is checked before anything is changed.

        Args:
            snapshot: Its name or id, or what :meth:`create_snapshot` returned.
            collection: Which one of a snapshot of the whole store.
            as_name: The name that it gets; None for its own.
            overwrite: Whether a collection of that name is replaced, in the moment in which the
                restored one appears.
            timeout: In seconds; None for as long as it takes.

        Raises:
            NotFound: There is no such snapshot, or it has no such collection.
            AlreadyExists: The name is taken, and `overwrite` is not set.
            DataLoss: Rows of the snapshot are damaged or missing. Nothing was changed.
            Aborted: Another snapshot is being made, checked, restored or deleted.
            ResourceExhausted: There is no room for it, on the disk or in memory.
        """
        request = pb_admin.RestoreSnapshotRequest(
            snapshot=_id_of(snapshot),
            collection=collection or "",
            target_name=as_name or "",
            overwrite=overwrite,
        )
        return RestoreResult._from_message(self._transport.restore_snapshot(request, timeout))

    def delete_snapshot(self, snapshot: str | SnapshotInfo) -> None:
        """Deletes a snapshot, also a damaged one (by its id).

        Raises:
            NotFound: There is none.
            Aborted: Another snapshot is being made, checked, restored or deleted.
        """
        self._transport.delete_snapshot(pb_admin.DeleteSnapshotRequest(snapshot=_id_of(snapshot)))

    def list_collections(self) -> list[CollectionSummary]:
        """Returns all collections, in order of name."""
        reply = self._transport.list_all(pb_collections.ListCollectionsRequest())
        return [
            CollectionSummary(c.collection, c.collection_id, c.row_count) for c in reply.collections
        ]

    def drop_collection(self, name: str, *, if_exists: bool = False) -> bool:
        """Drops a collection and all that is in it.

        Returns:
            Whether there was one; False only with `if_exists`.

        Raises:
            NotFound: There is none, and `if_exists` is not set.
        """
        request = pb_collections.DropCollectionRequest(collection=name, if_exists=if_exists)
        return self._transport.drop(request).dropped
