"""Column form: arrays to RecordColumns messages, cut into requests of bounded size, and back.

Arrays stay arrays until the request that carries their rows is made, so that a large batch is
never held twice. Whatever can be wrong without asking the server (shapes, lengths, types) is found
by the constructors, before the first request.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

import numpy as np
import numpy.typing as npt

from ._generated.azimuth.v1 import types_pb2 as pb
from ._times import to_micros_column
from ._values import INT64_MAX, INT64_MIN, fill_value, read_value, type_name

# Half of what the server accepts, so that estimates may be off.
REQUEST_BYTES_MAX = 32 * 1024 * 1024
REQUEST_ROWS_MAX = 100_000

# Bytes of one entry on the wire, at most: 64-bit integers are varints.
_ENTRY_BYTES = {"bools": 1, "int64s": 10, "doubles": 8}

# The column that holds values of a type, and what stands in the place of an absent one.
_COLUMN_OF_TYPE: dict[type | None, tuple[str, object]] = {
    bool: ("bools", False),
    int: ("int64s", 0),
    float: ("doubles", 0.0),
    str: ("strings", ""),
}

Array = npt.NDArray[Any]

# Why a column must have so many rows.
ONE_PER_KEY = "one per key"


class Keys:
    """Keys of one type: 64-bit integers or strings. ``len()`` is their number."""

    def __init__(self, keys: object, where: str = "keys") -> None:
        """Reads an array or a sequence of keys; TypeError or ValueError names what is wrong."""
        self._values: Array | list[Any]
        if isinstance(keys, (str, bytes)) or not isinstance(keys, Iterable):
            raise TypeError(f"{where}: expected an array or a list of keys, got {keys!r}")
        if isinstance(keys, np.ma.MaskedArray):
            raise TypeError(f"{where}: a masked array has no place for keys")
        array = _as_array(keys)
        if array is not None and array.ndim != 1:
            raise ValueError(f"{where}: expected a 1-D array, got shape {array.shape}")
        if array is not None and array.dtype.kind in "iu":
            self.is_string = False
            self._values = array
            if array.dtype.kind == "u" and array.size:
                _check_int64(int(array.max()), where)
            return
        values = array.tolist() if array is not None else list(keys)
        kinds = set(map(type, values))
        if any(issubclass(kind, np.generic) for kind in kinds):
            values = [v.item() if isinstance(v, np.generic) else v for v in values]
            kinds = set(map(type, values))
        if not kinds <= {int} and not kinds <= {str}:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise TypeError(f"{where}: keys must be all int or all str, got {names}")
        self.is_string = kinds == {str}
        self._values = values
        if kinds == {int}:
            _check_int64(min(values), where)
            _check_int64(max(values), where)

    def __len__(self) -> int:
        return len(self._values)

    def to_list(self) -> list[Any]:
        """Returns the keys as int or str."""
        return self._values.tolist() if isinstance(self._values, np.ndarray) else self._values

    def sizes(self) -> int | Array:
        """Returns bytes per row on the wire: one number for all, or one for each."""
        return _string_sizes(self._values) if self.is_string else _ENTRY_BYTES["int64s"]

    def message(self, start: int = 0, stop: int | None = None) -> pb.KeyList:
        """Returns the keys from `start` to before `stop`."""
        values = _to_list(self._values[start:stop])
        if self.is_string:
            return pb.KeyList(string_keys=pb.StringList(values=values))
        return pb.KeyList(int64_keys=pb.Int64List(values=values))


class FieldValues:
    """The values of one scalar field for many rows."""

    def __init__(self, name: str, data: object, rows: int, why: str = ONE_PER_KEY) -> None:
        """Reads an array or a sequence of `rows` values; None (or a masked entry) is absent.

        `why` says where that number comes from.
        """
        where = f"fields[{name!r}]"
        self._name = name
        self._present: Array | None = None
        if isinstance(data, np.ma.MaskedArray):
            self._present = ~np.ma.getmaskarray(data)
            data = data.data
        array = _as_array(data)
        self._values: Array | list[Any]
        if array is None:
            if isinstance(data, (str, bytes)) or not isinstance(data, Iterable):
                raise TypeError(f"{where}: expected an array or a list, got {type_name(data)}")
            self._read_objects(list(data), where)
        elif array.ndim != 1:
            raise ValueError(f"{where}: expected a 1-D array, got shape {array.shape}")
        elif array.dtype.kind == "O":
            self._read_objects(array.tolist(), where)
        else:
            self._kind, self._values = _read_typed(array, where)
        if len(self._values) != rows:
            raise ValueError(f"{where}: expected {rows} values, {why}, got {len(self)}")
        if self._present is not None and self._present.all():
            self._present = None

    def __len__(self) -> int:
        return len(self._values)

    def _read_objects(self, values: list[Any], where: str) -> None:
        """Finds one type for all values that are present, or turns each into a Value message."""
        if self._present is not None:
            values = [v if here else None for v, here in zip(values, self._present.tolist())]
        self._present = np.fromiter((v is not None for v in values), bool, len(values))
        kinds = set(map(type, values)) - {type(None)}
        if any(issubclass(kind, np.generic) for kind in kinds):
            values = [v.item() if isinstance(v, np.generic) else v for v in values]
            kinds = set(map(type, values)) - {type(None)}
        only = next(iter(kinds)) if len(kinds) == 1 else None
        if only in _COLUMN_OF_TYPE:
            self._kind, filler = _COLUMN_OF_TYPE[only]
            self._values = [filler if v is None else v for v in values]
            if only is int and self._values:
                _check_int64(min(self._values), where)
                _check_int64(max(self._values), where)
            return
        self._kind = "any"
        self._values = [pb.Value() for _ in values]
        for i, (message, value) in enumerate(zip(self._values, values)):
            fill_value(message, value, f"{where}[{i}]")

    def sizes(self) -> int | Array:
        """Returns bytes per row on the wire: one number for all, or one for each."""
        if self._kind == "strings":
            return _string_sizes(self._values)
        if self._kind == "any":
            sizes = (value.ByteSize() + 6 for value in self._values)
            return np.fromiter(sizes, np.int64, len(self._values))
        return _ENTRY_BYTES[self._kind]

    def message(self, start: int, stop: int) -> pb.FieldColumn:
        """Returns the values from `start` to before `stop`."""
        column = pb.FieldColumn(name=self._name, present=_bitmap(self._present, start, stop))
        target = getattr(column, self._kind)
        target.SetInParent()
        target.values.extend(_to_list(self._values[start:stop]))
        return column


class VectorValues:
    """The vectors of one field for many rows."""

    def __init__(self, name: str, data: object, rows: int, why: str = ONE_PER_KEY) -> None:
        """Reads `rows` vectors; a None in a list is a row without one. `why`: as above."""
        where = f"vectors[{name!r}]"
        self._name = name
        self._present: Array | None = None
        vectors: Sequence[Any] = []
        if isinstance(data, (list, tuple)) or (
            isinstance(data, np.ndarray) and data.dtype.kind == "O" and data.ndim == 1
        ):
            vectors = [v for v in data if v is not None]
            if len(vectors) != len(data):
                self._present = np.fromiter((v is not None for v in data), bool, len(data))
            elif isinstance(data, np.ndarray):
                data = vectors
        if self._present is None:
            self._array = _read_matrix(data, where)
        elif not vectors:
            self._array = np.zeros((len(self._present), 0), "<f4")
        else:
            dense = _read_matrix(vectors, where)
            self._array = np.zeros((len(self._present), dense.shape[1]), "<f4")
            self._array[self._present] = to_float32(dense)
        if len(self._array) != rows:
            raise ValueError(
                f"{where}: expected {rows} vectors, {why}, got shape {self._array.shape}"
            )

    @property
    def empty(self) -> bool:
        """Whether no row has a vector, so that the field is best left out."""
        return self._present is not None and not bool(self._present.any())

    def sizes(self) -> int:
        """Returns bytes per row on the wire."""
        return 4 * int(self._array.shape[1])

    def message(self, start: int, stop: int) -> pb.VectorColumn:
        """Returns the vectors from `start` to before `stop`, converted."""
        return pb.VectorColumn(
            name=self._name,
            f32=to_float32(self._array[start:stop]).tobytes(),
            present=_bitmap(self._present, start, stop),
        )


class Batch:
    """Records in column form, ready to be sent in parts."""

    def __init__(
        self,
        keys: object,
        vectors: Mapping[str, object],
        fields: Mapping[str, object],
        expires_at: object = None,
    ) -> None:
        """Reads and checks all columns; see the three classes above, and to_micros_column.

        With no keys (None) the first column says how many rows there are.
        """
        self.keys = None if keys is None else Keys(keys)
        columns = [*vectors.values(), *fields.values()]
        rows = _rows_of(columns) if self.keys is None else len(self.keys)
        why = ONE_PER_KEY if self.keys is not None else "as many as the first column has"
        self._rows = rows
        self._fields = [FieldValues(name, data, rows, why) for name, data in fields.items()]
        read = [VectorValues(name, data, rows, why) for name, data in vectors.items()]
        self._vectors = [column for column in read if not column.empty]
        self._expires: Array | None = None
        if expires_at is not None:
            self._expires = to_micros_column(expires_at, rows, "expires_at")

    def __len__(self) -> int:
        return self._rows

    def parts(self) -> Iterator[tuple[int, int]]:
        """Yields the row ranges (from, to before) of the requests."""
        sizes = [f.sizes() for f in self._fields]
        sizes += [self.keys.sizes()] if self.keys is not None else []
        sizes += [v.sizes() for v in self._vectors]
        sizes += [_ENTRY_BYTES["int64s"]] if self._expires is not None else []
        return cut(len(self), sizes)

    def message(self, start: int, stop: int) -> pb.RecordColumns:
        """Returns the rows from `start` to before `stop`."""
        return pb.RecordColumns(
            keys=None if self.keys is None else self.keys.message(start, stop),
            count=stop - start if self.keys is None else 0,
            fields=[column.message(start, stop) for column in self._fields],
            vectors=[column.message(start, stop) for column in self._vectors],
            expires_at_unix_us=None
            if self._expires is None
            else self._expires[start:stop].tolist(),
        )


def cut(
    rows: int,
    sizes: Iterable[int | Array],
    bytes_max: int | None = None,
    rows_max: int | None = None,
) -> Iterator[tuple[int, int]]:
    """Yields ranges of rows, each of at most `rows_max` rows and `bytes_max` bytes.

    `sizes` are bytes per row that add up. A row that is larger than a request goes alone: whether
    it is too large is for the server to say. The limits default to those of a request.
    """
    bytes_max = REQUEST_BYTES_MAX if bytes_max is None else bytes_max
    rows_max = REQUEST_ROWS_MAX if rows_max is None else rows_max
    per_row = np.zeros(rows, np.int64)
    for size in sizes:
        per_row += size
    ends = np.cumsum(per_row)
    start = 0
    while start < rows:
        before = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, before + bytes_max, side="right"))
        stop = min(max(stop, start + 1), start + rows_max, rows)
        yield start, stop
        start = stop


def to_float32(array: Array) -> npt.NDArray[np.float32]:
    """Returns the array as little-endian float32 in C order; the same one if it is that already."""
    with np.errstate(over="ignore", invalid="ignore"):  # The server refuses infinities by name.
        return np.ascontiguousarray(array, dtype="<f4")


def read_vector(data: object, where: str) -> npt.NDArray[np.float32]:
    """Returns one vector as float32; ValueError names the shape if it is not one."""
    return to_float32(_read_numbers(data, where, 1, "a 1-D array, one vector"))


def read_query_matrix(data: object, where: str) -> Array:
    """Returns a matrix of query vectors, not yet converted."""
    return _read_matrix(data, where)


def decode_field(column: pb.FieldColumn) -> tuple[list[Any], list[bool] | None]:
    """Returns the values of a column, and for each row whether it has one (None: all have)."""
    kind = column.WhichOneof("values")
    entries = getattr(column, kind).values if kind else []
    values = [read_value(entry) for entry in entries] if kind == "any" else list(entries)
    return values, decode_bitmap(column.present, len(values))


def decode_vectors(
    column: pb.VectorColumn, rows: int
) -> tuple[npt.NDArray[np.float32], list[bool] | None]:
    """Returns the vectors of a column, rows x dimension, and which rows have one."""
    matrix = np.frombuffer(column.f32, "<f4").reshape(rows, -1 if rows else 0)
    return matrix, decode_bitmap(column.present, rows)


def decode_bitmap(present: bytes, rows: int) -> list[bool] | None:
    """Returns for each row whether it is present; None when all are."""
    if not present:
        return None
    bits = np.unpackbits(np.frombuffer(present, np.uint8), bitorder="little", count=rows)
    flags: list[bool] = bits.astype(bool).tolist()
    return flags


def _rows_of(columns: list[object]) -> int:
    """Returns how many rows the first column has; 0 if none can be one, as its reader will say."""
    wrong = 0
    for column in columns:
        # Of an array without dimensions there is no length, and a string is one value.
        if isinstance(column, (str, bytes)) or getattr(column, "ndim", 1) == 0:
            wrong += 1
        elif isinstance(column, Sized):
            return len(column)
    if columns and wrong == len(columns):
        return 0
    raise ValueError("keys: none are given, nor a column that would say how many records there are")


def decode_keys(keys: pb.KeyList) -> npt.NDArray[np.int64]:
    """Returns keys that the server made."""
    return np.array(keys.int64_keys.values, np.int64)


def _as_array(data: object) -> Array | None:
    """Returns arrays and what offers itself as one (pandas, torch); None for plain Python."""
    if isinstance(data, np.ndarray):
        return data
    return np.asarray(data) if hasattr(data, "__array__") else None


def _to_list(values: Array | list[Any]) -> list[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else values


def _bitmap(present: Array | None, start: int, stop: int) -> bytes:
    if present is None or present[start:stop].all():
        return b""
    return np.packbits(present[start:stop], bitorder="little").tobytes()


def _string_sizes(values: Array | list[Any]) -> Array:
    encoded = map(str.encode, _to_list(values))
    return np.fromiter(map(len, encoded), np.int64, len(values)) + 6  # Tag and length.


def _check_int64(value: int, where: str) -> None:
    if not INT64_MIN <= value <= INT64_MAX:
        raise ValueError(f"{where}: {value} does not fit into a 64-bit signed integer")


def _read_typed(array: Array, where: str) -> tuple[str, Array | list[Any]]:
    """Returns the kind of column that holds an array of a plain type, and its values."""
    kind = array.dtype.kind
    if kind == "b":
        return "bools", array
    if kind == "U":
        return "strings", array.tolist()
    if kind == "f":
        return "doubles", array.astype(np.float64, copy=False)
    if kind not in "iu":
        raise TypeError(
            f"{where}: expected bool, integer, float or string, got dtype {array.dtype}"
        )
    if kind == "u" and array.size:
        _check_int64(int(array.max()), where)
    return "int64s", array


def _read_matrix(data: object, where: str) -> Array:
    return _read_numbers(data, where, 2, "a 2-D array, rows x dimension")


def _read_numbers(data: object, where: str, ndim: int, expected: str) -> Array:
    """Returns an array of real numbers with `ndim` dimensions, of any type that converts."""
    if isinstance(data, np.ma.MaskedArray):
        raise ValueError(f"{where}: a masked array; use None in a list for a missing vector")
    try:
        array = np.asarray(data)
    except ValueError as error:  # numpy's word for it is "inhomogeneous shape".
        raise ValueError(f"{where}: expected {expected}, got rows that differ in length") from error
    if array.dtype.kind == "O":
        raise ValueError(f"{where}: expected {expected}, got objects of shape {array.shape}")
    if array.ndim != ndim:
        raise ValueError(f"{where}: expected {expected}, got shape {array.shape}")
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise TypeError(f"{where}: expected real numbers, got dtype {array.dtype}")
    return array
