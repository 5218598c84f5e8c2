"""Row form: dicts and Records to Record messages."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from ._columns import read_vector
from ._generated.azimuth.v1 import types_pb2 as pb
from ._values import fill_value, type_name
from .results import Record


def encode_record(
    record: Mapping[str, Any] | Record, vector_names: Collection[str], where: str
) -> pb.Record:
    """Returns the message of one record; TypeError or ValueError names what is wrong in it."""
    message = pb.Record()
    if isinstance(record, Record):
        key, fields, vectors = record.key, record.fields, record.vectors
    elif not isinstance(record, Mapping):
        raise TypeError(f"{where}: expected a dict or a Record, got {type_name(record)}")
    elif "key" not in record:
        raise ValueError(f"{where}: there is no 'key'")
    else:
        key = record["key"]
        fields = {n: v for n, v in record.items() if n != "key" and n not in vector_names}
        vectors = {n: v for n, v in record.items() if n in vector_names and v is not None}
    _fill_key(message.key, key, where)
    for name, value in fields.items():
        fill_value(message.fields[name], value, f"{where}[{name!r}]")
    for name, vector in vectors.items():
        floats = read_vector(vector, f"{where}[{name!r}]")
        message.vectors[name].dense.f32 = floats.tobytes()
    return message


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
