"""Collections whose keys the server makes: told in order, never twice, over everything."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from azimuth_db import Client, Collection, InvalidArgument, NotFound, VectorField
from azimuth_db import _columns as client_columns
from azimuth_db._generated.azimuth.v1 import records_pb2 as pb
from azimuth_db._generated.azimuth.v1 import records_pb2_grpc, types_pb2
from server_process import ServerProcess, wait_for

DIM = 4
ROWS = 25
V = {"v": VectorField(DIM, "l2")}


def vectors(first: int, rows: int = ROWS) -> Any:
    """Vectors that say which rows of the test they are: first, first + 1 and so on."""
    made = np.zeros((rows, DIM), np.float32)
    made[:, 0] = np.arange(first, first + rows)
    return made


def batches(count: int) -> Iterator[dict[str, Any]]:
    return (
        {"vectors": vectors(n * ROWS), "fields": {"n": np.arange(n * ROWS, (n + 1) * ROWS)}}
        for n in range(count)
    )


@pytest.fixture
def items(db: Client) -> Collection:
    return db.create_collection("items", V, {"n": "int64"}, auto_id=True)


def check(items: Collection, n_by_key: dict[int, int]) -> None:
    """Asserts that these are all records, each under its key."""
    assert items.count() == len(n_by_key)
    keys = list(n_by_key)
    for key, record in zip(keys, items.get(keys, output_vectors=["v"])):
        assert record is not None, key
        assert (record.key, record.fields["n"]) == (key, n_by_key[key])
        assert record.vectors["v"][0] == n_by_key[key]


def test_an_insert_tells_the_keys_in_the_order_of_its_records(
    server: ServerProcess, db: Client, items: Collection
) -> None:
    first = items.insert(vectors=vectors(0), fields={"n": range(ROWS)})
    assert first.keys.tolist() == list(range(1, ROWS + 1))
    second = items.insert_records(
        [{"n": 100, "v": [100, 0, 0, 0]}, {"n": 101, "v": [101, 0, 0, 0]}]
    )
    assert second.keys.tolist() == [ROWS + 1, ROWS + 2]
    expected = dict(zip([*first.keys.tolist(), *second.keys.tolist()], [*range(ROWS), 100, 101]))
    check(items, expected)
    assert items.describe().auto_id is True
    hit = items.search([101.0, 0, 0, 0], limit=1)[0]
    assert (hit.key, hit.distance) == (ROWS + 2, 0)
    assert [r.key for r in items.query(f"key > {ROWS}").records] == [ROWS + 1, ROWS + 2]
    server.restart(hard=True)
    with server.client() as again:
        check(again.collection("items"), expected)
        assert again.collection("items").describe().auto_id is True
        third = again.collection("items").insert(vectors=vectors(200, 1), fields={"n": [200]})
        assert third.keys.tolist() == [ROWS + 3]


def test_a_call_of_several_requests_tells_all_keys(
    monkeypatch: pytest.MonkeyPatch, items: Collection
) -> None:
    monkeypatch.setattr(client_columns, "REQUEST_ROWS_MAX", 10)
    done = items.insert(vectors=vectors(0), fields={"n": range(ROWS)}, request_id="once")
    assert done.keys.tolist() == list(range(1, ROWS + 1))
    again = items.insert(vectors=vectors(0), fields={"n": range(ROWS)}, request_id="once")
    assert again.replayed
    assert again.keys.tolist() == done.keys.tolist()
    check(items, {n + 1: n for n in range(ROWS)})


def test_upsert_update_and_delete_go_by_the_keys_that_were_told(items: Collection) -> None:
    items.insert(vectors=vectors(0, 4), fields={"n": range(4)})
    done = items.upsert_records(
        [{"n": 10, "v": [10, 0, 0, 0]}, {"key": 2, "n": 11, "v": [11, 0, 0, 0]}]
    )
    assert (done.inserted, done.replaced, done.keys.tolist()) == (1, 1, [5])
    assert items.upsert([1], vectors(12, 1), {"n": [12]}).keys.tolist() == []
    assert items.update([3], vectors(13, 1), {"n": [13]}).updated == 1
    assert items.delete(keys=[4, 99]).deleted == 1
    check(items, {1: 12, 2: 11, 3: 13, 5: 10})
    with pytest.raises(NotFound, match=r"records\[0\]\.key: 4 does not exist"):
        items.upsert([4], vectors(0, 1), {"n": [0]})
    with pytest.raises(InvalidArgument, match=r"records\[0\]\.key: 50 is given"):
        items.insert([50], vectors(0, 1))
    with pytest.raises(ValueError, match=r"records\[0\]: there is no 'key'"):
        items.update_records([{"n": 1}])
    with pytest.raises(ValueError, match="keys: none are given, nor a column"):
        items.insert()
    # Three rows were taken by changes, and no key of theirs.
    assert items.insert(vectors=vectors(20, 1), fields={"n": [20]}).keys.tolist() == [9]


def test_string_keys_are_not_made(db: Client) -> None:
    with pytest.raises(InvalidArgument, match="auto_id: the server makes keys of type int64 only"):
        db.create_collection("words", V, key_type="string", auto_id=True)
    db.create_collection("items", V, auto_id=True)
    same = db.create_collection("items", V, auto_id=True, if_not_exists=True)
    assert same.describe().auto_id
    with pytest.raises(ValueError, match="key"):
        db.create_collection("given", V).insert_records([{"v": [1, 2, 3, 4]}])


def test_no_key_is_told_twice_whatever_becomes_of_the_records(server: ServerProcess) -> None:
    told: list[int] = []

    def insert(collection: Collection) -> None:
        done = collection.insert(vectors=vectors(0), fields={"n": range(ROWS)})
        told.extend(done.keys.tolist())

    with server.client() as db:
        items = db.create_collection("items", V, {"n": "int64"}, auto_id=True)
        insert(items)
        db.create_snapshot("items", name="early")
        insert(items)
        items.delete(all=True)
        insert(items)
        items.truncate()
        items.truncate()
        server.restart(hard=True)
    with server.client() as db:
        items = db.collection("items")
        insert(items)
        items.optimize()
        db.restore_snapshot("early", overwrite=True)
        check(items, {key: n for n, key in enumerate(told[:ROWS])})
        insert(items)
        items.truncate()
        server.restart(hard=True)
    with server.client() as db:
        insert(db.collection("items"))
        assert len(set(told)) == len(told) == 6 * ROWS
        assert told == sorted(told)
        # Under another name it is another collection, which knows of no key since the snapshot.
        db.restore_snapshot("early", as_name="copy")
        done = db.collection("copy").insert(vectors=vectors(0, 1), fields={"n": [0]})
        assert done.keys.tolist() == [ROWS + 1]
        assert db.verify(deep=True).sound


@pytest.mark.parametrize("mode", ["insert", "upsert"])
def test_a_load_tells_the_keys_of_each_batch(
    server: ServerProcess, items: Collection, mode: str
) -> None:
    told: dict[int, list[int]] = {}
    done = items.ingest(
        batches(40), mode=mode, on_keys=lambda n, keys: told.update({n: keys.tolist()})
    )
    assert done.inserted == 40 * ROWS
    assert list(told) == list(range(1, 41))
    found = items.get([key for keys in told.values() for key in keys])
    assert [record.fields["n"] for record in found if record] == list(range(40 * ROWS))
    items.wait_indexed()
    server.restart(hard=True)
    with server.client() as db:
        assert db.collection("items").count() == 40 * ROWS
        assert db.verify(deep=True).sound


def test_a_load_that_goes_on_tells_the_keys_that_the_broken_one_may_not_have(
    server: ServerProcess, items: Collection
) -> None:
    def breaks() -> Iterator[dict[str, Any]]:
        yield from batches(20)
        wait_for("the first batches", lambda: items.count() >= 5 * ROWS)
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        items.ingest(breaks(), mode="insert", load="night")
    server.restart(hard=True)
    told: dict[int, list[int]] = {}
    with server.client() as db:
        items = db.collection("items")
        before = items.count() // ROWS
        for _ in range(2):  # The second time there is nothing to do but to tell.
            told.clear()
            done = items.ingest(
                batches(40),
                mode="insert",
                load="night",
                on_keys=lambda n, keys: told.update({n: keys.tolist()}),
            )
            assert (done.batches, done.inserted) == (40, 40 * ROWS)
            assert sorted(told) == list(range(1, 41))
            expected = {
                key: (number - 1) * ROWS + i
                for number, keys in told.items()
                for i, key in enumerate(keys)
            }
            check(items, expected)
        assert before >= 5


@pytest.mark.usefixtures("items")
def test_acknowledgements_of_batches_that_come_again_have_their_keys(
    server: ServerProcess,
) -> None:
    def batch(number: int, rows: int = 2) -> pb.IngestRequest:
        columns = types_pb2.RecordColumns(count=rows)
        columns.vectors.add(name="v", f32=vectors(number, rows).tobytes())
        return pb.IngestRequest(batch=pb.IngestBatch(number=number, columns=columns))

    def send(*requests: pb.IngestRequest) -> list[pb.IngestAck]:
        start = pb.IngestStart(collection="items", load="raw", mode=pb.INGEST_MODE_INSERT)
        with grpc.insecure_channel(server.address) as channel:
            stub = records_pb2_grpc.RecordServiceStub(channel)
            stream = stub.Ingest(iter([pb.IngestRequest(start=start), *requests]), timeout=30)
            return [answer.ack for answer in stream if answer.HasField("ack")]

    def keys(ack: pb.IngestAck) -> list[int]:
        return list(ack.keys.int64_keys.values)

    first = send(batch(1), batch(2, 3), batch(3))
    assert [keys(ack) for ack in first] == [[1, 2], [3, 4, 5], [6, 7]]
    skip = pb.IngestRequest(batch=pb.IngestBatch(number=2, skip=True))
    again = send(skip, batch(3), batch(4))
    assert [ack.replayed for ack in again] == [True, True, False]
    assert [keys(ack) for ack in again] == [[3, 4, 5], [6, 7], [8, 9]]


def test_writers_at_one_time_get_keys_of_their_own(
    server: ServerProcess, items: Collection
) -> None:
    told: list[list[int]] = [[] for _ in range(6)]
    end = time.monotonic() + 2

    def write(number: int) -> None:
        with server.client() as db:
            mine = db.collection("items")
            while time.monotonic() < end:
                done = mine.insert(vectors=vectors(number, 3), fields={"n": [number] * 3})
                told[number] += done.keys.tolist()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(len(told))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = [key for keys in told for key in keys]
    assert all(told)
    assert len(set(everything)) == len(everything) == items.count()
    for number, keys in enumerate(told):
        assert all(r is not None and r.fields["n"] == number for r in items.get(keys))
