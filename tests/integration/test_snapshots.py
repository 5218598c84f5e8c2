"""Snapshots over gRPC: taken while writes go on, restored here and on another server."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import azimuth_db
import numpy as np
import pytest
from azimuth_db import Client, Collection, VectorField
from conftest import ServerFactory
from server_process import TINY_SEGMENTS, ServerProcess

ROWS, DIM = 2000, 8


def fill(db: Client, name: str = "items", rows: int = ROWS, seed: int = 1) -> Collection:
    """Makes a collection: built segments, rows that were replaced or deleted, fresh ones."""
    rng = np.random.default_rng(seed)
    items = db.create_collection(name, {"v": VectorField(DIM, "l2")}, {"n": "int64"})
    for part in np.array_split(np.arange(rows), 4):
        items.insert(part, rng.standard_normal((len(part), DIM), dtype="f4"), {"n": part % 7})
    items.wait_indexed()
    items.upsert(range(50), rng.standard_normal((50, DIM), dtype="f4"), {"n": [9] * 50})
    items.delete(keys=range(100, 200))
    return items


def contents(items: Collection) -> dict[int, tuple[int, dict[str, object], bytes]]:
    """Returns version, fields and vector of every record."""
    return {
        record.key: (
            record.version,
            dict(record.fields),
            np.asarray(record.vectors["v"], "f4").tobytes(),
        )
        for record in items.query(limit=16384, output_vectors=["v"])
    }


def answers(items: Collection) -> list[list[tuple[int, float]]]:
    """Returns the nearest of some queries, by graph and with a filter."""
    rng = np.random.default_rng(99)
    found = []
    for query in rng.standard_normal((5, DIM), dtype="f4"):
        for options in ({}, {"filter": "n == 3"}, {"exact": True}):
            hits = items.search(query, limit=10, **options)
            found.append([(hit.key, hit.distance) for hit in hits])
    return found


@pytest.fixture
def server(server_factory: ServerFactory) -> ServerProcess:
    return server_factory(*TINY_SEGMENTS)


def test_a_collection_comes_back_as_it_was(server: ServerProcess, db: Client) -> None:
    items = fill(db)
    before, nearest = contents(items), answers(items)
    info = db.create_snapshot("items", name="nightly")
    assert (info.name, info.collection, info.kind) == ("nightly", "items", "collection")
    assert info.rows == len(before)
    assert info.bytes > 0
    assert info.files > 1
    assert not info.problem
    assert info.incarnation == db.server_info().incarnation
    items.delete(keys=range(1000))
    assert db.list_snapshots() == [info]
    assert db.list_snapshots("items") == [info]
    assert db.list_snapshots("others") == []

    with pytest.raises(azimuth_db.AlreadyExists):
        db.restore_snapshot("nightly")
    result = db.restore_snapshot(info, as_name="copy")
    assert (result.collection, result.rows, result.warnings) == ("copy", len(before), [])
    assert contents(db.collection("copy")) == before
    assert answers(db.collection("copy")) == nearest
    assert db.restore_snapshot("nightly", overwrite=True).collection == "items"
    assert contents(items) == before
    assert db.verify(deep=True).sound
    server.restart(hard=True)
    with server.client() as again:
        assert contents(again.collection("items")) == before
        assert answers(again.collection("copy")) == nearest
        again.delete_snapshot(info)
        assert again.list_snapshots() == []
        with pytest.raises(azimuth_db.NotFound):
            again.restore_snapshot("nightly", as_name="other")


def test_writes_go_on_while_one_is_taken_and_restored(db: Client) -> None:
    items = fill(db)
    stop = threading.Event()
    written: list[int] = []
    failures: list[BaseException] = []

    def write() -> None:
        key = 100_000
        try:
            while not stop.is_set():
                items.insert([key], np.zeros((1, DIM), "f4"), {"n": [key]})
                written.append(key)
                key += 1
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for i in range(5):
            known = len(written)
            info = db.create_snapshot("items" if i % 2 else None, name=f"s{i}")
            db.restore_snapshot(info, "items", as_name=f"copy{i}")
            keys = set(contents(db.collection(f"copy{i}"))) - set(range(ROWS))
            # A prefix of what was written, and all that was acknowledged before.
            assert keys == set(range(100_000, 100_000 + len(keys)))
            assert known <= len(keys)
            assert len(keys) <= len(written) + 1
    finally:
        stop.set()
        writer.join()
    assert not failures
    assert len(written) > 5
    assert set(contents(items)) >= set(written)


def test_another_server_restores_a_copy_of_the_folder(
    server: ServerProcess, db: Client, server_factory: ServerFactory
) -> None:
    items = fill(db)
    before, nearest = contents(items), answers(items)
    one = db.create_snapshot("items")
    everything = db.create_snapshot()
    assert everything.kind == "store"
    assert everything.rows == len(before)
    other = server_factory(*TINY_SEGMENTS, folder="other")
    for info, folder in ((one, "0" * 16), (everything, "f" * 16)):
        shutil.copytree(
            server.data_dir / "snapshots" / info.id, other.data_dir / "snapshots" / folder
        )
    with other.client() as there:
        assert [info.name for info in there.list_snapshots()] == [one.name, everything.name]
        assert there.verify_snapshot(one.name).sound
        assert there.verify_snapshot("f" * 16).sound
        assert there.restore_snapshot(one.name).as_of > one.as_of
        there.restore_snapshot("f" * 16, "items", as_name="second")
        for name in ("items", "second"):
            assert contents(there.collection(name)) == before
            assert answers(there.collection(name)) == nearest
        version = there.collection("items").upsert([1], np.ones((1, DIM), "f4")).as_of
        assert version > max(row[0] for row in before.values())
        other.restart(hard=True)
    with other.client() as there:
        assert contents(there.collection("second")) == before
        assert there.verify(deep=True).sound


def test_what_is_damaged_is_told_and_rows_are_never_lost_silently(
    server: ServerProcess, db: Client
) -> None:
    items = fill(db)
    before = contents(items)
    info = db.create_snapshot("items")
    folder = server.data_dir / "snapshots" / info.id

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.unlink()  # The store has the same file.
        path.write_bytes(content)

    damage(next(folder.glob("*.seg")))
    report = db.verify_snapshot(info)
    assert not report.sound
    assert report.restorable
    assert report.problems
    result = db.restore_snapshot(info, as_name="slow")
    assert len(result.warnings) == 1
    assert contents(db.collection("slow")) == before
    db.collection("slow").wait_indexed()
    assert contents(db.collection("slow")) == before

    damage(folder / "rows.dat")
    assert not db.verify_snapshot(info).restorable
    with pytest.raises(azimuth_db.DataLoss):
        db.restore_snapshot(info, as_name="lost")
    with pytest.raises(azimuth_db.DataLoss):
        db.restore_snapshot(info, overwrite=True)
    assert contents(items) == before
    assert sorted(c.name for c in db.list_collections()) == ["items", "slow"]


def test_a_second_one_at_a_time_is_refused_and_can_be_repeated(db: Client) -> None:
    fill(db, rows=20_000)
    outcomes: list[str] = []

    def take(n: int) -> None:
        try:
            outcomes.append(db.create_snapshot("items", name=f"s{n}").name)
        except azimuth_db.Aborted:
            outcomes.append("aborted")

    threads = [threading.Thread(target=take, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = sorted(name for name in outcomes if name != "aborted")
    assert made
    assert sorted(info.name for info in db.list_snapshots()) == made
    for n in range(8):
        if f"s{n}" not in made:
            db.create_snapshot("items", name=f"s{n}")
    assert len(db.list_snapshots()) == 8


def test_keys_that_are_strings_and_several_vectors(db: Client) -> None:
    rng = np.random.default_rng(5)
    notes = db.create_collection(
        "notes",
        {"a": VectorField(4, "cosine"), "b": VectorField(3, "ip")},
        {"title": "string"},
        key_type="string",
    )
    keys = [f"note-{i}" for i in range(300)]
    notes.insert(
        keys,
        {"a": rng.standard_normal((300, 4), dtype="f4")},
        {"title": [f"t{i}" for i in range(300)], "extra": [{"deep": i} for i in range(300)]},
    )
    notes.wait_indexed()
    notes.upsert(["more"], {"b": np.ones((1, 3), "f4")}, {"title": ["x"]})
    db.create_snapshot("notes", name="n")
    db.restore_snapshot("n", as_name="notes2")
    query = rng.standard_normal(4, dtype="f4")
    first = [(h.key, h.distance) for h in notes.search(query, field="a", limit=20)]
    second = [
        (h.key, h.distance) for h in db.collection("notes2").search(query, field="a", limit=20)
    ]
    assert first == second
    assert db.collection("notes2").count("extra.deep >= 100") == notes.count("extra.deep >= 100")
    assert db.collection("notes2").count() == 301
