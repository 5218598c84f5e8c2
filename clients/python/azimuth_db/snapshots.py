"""Snapshots, and what comes of their checks and restores."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ._generated.azimuth.v1 import admin_pb2 as pb_admin
from ._times import from_micros

__all__ = ["RestoreResult", "SnapshotInfo", "SnapshotReport"]


@dataclass(frozen=True)
class SnapshotInfo:
    """A snapshot on the server.

    Attributes:
        id: 16 hexadecimal digits: the name of its folder under ``snapshots/``.
        name: Its name.
        collection: What it is of; empty: the whole store.
        as_of: It has exactly the commits up to this sequence number.
        incarnation: That `as_of` is of.
        created: When it was taken; None if there is a problem and nobody knows.
        bytes: Of all its files; those that it shares with the store take no room twice.
        files: How many they are.
        rows: Records.
        problem: What is wrong with it; then only the id is sure. Empty if it looks whole
            (:meth:`Client.verify_snapshot` reads all of it).
    """

    id: str
    name: str
    collection: str
    as_of: int
    incarnation: int
    created: datetime | None
    bytes: int
    files: int
    rows: int
    problem: str

    @property
    def kind(self) -> str:
        """``"collection"`` or ``"store"``."""
        return "collection" if self.collection else "store"

    @classmethod
    def _from_message(cls, message: pb_admin.SnapshotInfo) -> SnapshotInfo:
        return cls(
            id=message.id,
            name=message.name,
            collection=message.collection,
            as_of=message.as_of,
            incarnation=message.incarnation,
            created=from_micros(message.created_unix_us),
            bytes=message.bytes,
            files=message.files,
            rows=message.rows,
            problem=message.problem,
        )


@dataclass(frozen=True)
class SnapshotReport:
    """The outcome of :meth:`Client.verify_snapshot`.

    Attributes:
        snapshot: What was checked.
        sound: There are no problems.
        restorable: Its rows can be restored; segment files that are bad are built again. Of a
            snapshot of the whole store: as a whole, into a data directory of its own; if not, some
            of its collections may be restored all the same.
        problems: What is wrong, with the file.
        bytes_read: Of its files.
        rows: Versions of records, also those that were replaced or deleted.
        keys: Records.
        vectors: Of all rows.
    """

    snapshot: SnapshotInfo
    sound: bool
    restorable: bool
    problems: list[str]
    bytes_read: int
    rows: int
    keys: int
    vectors: int

    @classmethod
    def _from_message(cls, reply: pb_admin.VerifySnapshotResponse) -> SnapshotReport:
        return cls(
            snapshot=SnapshotInfo._from_message(reply.snapshot),
            sound=reply.sound,
            restorable=reply.restorable,
            problems=list(reply.problems),
            bytes_read=reply.bytes_read,
            rows=reply.rows,
            keys=reply.keys,
            vectors=reply.vectors,
        )


@dataclass(frozen=True)
class RestoreResult:
    """The outcome of :meth:`Client.restore_snapshot`.

    Attributes:
        collection: The name of the collection that it made.
        collection_id: Its id, which no collection had before.
        rows: Records.
        as_of: The sequence number of the commit that made it.
        warnings: Segment files that were bad or missing: searches scan their rows until they are
            built again.
    """

    collection: str
    collection_id: int
    rows: int
    as_of: int
    warnings: list[str]

    @classmethod
    def _from_message(cls, reply: pb_admin.RestoreSnapshotResponse) -> RestoreResult:
        return cls(
            collection=reply.collection,
            collection_id=reply.collection_id,
            rows=reply.rows,
            as_of=reply.as_of,
            warnings=list(reply.warnings),
        )
