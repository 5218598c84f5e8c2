"""What a check of the server's data found."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ._generated.azimuth.v1 import admin_pb2 as pb_admin

__all__ = ["Finding", "VerifyReport"]


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        severity: ``"source"``: rows, keys or vectors are damaged or missing; ``"derived"``:
            something that is made again from them; ``"notice"``: worth a look, but nothing is
            wrong.
        kind: One word that stays the same from version to version, as ``"segment.checksum"``.
        place: The collection, row, key, segment or file.
        message: What was expected and what was found.
    """

    severity: str
    kind: str
    place: str
    message: str


@dataclass(frozen=True)
class VerifyReport:
    """The outcome of :meth:`Client.verify`.

    Attributes:
        sound: There are no findings but notices.
        findings: At most 100 of a kind.
        deep: The content of all rows was compared with that of their segments, not of a sample.
        incarnation: That of the data directory.
        applied_seq: The commit that the store was at when the check began.
        watermark_seq: The last one that was known to be synced.
        collections: That were looked at.
        rows: Versions of records, also those that were replaced or deleted.
        keys: Records.
        vectors: Of all rows.
        retired: Rows that were replaced or deleted and are not yet gone.
        segments: Segment files.
        segment_rows_compared: Rows of segments, with all of their content.
        graph_nodes: Of all graphs.
        unreachable_nodes: Nodes that no walk comes to; some are normal.
        bytes_read: Of segment files.
    """

    sound: bool
    findings: list[Finding]
    deep: bool
    incarnation: int
    applied_seq: int
    watermark_seq: int
    collections: int
    rows: int
    keys: int
    vectors: int
    retired: int
    segments: int
    segment_rows_compared: int
    graph_nodes: int
    unreachable_nodes: int
    bytes_read: int

    @classmethod
    def _from_message(cls, reply: pb_admin.VerifyResponse) -> VerifyReport:
        values = {f.name: getattr(reply, f.name) for f in fields(cls)}
        values["findings"] = [
            Finding(found.severity, found.kind, found.place, found.message)
            for found in reply.findings
        ]
        return cls(**values)
