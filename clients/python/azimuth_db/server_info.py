"""What the server says of itself."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar

from ._generated.azimuth.v1 import admin_pb2 as pb_admin

__all__ = ["MemoryUse", "ServerInfo", "ServerLimits", "StoreHealth"]

T = TypeVar("T")

_STATES = {
    pb_admin.STORE_STATE_WRITABLE: "writable",
    pb_admin.STORE_STATE_DISK_LOW: "disk_low",
    pb_admin.STORE_STATE_FAILED: "failed",
    pb_admin.STORE_STATE_DATA_LOSS: "data_loss",
}


def _read(cls: type[T], message: Any) -> T:
    """Returns the dataclass whose fields have the names of the message's."""
    names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    return cls(**{name: getattr(message, name) for name in names})


@dataclass(frozen=True)
class ServerLimits:
    """The limits that requests are held to.

    Attributes:
        message_bytes: Of one request or reply.
        batch_records: Of one write request.
        record_bytes: Of one record without its vectors.
        dimension: Of a vector field.
        limit: Hits of a search, records of a query.
        ef: Width of a graph search.
        filter_bytes: Of the text of a filter.
        delete_rows: Of one atomic delete by filter; more take several steps.
        unindexed_rows: Of a collection; past it writes are refused until builds have caught up.
        request_memory_us: How long the server remembers a `request_id`, in microseconds.
    """

    message_bytes: int
    batch_records: int
    record_bytes: int
    dimension: int
    limit: int
    ef: int
    filter_bytes: int
    delete_rows: int
    unindexed_rows: int
    request_memory_us: int


@dataclass(frozen=True)
class MemoryUse:
    """Where the server's memory is, in bytes: one budget for all that grows with data or load.

    Attributes:
        budget_bytes: The budget.
        rocks_bytes: What block cache and memtables may take at most.
        growing_bytes: Rows that have no segment file yet.
        build_bytes: What running builds have reserved.
        scratch_bytes: Working memory of reads.
    """

    budget_bytes: int
    rocks_bytes: int
    growing_bytes: int
    build_bytes: int
    scratch_bytes: int


@dataclass(frozen=True)
class StoreHealth:
    """How safe the data is.

    Attributes:
        state: ``"writable"``; ``"disk_low"``: only deletes are taken, until there is room;
            ``"failed"``: read-only after a failed write, the server stops; ``"data_loss"``:
            read-only, since commits that were on disk are missing.
        reason: Why; empty while it is writable.
        synced_seq: Every commit up to this sequence number is on disk.
        watermark_seq: The same, as it is noted outside of the write-ahead log.
        disk_capacity_bytes: Of the disk that holds the data.
        disk_free_bytes: What is free of it.
        disk_floor_bytes: With less free, writes but deletes are refused.
        ballast_bytes: Held, to be given up when the disk is full.
        damaged_rows: Found unreadable since the start.
        segments_set_aside: Bad segment files found since the start; they are built again.
    """

    state: str
    reason: str
    synced_seq: int
    watermark_seq: int
    disk_capacity_bytes: int
    disk_free_bytes: int
    disk_floor_bytes: int
    ballast_bytes: int
    damaged_rows: int
    segments_set_aside: int

    @classmethod
    def _from_message(cls, message: pb_admin.StoreHealth) -> StoreHealth:
        values = {f.name: getattr(message, f.name) for f in fields(cls)}
        values["state"] = _STATES.get(message.state, "unknown")
        return cls(**values)


@dataclass(frozen=True)
class ServerInfo:
    """The server's version, limits and memory.

    Attributes:
        version: Its version.
        limits: The limits that requests are held to.
        memory: Where the memory is.
        unindexed_rows: Rows of all collections that wait for a segment file.
        incarnation: Changes when the data directory gets another history, by a restore.
        as_of: The store's sequence number.
        store: How safe the data is.
    """

    version: str
    limits: ServerLimits
    memory: MemoryUse
    unindexed_rows: int
    incarnation: int
    as_of: int
    store: StoreHealth

    @classmethod
    def _from_message(cls, reply: pb_admin.ServerInfoResponse) -> ServerInfo:
        return cls(
            version=reply.version,
            limits=_read(ServerLimits, reply.limits),
            memory=_read(MemoryUse, reply.memory),
            unindexed_rows=reply.unindexed_rows,
            incarnation=reply.incarnation,
            as_of=reply.as_of,
            store=StoreHealth._from_message(reply.store),
        )
