"""Records through the network: what is written is what is read, in both forms and key types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from azimuth_db import AlreadyExists, Client, Collection, Field, InvalidArgument, VectorField
from server_process import ServerProcess


@pytest.fixture
def items(db: Client) -> Collection:
    return db.create_collection(
        "items",
        {"image": VectorField(3, "l2"), "text": VectorField(2, "cosine")},
        {
            "label": "int64",
            "price": "double",
            "title": "string",
            "sold": "bool",
            "stock": Field("int64", default=7),
        },
    )


def plain(records: list[Any]) -> list[Any]:
    """Records without their versions, vectors as lists."""
    return [
        None if r is None else (r.key, r.fields, {n: v.tolist() for n, v in r.vectors.items()})
        for r in records
    ]


def test_every_kind_of_value_comes_back_as_it_was_sent(items: Collection) -> None:
    fields: dict[str, Any] = {
        "label": -(2**63),
        "price": 0.1,
        "title": "grüße \U0001f600\n",
        "sold": False,
        "stock": 2**63 - 1,
        "tags": ["a", 1, 2.5, True, None, ["deep", {"x": []}]],
        "shape": {"w": 3, "h": {"unit": "cm", "value": 1.25}, "none": None},
        "note": None,
        "count": 12345678901234,
    }
    items.insert_records([{"key": 1, **fields, "image": [1, 2, 3], "text": [0.5, -0.5]}])
    [record] = items.get([1], output_vectors=["image", "text"])
    assert record is not None
    assert record.fields == fields
    assert [type(record.fields[n]) for n in ("label", "price", "sold")] == [int, float, bool]
    assert record.vectors["image"].tolist() == [1, 2, 3]
    assert record.vectors["text"].tolist() == [0.5, -0.5]


def test_absent_fields_stay_absent_and_defaults_are_taken(items: Collection) -> None:
    items.insert_records([{"key": 1, "image": [1, 2, 3]}, {"key": 2, "label": None, "stock": None}])
    first, second = items.get([1, 2], output_vectors=["image", "text"])
    assert first is not None
    assert second is not None
    assert first.fields == {"stock": 7}
    assert set(first.vectors) == {"image"}
    assert second.fields == {"label": None, "stock": None}
    assert second.vectors == {}
    assert items.search([0, 0, 0], field="image").keys == [1]
    assert items.search([1, 0], field="text").keys == []


def test_rows_and_columns_give_the_same_records(db: Client, items: Collection) -> None:
    info = items.describe()
    twin = db.create_collection("twin", info.vectors, info.fields)
    rng = np.random.default_rng(1)
    count = 300
    images = rng.normal(size=(count, 3)).astype(np.float32)
    texts = [None if i % 3 == 0 else rng.normal(size=2).astype("f4") for i in range(count)]
    columns: dict[str, Any] = {
        "label": np.arange(count) % 5,
        "price": [None if i % 4 == 0 else i / 8 for i in range(count)],
        "title": [f"title {i}" for i in range(count)],
        "sold": np.arange(count) % 2 == 0,
        "extra": [[i, "x"] if i % 2 else {"i": i} for i in range(count)],
    }
    items.insert(range(count), {"image": images, "text": texts}, columns)
    rows = []
    for i in range(count):
        row: dict[str, Any] = {"key": i, "image": images[i], "text": texts[i]}
        for name, values in columns.items():
            if values[i] is not None:
                row[name] = values[i]
        rows.append(row)
    twin.insert_records(rows)
    vectors = ["image", "text"]
    expected = plain(items.get(range(count), output_vectors=vectors))
    assert plain(twin.get(range(count), output_vectors=vectors)) == expected
    found = items.search(images[5], 20, field="image").keys
    assert twin.search(images[5], 20, field="image").keys == found


def test_string_keys_are_ordered_and_found(db: Client) -> None:
    words = db.create_collection("words", {"v": VectorField(2, "ip")}, key_type="string")
    keys = ["b", "a", "ä", "a b", "Z", "x" * 512]
    words.insert(keys, np.eye(2)[[0, 1, 0, 1, 0, 1]])
    ordered = sorted(keys, key=str.encode)
    assert [r.key for r in words.query()] == ordered
    assert [r and r.key for r in words.get(keys)] == keys
    assert words.delete(keys=["a", "nothing"]).deleted == 1
    assert words.get(["a", "b"])[0] is None
    with pytest.raises(InvalidArgument, match="1"):
        words.insert([1], np.eye(2)[:1])


def test_an_insert_of_an_existing_key_names_it_and_writes_nothing(items: Collection) -> None:
    items.insert([7], {"image": [[1, 2, 3]]}, {"label": [1]})
    with pytest.raises(AlreadyExists, match=r"\b7\b"):
        items.insert([6, 7, 8], {"image": np.zeros((3, 3))}, {"label": [2, 2, 2]})
    assert items.count() == 1
    assert items.get([6, 8]) == [None, None]
    [record] = items.get([7])
    assert record is not None
    assert record.fields["label"] == 1


def test_a_key_that_comes_twice_is_refused_by_insert_and_last_wins_in_upsert(
    items: Collection,
) -> None:
    with pytest.raises(InvalidArgument, match=r"\b5\b"):
        items.insert([4, 5, 5], {"image": np.zeros((3, 3))})
    assert items.count() == 0
    result = items.upsert([5, 5], {"image": np.eye(3)[:2]}, {"label": [1, 2]})
    assert (result.inserted, result.replaced) == (1, 0)
    [record] = items.get([5], output_vectors=["image"])
    assert record is not None
    assert record.fields["label"] == 2
    assert record.vectors["image"].tolist() == [0, 1, 0]


def test_upsert_replaces_the_whole_record(items: Collection) -> None:
    items.insert_records([{"key": 1, "label": 1, "x": 1, "image": [1, 2, 3], "text": [1, 0]}])
    result = items.upsert_records(
        [{"key": 1, "title": "new", "text": [0, 1]}, {"key": 2, "label": 9}]
    )
    assert (result.inserted, result.replaced) == (1, 1)
    [record] = items.get([1], output_vectors=["image", "text"])
    assert record is not None
    assert record.fields == {"title": "new", "stock": 7}
    assert {n: v.tolist() for n, v in record.vectors.items()} == {"text": [0, 1]}
    assert items.count("label == 1") == 0


def test_deletes_by_keys_by_filter_and_of_all(items: Collection) -> None:
    items.insert(range(100), {"image": np.zeros((100, 3))}, {"label": np.arange(100) % 10})
    assert items.delete(keys=[0, 1, 1, 1000]).deleted == 2
    assert items.delete(keys=[0, 1]).deleted == 0
    assert items.delete(filter="label == $l", params={"l": 3}).deleted == 10
    assert items.count() == 88
    assert items.count("label == 3") == 0
    assert items.get([0, 3, 13, 2])[:3] == [None, None, None]
    assert items.delete(all=True).deleted == 88
    assert items.count() == 0
    assert list(items.query()) == []
    items.insert([3], {"image": [[0, 0, 0]]})
    assert items.count() == 1


def test_get_keeps_the_order_and_tells_what_is_missing(items: Collection) -> None:
    items.insert([1, 2, 3], {"image": np.zeros((3, 3))})
    assert [r and r.key for r in items.get([3, 9, 1, 3])] == [3, None, 1, 3]


def test_query_is_in_order_of_key_and_stops_at_its_limit(items: Collection) -> None:
    keys = [5, -3, 2**62, 0, -(2**62), 17]
    items.insert(keys, {"image": np.zeros((6, 3))}, {"label": [1, 1, 1, 2, 1, 1]})
    assert [r.key for r in items.query(limit=4)] == sorted(keys)[:4]
    assert [r.key for r in items.query("label == 1")] == [-(2**62), -3, 5, 17, 2**62]
    assert [r.key for r in items.query("label == 1", limit=2)] == [-(2**62), -3]
    assert items.count("label == 1") == 5


def test_output_fields_choose_what_is_returned(items: Collection) -> None:
    items.insert_records([{"key": 1, "label": 1, "x": 2, "image": [1, 2, 3], "text": [1, 0]}])

    def forms(**options: Any) -> list[Any]:
        hit = items.search([0, 0, 0], field="image", **options)[0]
        batched = items.search_batch([[0, 0, 0]], field="image", **options)[0][0]
        return [items.get([1], **options)[0], items.query(**options)[0], hit, batched]

    for record in forms():
        assert record.fields == {"label": 1, "x": 2, "stock": 7}
        assert record.vectors == {}
    for record in forms(output_fields=[]):
        assert record.fields == {}
    for record in forms(output_fields=["x", "title"], output_vectors=["text"]):
        assert record.fields == {"x": 2}
        assert {n: v.tolist() for n, v in record.vectors.items()} == {"text": [1, 0]}


def test_versions_grow_and_as_of_follows(items: Collection) -> None:
    seen = [items.insert([1], {"image": [[0, 0, 0]]}).as_of]
    seen.append(items.upsert([2], {"image": [[0, 0, 0]]}).as_of)
    seen.append(items.upsert([1], {"image": [[1, 1, 1]]}).as_of)
    seen.append(items.delete(keys=[2]).as_of)
    assert seen == sorted(set(seen))
    [record] = items.get([1])
    assert record is not None
    assert record.version == seen[2]
    assert items.query().as_of >= seen[-1]
    assert items.search([0, 0, 0], field="image").as_of >= seen[-1]
    assert items.stats().as_of >= seen[-1]


def test_every_connection_reads_what_another_one_wrote(
    server: ServerProcess, items: Collection
) -> None:
    with server.client() as other:
        reader = other.collection("items")
        for key in range(50):
            as_of = items.upsert([key], {"image": [[key, 0, 0]]}).as_of
            [record] = reader.get([key])
            assert record is not None
            assert record.version == as_of
            assert reader.count() == key + 1
            result = reader.search([key, 0, 0], 1, field="image")
            assert result.keys == [key]
            assert result.as_of >= as_of
            if key % 5 == 0:
                items.delete(keys=[key])
                assert reader.get([key]) == [None]
                items.insert([key], {"image": [[key, 0, 0]]})
