"""Client of the Azimuth vector database.

    from azimuth_db import Client, VectorField

    with Client("127.0.0.1:7600") as db:
        items = db.create_collection("items", {"image": VectorField(784, "l2")})
        items.insert(keys, vectors, {"label": labels})
        for hit in items.search(query, limit=10, filter="label == $l", params={"l": 3}):
            print(hit.key, hit.distance, hit.fields["label"])

Start at :class:`Client`; :class:`Collection` has the reads and writes.
"""

from importlib.metadata import PackageNotFoundError, version

from .client import Client
from .collection import Collection, FilterWarning
from .errors import (
    Aborted,
    AlreadyExists,
    AzimuthError,
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from .results import (
    BatchResult,
    DeleteResult,
    Hit,
    IngestResult,
    Key,
    QueryResult,
    Record,
    RefusedBatch,
    SearchResult,
    SearchWork,
    UpdateResult,
    WriteResult,
)
from .schema import (
    CollectionInfo,
    CollectionStats,
    CollectionSummary,
    Field,
    OptimizeProgress,
    SegmentStats,
    VectorField,
)
from .server_info import MemoryUse, ServerInfo, ServerLimits, StoreHealth
from .snapshots import RestoreResult, SnapshotInfo, SnapshotReport
from .verify import Finding, VerifyReport

try:
    __version__ = version("azimuth-db")
except PackageNotFoundError:  # Imported from a source tree that is not installed.
    __version__ = "0.0.0"

__all__ = [
    "Aborted",
    "AlreadyExists",
    "AzimuthError",
    "BatchResult",
    "Cancelled",
    "Client",
    "Collection",
    "CollectionInfo",
    "CollectionStats",
    "CollectionSummary",
    "DataLoss",
    "DeadlineExceeded",
    "DeleteResult",
    "FailedPrecondition",
    "Field",
    "FilterWarning",
    "Finding",
    "Hit",
    "IngestResult",
    "Internal",
    "InvalidArgument",
    "Key",
    "MemoryUse",
    "NotFound",
    "OptimizeProgress",
    "PermissionDenied",
    "QueryResult",
    "Record",
    "RefusedBatch",
    "ResourceExhausted",
    "RestoreResult",
    "SearchResult",
    "SearchWork",
    "SegmentStats",
    "ServerInfo",
    "ServerLimits",
    "SnapshotInfo",
    "SnapshotReport",
    "StoreHealth",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "UpdateResult",
    "VectorField",
    "VerifyReport",
    "WriteResult",
    "__version__",
]
