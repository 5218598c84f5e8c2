"""Errors that the server or the way to it answers with.

Every call may raise :class:`AzimuthError`; its subclasses follow the gRPC status codes, and some
are also the built-in exception that fits, so that ``except KeyError`` or ``except TimeoutError``
work too. Arguments that are wrong by themselves (a one-dimensional array of vectors, a field type
that does not exist) raise plain ``ValueError`` or ``TypeError`` before anything is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from .results import DeleteResult, IngestResult, UpdateResult, WriteResult

__all__ = [
    "Aborted",
    "AlreadyExists",
    "AzimuthError",
    "Cancelled",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "PermissionDenied",
    "ResourceExhausted",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
]


class AzimuthError(Exception):
    """A call that failed.

    Attributes:
        code: The gRPC status code; ``code.name`` is its name.
        message: What was wrong, in the server's words.
        details: What else is known: ``method``, ``address`` and the trailing metadata of the reply.
        partial: For writes that were sent as several requests: what the requests before the failed
            one wrote, and they stay written. None for everything else.
        partial_load: For loads (`ingest`): what they had done before. None for everything else.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        details: Mapping[str, str | bytes] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details: dict[str, str | bytes] = dict(details or {})
        self.partial: WriteResult | UpdateResult | DeleteResult | None = None
        self.partial_load: IngestResult | None = None

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code.name}, {self.message!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return (
            type(self),
            (self.code, self.message, self.details),
            {"partial": self.partial, "partial_load": self.partial_load},
        )


class InvalidArgument(AzimuthError, ValueError):
    """The request is wrong, whatever the state of the database."""


class NotFound(AzimuthError, KeyError):
    """There is no such collection or record."""


class AlreadyExists(AzimuthError):
    """The collection or the key exists already."""


class FailedPrecondition(AzimuthError):
    """The request is refused in the present state of the database."""


class Aborted(AzimuthError):
    """A condition (`if_version`) does not hold, or the request lost a race with another one."""


class ResourceExhausted(AzimuthError):
    """A limit was hit: message size, memory, disk, or rows that wait for their index."""


class Unavailable(AzimuthError, ConnectionError):
    """The server is not there or does not answer. Whether a write took effect is unknown."""


class DeadlineExceeded(AzimuthError, TimeoutError):
    """The call took longer than its timeout. Whether a write took effect is unknown."""


class Cancelled(AzimuthError):
    """The client was closed while the call ran."""


class Unimplemented(AzimuthError, NotImplementedError):
    """The server does not serve this feature."""


class DataLoss(AzimuthError):
    """Stored data is damaged."""


class Internal(AzimuthError):
    """A defect of the server (or a reply that makes no sense)."""


class Unauthenticated(AzimuthError):
    """The server asks for credentials."""


class PermissionDenied(AzimuthError):
    """The credentials do not allow this."""


_BY_CODE: dict[grpc.StatusCode, type[AzimuthError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.OUT_OF_RANGE: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
    grpc.StatusCode.DATA_LOSS: DataLoss,
    grpc.StatusCode.INTERNAL: Internal,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
}


def make_error(
    code: grpc.StatusCode,
    message: str,
    details: Mapping[str, str | bytes] | None = None,
) -> AzimuthError:
    """Returns the exception that fits the status code."""
    return _BY_CODE.get(code, AzimuthError)(code, message, details)
