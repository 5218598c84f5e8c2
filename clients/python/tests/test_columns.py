"""Arrays to column messages: types, absent values, shapes, and where batches are cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from azimuth_db._columns import (
    Batch,
    FieldValues,
    Keys,
    VectorValues,
    cut,
    decode_bitmap,
    decode_field,
    decode_vectors,
    read_vector,
    to_float32,
)
from azimuth_db._generated.azimuth.v1 import types_pb2 as pb
from azimuth_db._values import fill_value, read_value


def round_trip(data: Any, rows: int) -> tuple[str, list[Any]]:
    """Returns the kind of column made of `data`, and its values with None where absent."""
    column = FieldValues("f", data, rows).message(0, rows)
    values, present = decode_field(pb.FieldColumn.FromString(column.SerializeToString()))
    if present is not None:
        values = [value if here else None for value, here in zip(values, present)]
    return column.WhichOneof("values") or "", values


@pytest.mark.parametrize(
    ("data", "kind", "values"),
    [
        (np.array([True, False]), "bools", [True, False]),
        (np.array([1, -2], np.int8), "int64s", [1, -2]),
        (np.array([1, 2**63 - 1], np.uint64), "int64s", [1, 2**63 - 1]),
        (np.array([0.5, 2.0], np.float32), "doubles", [0.5, 2.0]),
        (np.array(["a", "bé"]), "strings", ["a", "bé"]),
        (np.array([1, None], object), "int64s", [1, None]),
        (np.ma.masked_array([7, 8], mask=[True, False]), "int64s", [None, 8]),
        (np.ma.masked_array(["a", "b"], mask=[False, True]), "strings", ["a", None]),
        (np.ma.masked_array(np.array(["a", 3], object), mask=[True, False]), "int64s", [None, 3]),
        ([True, None], "bools", [True, None]),
        ([None, -(2**63)], "int64s", [None, -(2**63)]),
        ([0.25, None], "doubles", [0.25, None]),
        ([None, "x"], "strings", [None, "x"]),
        ([np.int64(3), 4], "int64s", [3, 4]),
        ([1, 2.5], "any", [1, 2.5]),
        ([True, 1], "any", [True, 1]),
        ([None, None], "any", [None, None]),
        ([{"a": [1, None]}, ["x"]], "any", [{"a": [1, None]}, ["x"]]),
        (range(2), "int64s", [0, 1]),
        ((i for i in (5, 6)), "int64s", [5, 6]),
    ],
)
def test_field_becomes_column_of_its_type(data: Any, kind: str, values: list[Any]) -> None:
    got_kind, got = round_trip(data, len(values))
    assert got_kind == kind
    assert got == values
    assert [type(value) for value in got] == [type(value) for value in values]


def test_present_bitmap_is_little_endian_in_bits_and_cut_with_the_rows() -> None:
    values = [None if i % 3 == 0 else i for i in range(20)]
    column = FieldValues("f", values, 20)
    assert column.message(0, 20).present == bytes([0b10110110, 0b01101101, 0b1011])
    assert column.message(1, 3).present == b""
    assert column.message(3, 6).present == bytes([0b110])
    assert decode_bitmap(bytes([0b110]), 3) == [False, True, True]
    assert decode_bitmap(b"", 3) is None


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (np.zeros((2, 2)), ValueError, r"fields\['f'\].*1-D.*\(2, 2\)"),
        ([1, 2, 3], ValueError, r"fields\['f'\]: expected 2 values, one per key, got 3"),
        (np.array([2**63, 1], np.uint64), ValueError, "9223372036854775808 does not fit"),
        ([2**63, 1], ValueError, "9223372036854775808 does not fit"),
        (np.array([1j, 2]), TypeError, "complex128"),
        (np.array(["2020-01-01", "2020-01-02"], "datetime64[D]"), TypeError, "datetime64"),
        (["a", b"b"], TypeError, r"fields\['f'\]\[1\]: .*got bytes"),
        ("ab", TypeError, "expected an array or a list, got str"),
        (7, TypeError, "expected an array or a list, got int"),
        ([{1: 2}, None], TypeError, "names in a map must be str, got int"),
    ],
)
def test_bad_field_is_named_before_anything_is_sent(
    data: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        FieldValues("f", data, 2)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (np.arange(3, dtype=np.uint16), [0, 1, 2]),
        (range(3), [0, 1, 2]),
        ([np.int64(1), 2, 3], [1, 2, 3]),
        (np.array(["a", "b", "ç"]), ["a", "b", "ç"]),
        (np.array(["a", "b", "c"], object), ["a", "b", "c"]),
        (("a", "b", "c"), ["a", "b", "c"]),
    ],
)
def test_keys_keep_their_type(keys: Any, expected: list[Any]) -> None:
    read = Keys(keys)
    kind = "string_keys" if isinstance(expected[0], str) else "int64_keys"
    assert read.to_list() == expected
    assert read.message().WhichOneof("kind") == kind
    assert list(getattr(read.message(1, 3), kind).values) == expected[1:]


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ("abc", TypeError, "expected an array or a list of keys, got 'abc'"),
        (5, TypeError, "expected an array or a list of keys, got 5"),
        ([1, "a"], TypeError, "keys must be all int or all str, got int, str"),
        ([1, None], TypeError, "got NoneType, int"),
        ([True], TypeError, "got bool"),
        ([1.0], TypeError, "got float"),
        (np.array([0.5]), TypeError, "got float"),
        (np.zeros((2, 1), int), ValueError, r"1-D array, got shape \(2, 1\)"),
        ([2**63], ValueError, "does not fit"),
        (np.array([2**63], np.uint64), ValueError, "does not fit"),
        (np.ma.masked_array([1], mask=[True]), TypeError, "masked"),
    ],
)
def test_bad_keys_are_refused(keys: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Keys(keys)


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f4", "f8", "u1", "i8", "?"])
def test_vectors_of_any_real_type_become_little_endian_float32(dtype: str) -> None:
    matrix = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    column = VectorValues("v", matrix, 2).message(0, 2)
    assert column.f32 == np.array([0, 1, 1, 1, 0, 1], "<f4").tobytes()
    assert column.present == b""


def test_vectors_are_written_row_after_row_whatever_their_layout() -> None:
    matrix = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    expected = np.arange(12, dtype="<f4").tobytes()
    assert VectorValues("v", matrix, 3).message(0, 3).f32 == expected
    assert VectorValues("v", matrix, 3).message(1, 2).f32 == expected[16:32]


def test_float32_is_not_copied() -> None:
    matrix = np.ones((2, 3), np.float32)
    assert to_float32(matrix) is matrix


def test_none_among_vectors_is_a_row_without_one() -> None:
    column = VectorValues("v", [[1, 2], None, np.array([3, 4])], 3).message(0, 3)
    assert column.present == bytes([0b101])
    matrix, present = decode_vectors(column, 3)
    assert present == [True, False, True]
    assert matrix[[0, 2]].tolist() == [[1, 2], [3, 4]]


def test_vector_field_that_no_row_has_is_left_out() -> None:
    batch = Batch([1, 2], {"v": [None, None]}, {})
    assert list(batch.message(0, 2).vectors) == []


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (np.zeros(784), ValueError, r"vectors\['v'\]: expected a 2-D array.*shape \(784,\)"),
        (np.zeros((2, 3, 4)), ValueError, r"vectors\['v'\].*shape \(2, 3, 4\)"),
        (np.zeros((3, 4)), ValueError, r"expected 2 vectors, one per key, got shape \(3, 4\)"),
        ([[1, 2], [3]], ValueError, r"vectors\['v'\].*rows that differ in length"),
        ([["a"], ["b"]], TypeError, r"vectors\['v'\]: expected real numbers"),
        (np.zeros((2, 2), complex), TypeError, "complex128"),
        (np.ma.masked_array(np.zeros((2, 2)), mask=True), ValueError, "masked array"),
        ([None, [None]], ValueError, "got objects"),
    ],
)
def test_bad_vectors_are_named_before_anything_is_sent(
    data: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        VectorValues("v", data, 2)


@pytest.mark.parametrize(
    ("vectors", "fields", "error", "message"),
    [
        (
            {},
            {"f": np.array(5)},
            ValueError,
            r"fields\['f'\]: expected a 1-D array, got shape \(\)",
        ),
        ({}, {"f": np.float64(5)}, ValueError, r"fields\['f'\]: expected a 1-D array"),
        ({"v": np.array(5.0)}, {}, ValueError, r"vectors\['v'\]: expected a 2-D.*shape \(\)"),
        ({}, {"f": np.array(5), "g": [1, 2]}, ValueError, r"fields\['f'\]: expected a 1-D array"),
        ({}, {"f": "abc"}, TypeError, r"fields\['f'\]: expected an array or a list, got str"),
        ({}, {"f": [1, 2], "g": "ab"}, TypeError, r"fields\['g'\].*got str"),
        ({"v": "abc"}, {"f": [1, 2]}, ValueError, r"vectors\['v'\]: expected a 2-D"),
        (
            {},
            {"f": [1, 2], "g": [1]},
            ValueError,
            r"fields\['g'\]: expected 2 values, as many as the first column has, got 1",
        ),
        (
            {"v": np.eye(2), "w": np.eye(3)},
            {},
            ValueError,
            r"vectors\['w'\]: expected 2 vectors, as many as the first column has, got shape",
        ),
        ({}, {"f": iter([1])}, ValueError, "keys: none are given, nor a column"),
        ({}, {"f": 7}, ValueError, "keys: none are given, nor a column"),
    ],
)
def test_without_keys_a_wrong_column_is_named(
    vectors: Any, fields: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Batch(None, vectors, fields)


def test_keys_without_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"keys: expected a 1-D array, got shape \(\)"):
        Batch(np.array(5), {}, {})


def test_one_vector_must_be_flat() -> None:
    with pytest.raises(ValueError, match=r"query: expected a 1-D array.*shape \(1, 4\)"):
        read_vector(np.zeros((1, 4)), "query")


def test_values_too_large_for_float32_become_infinite_without_a_warning() -> None:
    assert np.isinf(read_vector([1e300, 0], "query")[0])


def test_batches_are_cut_by_rows_and_by_bytes() -> None:
    assert list(cut(250_000, [8])) == [(0, 100_000), (100_000, 200_000), (200_000, 250_000)]
    assert list(cut(10, [3, 4], bytes_max=21, rows_max=100)) == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert list(cut(0, [8])) == []


def test_batches_are_cut_by_the_size_of_each_row() -> None:
    sizes = np.array([5, 5, 1, 30, 2, 2])
    assert list(cut(6, [sizes], bytes_max=10, rows_max=100)) == [(0, 2), (2, 3), (3, 4), (4, 6)]


def test_no_request_of_a_batch_is_larger_than_promised() -> None:
    rows = 40
    batch = Batch(
        [f"key-{i}" for i in range(rows)],
        {"v": np.zeros((rows, 16 * 1024), np.float64)},
        {"text": ["é" * 1_000_000] * rows, "any": [[i, "x" * 500_000] for i in range(rows)]},
    )
    parts = list(batch.parts())
    assert [start for start, _ in parts] == [0] + [stop for _, stop in parts[:-1]]
    assert parts[-1][1] == rows
    sizes = [batch.message(*part).ByteSize() for part in parts]
    assert max(sizes) <= 32 * 1024 * 1024
    assert min(sizes[:-1]) > 28 * 1024 * 1024


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -(2**63), 1.5, "", "é", [], {}, [1, [None, {"a": True}]], {"k": {"l": [0.5]}}],
)
def test_values_come_back_as_they_were(value: Any) -> None:
    message = pb.Value()
    fill_value(message, value, "v")
    assert message.WhichOneof("kind") is not None
    assert read_value(pb.Value.FromString(message.SerializeToString())) == value


def test_numpy_values_become_plain_ones() -> None:
    message = pb.Value()
    fill_value(message, {"a": np.float32(0.5), "b": np.array([1, 2])}, "v")
    assert read_value(message) == {"a": 0.5, "b": [1, 2]}
