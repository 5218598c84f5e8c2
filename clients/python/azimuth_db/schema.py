"""What a collection is made of, and what the server says about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from ._generated.azimuth.v1 import collections_pb2 as pb_collections
from ._generated.azimuth.v1 import types_pb2 as pb
from ._values import fill_value, read_value, type_name

__all__ = [
    "CollectionInfo",
    "CollectionStats",
    "CollectionSummary",
    "Field",
    "OptimizeProgress",
    "SegmentStats",
    "VectorField",
]


def _number(enum: EnumTypeWrapper, prefix: str, name: str, where: str) -> Any:
    """Returns the number of enum value `prefix` + NAME; ValueError lists what is allowed."""
    full = prefix + str(name).upper()
    if full not in enum.keys() or full.endswith("_UNSPECIFIED"):  # noqa: SIM118
        names = [_short(prefix, key) for key in enum.keys()]  # noqa: SIM118
        allowed = ", ".join(repr(short) for short in names if short != "unspecified")
        raise ValueError(f"{where}: unknown name {name!r}; allowed are {allowed}")
    return enum.Value(full)


def _name(enum: EnumTypeWrapper, prefix: str, number: int) -> str:
    """Returns the short lower-case name of an enum value, or its number if it is a new one."""
    return _short(prefix, enum.Name(number)) if number in enum.values() else str(number)


def _short(prefix: str, key: str) -> str:
    return key[len(prefix) :].lower()


@dataclass(frozen=True)
class VectorField:
    """A field that holds one dense vector of each record.

    Attributes:
        dim: Numbers in each vector, 1 to 32768.
        metric: ``"l2"`` (squared Euclidean distance), ``"ip"`` (inner product) or ``"cosine"``.
        index: ``"auto"`` (graphs for large segments), ``"flat"`` (always exact scans) or
            ``"hnsw"`` (a graph for every sealed segment).
        m: Links of a graph node per level, 2 to 128; None: the server's default, 16.
        ef_construction: Width of the search while building, 8 to 4096; None: 200.
        quantization: What graphs are walked by; distances in results are always exact. ``"none"``:
            the vectors. Codes, which take less memory and time: ``"sq8"`` (a byte per
            dimension), ``"sq4"`` (4 bits), ``"rabitq4"`` (4 bits after a random rotation) or
            ``"pca4"`` (4 bits for each of the principal components that matter).
            ``"auto"``: what the server measures to cost least.
    """

    dim: int
    metric: str
    index: str = "auto"
    m: int | None = None
    ef_construction: int | None = None
    quantization: str = "auto"

    def _to_message(self, name: str) -> pb_collections.VectorFieldSpec:
        where = f"vectors[{name!r}]"
        index = pb_collections.IndexOptions(
            kind=_number(pb.IndexKind, "INDEX_KIND_", self.index, f"{where}.index"),
            m=self.m,
            ef_construction=self.ef_construction,
            quantization=_number(
                pb.Quantization, "QUANTIZATION_", self.quantization, f"{where}.quantization"
            ),
        )
        return pb_collections.VectorFieldSpec(
            name=name,
            dimension=self.dim,
            metric=_number(pb.Metric, "METRIC_", self.metric, f"{where}.metric"),
            index=index,
        )

    @classmethod
    def _from_message(cls, spec: pb_collections.VectorFieldSpec) -> VectorField:
        index = spec.index
        return cls(
            dim=spec.dimension,
            metric=_name(pb.Metric, "METRIC_", spec.metric),
            index=_name(pb.IndexKind, "INDEX_KIND_", index.kind),
            m=index.m if index.HasField("m") else None,
            ef_construction=index.ef_construction if index.HasField("ef_construction") else None,
            quantization=_name(pb.Quantization, "QUANTIZATION_", index.quantization),
        )


@dataclass(frozen=True)
class Field:
    """A declared scalar field.

    Attributes:
        type: ``"bool"``, ``"int64"``, ``"double"`` or ``"string"``.
        nullable: Whether a record may hold null or lack the field.
        default: The value of records that lack the field; None: there is no default.
    """

    type: str
    nullable: bool = True
    default: bool | int | float | str | None = None

    def _to_message(self, name: str) -> pb_collections.FieldSpec:
        where = f"fields[{name!r}]"
        spec = pb_collections.FieldSpec(
            name=name,
            type=_number(pb.FieldType, "FIELD_TYPE_", self.type, f"{where}.type"),
            nullable=self.nullable,
        )
        if self.default is not None:
            fill_value(spec.default_value, self.default, f"{where}.default")
        return spec

    @classmethod
    def _from_message(cls, spec: pb_collections.FieldSpec) -> Field:
        return cls(
            type=_name(pb.FieldType, "FIELD_TYPE_", spec.type),
            nullable=spec.nullable if spec.HasField("nullable") else True,
            default=read_value(spec.default_value) if spec.HasField("default_value") else None,
        )


def make_schema(
    vectors: Mapping[str, VectorField],
    fields: Mapping[str, str | Field] | None,
    key_type: str,
    dynamic: bool,
    ttl_seconds: int = 0,
    auto_id: bool = False,
) -> pb_collections.CollectionSchema:
    """Returns the schema message of a new collection."""
    schema = pb_collections.CollectionSchema(
        key_type=_number(pb.KeyType, "KEY_TYPE_", key_type, "key_type"),
        dynamic=dynamic,
        ttl_seconds=ttl_seconds,
        auto_id=auto_id,
    )
    if not isinstance(vectors, Mapping):
        raise TypeError(f"vectors: expected a dict of VectorField, got {type_name(vectors)}")
    for name, vector in vectors.items():
        if not isinstance(vector, VectorField):
            raise TypeError(f"vectors[{name!r}]: expected VectorField, got {type_name(vector)}")
        schema.vectors.append(vector._to_message(name))
    for name, spec in (fields or {}).items():
        declared = Field(spec) if isinstance(spec, str) else spec
        if not isinstance(declared, Field):
            raise TypeError(f"fields[{name!r}]: expected str or Field, got {type_name(spec)}")
        schema.fields.append(declared._to_message(name))
    return schema


@dataclass(frozen=True)
class CollectionInfo:
    """The schema of a collection with all defaults filled in.

    `ttl_seconds` is how long a record lives that does not say when it ends; 0: for ever. With
    `auto_id` the server makes the keys.
    """

    name: str
    id: int
    key_type: str
    vectors: dict[str, VectorField]
    fields: dict[str, Field]
    dynamic: bool
    created_at: datetime
    ttl_seconds: int = 0
    auto_id: bool = False

    @classmethod
    def _from_message(cls, reply: pb_collections.DescribeCollectionResponse) -> CollectionInfo:
        schema = reply.schema
        return cls(
            name=reply.collection,
            id=reply.collection_id,
            key_type=_name(pb.KeyType, "KEY_TYPE_", schema.key_type),
            vectors={spec.name: VectorField._from_message(spec) for spec in schema.vectors},
            fields={spec.name: Field._from_message(spec) for spec in schema.fields},
            dynamic=schema.dynamic if schema.HasField("dynamic") else True,
            created_at=datetime.fromtimestamp(reply.created_unix_us / 1e6, tz=timezone.utc),
            ttl_seconds=schema.ttl_seconds,
            auto_id=schema.auto_id,
        )


@dataclass(frozen=True)
class CollectionSummary:
    """One line of the list of collections."""

    name: str
    id: int
    row_count: int


@dataclass(frozen=True)
class SegmentStats:
    """Counts and sizes of one segment.

    Attributes:
        id: 0 for segments that have no file yet.
        state: ``"growing"``, ``"building"`` or ``"sealed"``.
        rows: Rows it holds, retired ones too.
        retired_rows: Rows that were replaced or deleted since.
        file_bytes: Size of its file.
        memory_bytes: Memory that is not backed by its file.
        vectors_bytes: Of the file, vectors in full precision.
        codes_bytes: Of the file, the codes that graphs are walked by.
        graph_bytes: Of the file, graphs.
        columns_bytes: Of the file, keys and fields, and all that says where rows are.
        quantization: By vector field, what its graph is walked by: ``"none"``, ``"sq8"``,
            ``"sq4"``, ``"rabitq4"`` or ``"pca4"``; fields without a graph here are missing.
    """

    id: int
    state: str
    rows: int
    retired_rows: int
    file_bytes: int
    memory_bytes: int
    vectors_bytes: int = 0
    codes_bytes: int = 0
    graph_bytes: int = 0
    columns_bytes: int = 0
    quantization: dict[str, str] = field(default_factory=dict)

    @classmethod
    def _from_message(cls, segment: pb_collections.SegmentStats) -> SegmentStats:
        return cls(
            id=segment.segment_id,
            state=_name(pb_collections.SegmentState, "SEGMENT_STATE_", segment.state),
            rows=segment.rows,
            retired_rows=segment.retired_rows,
            file_bytes=segment.file_bytes,
            memory_bytes=segment.memory_bytes,
            vectors_bytes=segment.vectors_bytes,
            codes_bytes=segment.codes_bytes,
            graph_bytes=segment.graph_bytes,
            columns_bytes=segment.columns_bytes,
            quantization={
                vectors.field: _name(pb.Quantization, "QUANTIZATION_", vectors.quantization)
                for vectors in segment.vectors
                if vectors.quantization != pb.QUANTIZATION_UNSPECIFIED
            },
        )


@dataclass(frozen=True)
class OptimizeProgress:
    """How far an optimize has come.

    Attributes:
        segments: Segments of the collection now.
        rows_waiting: Rows in segments that are still to be built or merged.
        rows: Rows in all segments.
        done: Whether this is the end.
        error: Why the last build failed, if it did; it is tried again.
        as_of: The sequence number that the numbers belong to.
    """

    segments: int
    rows_waiting: int
    rows: int
    done: bool
    error: str = ""
    as_of: int = 0

    @classmethod
    def _from_message(cls, reply: pb_collections.OptimizeResponse) -> OptimizeProgress:
        return cls(
            segments=reply.segments,
            rows_waiting=reply.rows_waiting,
            rows=reply.rows,
            done=reply.done,
            error=reply.error,
            as_of=reply.as_of,
        )


@dataclass(frozen=True)
class CollectionStats:
    """Counts and sizes of a collection.

    Attributes:
        row_count: Live records at `as_of`.
        unindexed_rows: Rows that wait for a segment file; 0 once all are sealed.
        segments: The segments that hold them.
        as_of: The sequence number that the counts belong to.
        index_error: Why the last background build failed; empty when it did not.
    """

    row_count: int
    unindexed_rows: int
    segments: tuple[SegmentStats, ...] = field(repr=False)
    as_of: int = 0
    index_error: str = ""

    @classmethod
    def _from_message(cls, reply: pb_collections.CollectionStatsResponse) -> CollectionStats:
        return cls(
            row_count=reply.row_count,
            unindexed_rows=reply.unindexed_rows,
            segments=tuple(map(SegmentStats._from_message, reply.segments)),
            as_of=reply.as_of,
            index_error=reply.index_error,
        )
