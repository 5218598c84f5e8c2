"""What the server says of itself."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar

from ._generated.azimuth.v1 import admin_pb2 as pb_admin

__all__ = ["MemoryUse", "ServerInfo", "ServerLimits"]

T = TypeVar("T")


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
class ServerInfo:
    """The server's version, limits and memory.

    Attributes:
        version: Its version.
        limits: The limits that requests are held to.
        memory: Where the memory is.
        unindexed_rows: Rows of all collections that wait for a segment file.
        incarnation: Changes when the data directory gets another history, by a restore.
        as_of: The store's sequence number.
    """

    version: str
    limits: ServerLimits
    memory: MemoryUse
    unindexed_rows: int
    incarnation: int
    as_of: int

    @classmethod
    def _from_message(cls, reply: pb_admin.ServerInfoResponse) -> ServerInfo:
        return cls(
            version=reply.version,
            limits=_read(ServerLimits, reply.limits),
            memory=_read(MemoryUse, reply.memory),
            unindexed_rows=reply.unindexed_rows,
            incarnation=reply.incarnation,
            as_of=reply.as_of,
        )
