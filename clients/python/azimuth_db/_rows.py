"""Row form: dicts and Records to Record messages."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from ._columns import read_vector
from ._generated.azimuth.v1 import types_pb2 as pb
from ._times import to_micros
from ._values import fill_value, type_name
from .results import Record


def encode_record(
    record: Mapping[str, Any] | Record,
    vector_names: Collection[str],
    field_names: Collection[str],
    where: str,
    keyless: bool = False,
) -> pb.Record:
    """Returns the message of one record; TypeError or ValueError names what is wrong in it.

    It may lack its key if `keyless`, or have None for it. The names are those of the schema.
    "expires_at" and "if_version" in a dict are no fields, unless the schema has them as fields.
    """
    message = pb.Record()
    key: object
    expires_at: object = None
    if_version: object = None
    if isinstance(record, Record):
        key, fields, vectors = record.key, record.fields, record.vectors
        expires_at = record.expires_at
    elif not isinstance(record, Mapping):
        raise TypeError(f"{where}: expected a dict or a Record, got {type_name(record)}")
    elif "key" not in record and not keyless:
        raise ValueError(f"{where}: there is no 'key'")
    else:
        key = record.get("key")
        special = {"key", "expires_at", "if_version"}.difference(vector_names, field_names)
        fields = {n: v for n, v in record.items() if n not in special and n not in vector_names}
        expires_at = record.get("expires_at") if "expires_at" in special else None
        if_version = record.get("if_version") if "if_version" in special else None
        vectors = {n: v for n, v in record.items() if n in vector_names and v is not None}
    if key is not None or not keyless:
        _fill_key(message.key, key, where)
    for name, value in fields.items():
        fill_value(message.fields[name], value, f"{where}[{name!r}]")
    for name, vector in vectors.items():
        floats = read_vector(vector, f"{where}[{name!r}]")
        message.vectors[name].dense.f32 = floats.tobytes()
    if expires_at is not None:
        message.expires_at_unix_us = to_micros(expires_at, f"{where}['expires_at']")
    if if_version is not None:
        message.if_version = read_version(if_version, f"{where}['if_version']")
    return message


def read_version(version: object, where: str) -> int:
    """Returns the version as int; TypeError or ValueError names what is wrong."""
    if isinstance(version, np.generic):
        version = version.item()
    if not isinstance(version, int) or isinstance(version, bool):
        raise TypeError(f"{where}: expected int, got {type_name(version)}")
    if not 0 <= version < 2**64:
        raise ValueError(f"{where}: expected 0 (must not exist) or more, got {version}")
    return version


def _fill_key(target: pb.Key, key: object, where: str) -> None:
    if isinstance(key, np.generic):
        key = key.item()
    if isinstance(key, str):
        target.string_key = key
    elif isinstance(key, int) and not isinstance(key, bool):
        if not -(2**63) <= key < 2**63:
            raise ValueError(f"{where}: key {key} does not fit into a 64-bit signed integer")
        target.int64_key = key
    else:
        raise TypeError(f"{where}: expected an int or str key, got {type_name(key)}")
