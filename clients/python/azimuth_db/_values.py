"""Scalar values, filters and field selections: Python objects to messages and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ._generated.azimuth.v1 import types_pb2 as pb

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


def fill_value(target: pb.Value, value: object, where: str) -> None:
    """Writes a Python value to `target`.

    Takes None, bool, int, float, str, lists, tuples, dicts with string keys, and numpy scalars and
    arrays. `where` names the value in errors. TypeError for anything else; ValueError for an
    integer that 64 bits do not hold.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        target.null_value.SetInParent()
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int):
        if not INT64_MIN <= value <= INT64_MAX:
            raise ValueError(f"{where}: {value} does not fit into a 64-bit signed integer")
        target.int64_value = value
    elif isinstance(value, float):
        target.double_value = value
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, Mapping):
        target.map_value.SetInParent()
        for name, entry in value.items():
            if not isinstance(name, str):
                raise TypeError(f"{where}: names in a map must be str, got {type_name(name)}")
            fill_value(target.map_value.entries[name], entry, f"{where}[{name!r}]")
    elif isinstance(value, (list, tuple, np.ndarray)):
        target.list_value.SetInParent()
        for i, entry in enumerate(value):
            fill_value(target.list_value.values.add(), entry, f"{where}[{i}]")
    else:
        raise TypeError(
            f"{where}: expected None, bool, int, float, str, list or dict, got {type_name(value)}"
        )


def read_value(value: pb.Value) -> Any:
    """Returns the Python value of a message."""
    kind = value.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    if kind == "list_value":
        return [read_value(entry) for entry in value.list_value.values]
    if kind == "map_value":
        return {name: read_value(entry) for name, entry in value.map_value.entries.items()}
    return getattr(value, kind)


def make_filter(expression: str | None, params: Mapping[str, object] | None) -> pb.Filter | None:
    """Returns the filter message, or None when there is no filter."""
    if expression is None:
        if params:
            raise ValueError("params are given without a filter that uses them")
        return None
    if not isinstance(expression, str):
        raise TypeError(f"filter: expected str, got {type_name(expression)}")
    message = pb.Filter(expression=expression)
    for name, value in (params or {}).items():
        fill_value(message.parameters[name], value, f"params[{name!r}]")
    return message


def make_selection(names: Iterable[str] | None) -> pb.FieldSelection | None:
    """Returns the selection message, or None (all fields) for None."""
    return None if names is None else pb.FieldSelection(names=names_of(names, "output_fields"))


def names_of(names: Iterable[str], where: str) -> list[str]:
    """Returns a list of names; refuses a bare string, which would be taken letter by letter."""
    if isinstance(names, str):
        raise TypeError(f"{where}: expected a list of names, got the string {names!r}")
    return list(names)


def type_name(value: object) -> str:
    """Returns the name of a value's type, for error messages."""
    return type(value).__name__
