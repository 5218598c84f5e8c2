"""Collections come and go, and a server starts, stops, dies and comes back with all it had."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from azimuth_db import AlreadyExists, Client, Field, NotFound, VectorField
from azimuth_db._generated.azimuth.v1 import (
    collections_pb2,
    collections_pb2_grpc,
    records_pb2,
    records_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
    types_pb2,
)
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from server_process import TINY_SEGMENTS, ServerProcess, server_binary

SERVICES = {
    "azimuth.v1.AdminService",
    "azimuth.v1.CollectionService",
    "azimuth.v1.RecordService",
    "azimuth.v1.SearchService",
}
V = {"v": VectorField(4, "l2")}


def run_server(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs azimuthd where it is expected to end by itself."""
    return subprocess.run(
        [server_binary(), *arguments], capture_output=True, text=True, timeout=30, check=False
    )


def test_collections_are_made_described_listed_and_dropped(db: Client) -> None:
    assert db.list_collections() == []
    fields = {"a": Field("int64", nullable=False, default=3), "b": Field("string")}
    vectors = {
        "x": VectorField(8, "cosine", index="hnsw", m=24, ef_construction=100),
        "y": VectorField(3, "ip", index="flat"),
        "z": VectorField(64, "l2", quantization="rabitq4"),
    }
    made = db.create_collection("zoo", vectors, fields, key_type="string", dynamic=False)
    db.create_collection("ant", V)
    info = made.describe()
    assert (info.name, info.key_type, info.dynamic) == ("zoo", "string", False)
    assert info.fields == fields
    assert info.vectors["x"] == vectors["x"]
    assert info.vectors["z"].quantization == "rabitq4"
    assert (info.vectors["y"].metric, info.vectors["y"].index) == ("ip", "flat")
    made.insert(["k"], {"x": np.ones((1, 8))})
    assert [(c.name, c.row_count) for c in db.list_collections()] == [("ant", 0), ("zoo", 1)]
    assert len({c.id for c in db.list_collections()}) == 2

    with pytest.raises(AlreadyExists, match="zoo"):
        db.create_collection("zoo", V)
    with pytest.raises(AlreadyExists, match="zoo"):
        db.create_collection("zoo", V, if_not_exists=True)
    db.create_collection("ant", V, if_not_exists=True)

    assert db.drop_collection("zoo")
    assert [c.name for c in db.list_collections()] == ["ant"]
    with pytest.raises(NotFound, match="zoo"):
        made.count()
    with pytest.raises(NotFound, match="zoo"):
        db.drop_collection("zoo")
    assert not db.drop_collection("zoo", if_exists=True)


def test_stats_count_rows_and_segments(server_factory: Callable[..., ServerProcess]) -> None:
    with server_factory(*TINY_SEGMENTS).client() as db:
        items = db.create_collection("items", V)
        assert items.stats().row_count == 0
        items.insert(range(1000), np.random.default_rng(1).normal(size=(1000, 4)))
        stats = items.wait_indexed()
        assert (stats.row_count, stats.unindexed_rows, stats.index_error) == (1000, 0, "")
        sealed = [s for s in stats.segments if s.state == "sealed"]
        assert sealed
        assert all(s.id > 0 and s.file_bytes > 0 for s in sealed)
        assert sum(s.rows for s in stats.segments) == 1000
        items.delete(keys=range(10))
        assert items.stats().row_count == 990


def test_stats_say_where_the_bytes_are_and_what_graphs_are_walked_by(
    server_factory: Callable[..., ServerProcess],
) -> None:
    rows, dim = 1000, 64
    server = server_factory("--growing-rows-max", str(rows), "--graph-rows-min", str(rows))
    coded = ["none", "sq8", "sq4", "rabitq4", "pca4"]
    vectors = {name: VectorField(dim, "l2", quantization=name) for name in [*coded, "auto"]}
    vectors["flat"] = VectorField(dim, "l2", index="flat", quantization="sq8")
    data = np.random.default_rng(1).normal(size=(rows, dim))
    with server.client() as db:
        items = db.create_collection("items", vectors, {"n": "int64"})
        items.insert(range(rows - 1), dict.fromkeys(vectors, data[1:]), {"n": range(rows - 1)})
        (growing,) = items.stats().segments
        assert growing.state == "growing"
        assert growing.vectors_bytes == growing.codes_bytes == growing.columns_bytes == 0
        assert growing.quantization == {}
        items.insert([rows], dict.fromkeys(vectors, data[:1]), {"n": [rows]})
        before = items.wait_indexed().segments
    server.restart()
    with server.client() as db:
        items = db.collection("items")
        assert items.stats().segments == before
        (sealed,) = [segment for segment in before if segment.state == "sealed"]
        chosen = sealed.quantization.pop("auto")
        assert sealed.quantization == {name: name for name in coded}
        assert sealed.vectors_bytes == len(vectors) * rows * dim * 4
        # Of 64 dimensions each code takes 64 bytes, and 8 bits leave no room there for 8 more.
        of_row = {"none": 0, "sq8": 72, "sq4": 64, "rabitq4": 64, "pca4": 64}
        codes = rows * sum(of_row[name] for name in [*coded, chosen])
        # Codes of components have a map from dimensions to them.
        codes += (dim * dim + 4 * dim) * [*coded, chosen].count("pca4")
        assert codes < sealed.codes_bytes < codes + 4 * 1024
        assert sealed.graph_bytes >= 5 * rows * 2 * 16 * 4
        assert sealed.columns_bytes >= rows * (8 + 8 + 8 + 8 + 4 * len(vectors))
        parts = sealed.vectors_bytes + sealed.codes_bytes + sealed.graph_bytes
        parts += sealed.columns_bytes
        # Each of some 30 parts of the file begins at a multiple of 4096.
        assert sealed.file_bytes - 40 * 4096 < parts < sealed.file_bytes


@pytest.mark.parametrize("hard", [False, True])
def test_a_collection_of_the_same_name_has_no_rows_of_the_dropped_one(
    server_factory: Callable[..., ServerProcess], hard: bool
) -> None:
    server = server_factory(*TINY_SEGMENTS)
    with server.client() as db:
        items = db.create_collection("items", V)
        items.insert(range(500), np.ones((500, 4)))
        items.wait_indexed()
        db.drop_collection("items")
        again = db.create_collection("items", V)
        assert again.count() == 0
        assert again.search([1, 1, 1, 1]).keys == []
        again.insert([1], np.ones((1, 4)))
    server.restart(hard=hard)
    with server.client() as db:
        again = db.collection("items")
        assert [r.key for r in again.query()] == [1]
        assert again.search([1, 1, 1, 1], 10, exact=True).keys == [1]
        assert again.get([2]) == [None]


def answers(db: Client, queries: Any) -> list[Any]:
    """All that a client can ask, in a form that compares."""
    items = db.collection("items")
    found = items.search_batch(queries, 10, exact=True)
    filtered = items.search_batch(queries, 10, exact=True, filter="label == 3")
    records = items.query(limit=5000, output_vectors=["v"])
    return [
        items.describe(),
        found.keys.tolist(),
        found.distances.tolist(),
        filtered.keys.tolist(),
        [(r.key, r.fields, r.version, r.vectors["v"].tolist()) for r in records],
        items.count(),
        items.count("label in [1, 2]"),
    ]


@pytest.mark.parametrize("hard", [False, True])
def test_a_restart_keeps_everything_and_answers_the_same(
    server_factory: Callable[..., ServerProcess], hard: bool
) -> None:
    rng = np.random.default_rng(1)
    base, queries = rng.normal(size=(3000, 4)), rng.normal(size=(20, 4))
    server = server_factory(*TINY_SEGMENTS)
    with server.client() as db:
        items = db.create_collection("items", V, {"label": "int64"})
        items.insert(range(3000), base, {"label": np.arange(3000) % 10})
        items.upsert(range(0, 3000, 7), base[::7] + 1, {"label": np.full(429, 3)})
        items.delete(filter="label == 9")
        items.delete(keys=[1, 2, 3])
        last = items.upsert([5000], rng.normal(size=(1, 4)), {"label": [1]}).as_of
        before = answers(db, queries)
    for _ in range(2):
        server.restart(hard=hard)
        with server.client() as db:
            assert answers(db, queries) == before
            as_of = db.collection("items").upsert([-1], base[:1], {"label": [8]}).as_of
            assert as_of > last
            last = db.collection("items").delete(keys=[-1]).as_of


def test_sealed_segments_are_not_built_again(server_factory: Callable[..., ServerProcess]) -> None:
    server = server_factory(*TINY_SEGMENTS)
    with server.client() as db:
        items = db.create_collection("items", V)
        items.insert(range(2000), np.random.default_rng(1).normal(size=(2000, 4)))
        before = [s.id for s in items.wait_indexed().segments if s.id]
    server.restart(hard=True)
    with server.client() as db:
        stats = db.collection("items").stats()
        assert stats.unindexed_rows == 0
        assert [s.id for s in stats.segments if s.id] == before


def test_a_second_server_on_the_directory_is_refused(server: ServerProcess) -> None:
    run = run_server("--data-dir", str(server.data_dir), "--listen", "127.0.0.1:0")
    assert run.returncode == 1
    assert str(server.data_dir) in run.stderr
    assert run.stderr.startswith("azimuthd: ") or "azimuthd: " in run.stderr
    with server.client() as db:
        assert db.list_collections() == []


def test_a_taken_port_is_said(server: ServerProcess, tmp_path: Path) -> None:
    run = run_server("--data-dir", str(tmp_path / "other"), "--listen", server.address)
    assert run.returncode == 1
    assert server.address in run.stderr
    assert "taken" in run.stderr


def test_an_address_for_others_needs_insecure(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    run = run_server("--data-dir", data, "--listen", "0.0.0.0:0")
    assert run.returncode == 2
    assert "--insecure" in run.stderr
    assert not (tmp_path / "data").exists()


def test_a_folder_of_somebody_else_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("do not touch")
    run = run_server("--data-dir", str(tmp_path), "--listen", "127.0.0.1:0")
    assert run.returncode == 1
    assert "mine.txt" in run.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_health_check_mode_asks_the_server(server: ServerProcess) -> None:
    assert run_server("--health-check", "--listen", server.address).returncode == 0
    assert server.stop() == 0
    run = run_server("--health-check", "--listen", server.address)
    assert run.returncode == 1
    assert server.address in run.stderr


def test_health_check_mode_gives_up_on_a_server_that_does_not_speak() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert run_server("--health-check", "--listen", address).returncode == 1


def test_reflection_lists_the_services(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.address) as channel:
        listed = set(ProtoReflectionDescriptorDatabase(channel).get_services())
    assert listed >= SERVICES | {"grpc.health.v1.Health"}


def unserved() -> list[Any]:
    """Requests that set one field which is not served yet: (name, stub, method, request)."""
    collections, records, search = (
        collections_pb2_grpc.CollectionServiceStub,
        records_pb2_grpc.RecordServiceStub,
        search_pb2_grpc.SearchServiceStub,
    )
    c = {"collection": "items"}
    row = types_pb2.Record(key=types_pb2.Key(int64_key=1))
    rows = types_pb2.RecordList(records=[row])
    query = types_pb2.Vector(dense=types_pb2.DenseVector(values=[0, 0, 0, 0]))
    insert, upsert = records_pb2.InsertRequest, records_pb2.UpsertRequest
    update = records_pb2.UpdateRequest
    read, count = records_pb2.QueryRequest, records_pb2.CountRequest
    ask, options = search_pb2.SearchRequest, search_pb2.SearchOptions
    params = search_pb2.SearchParams

    def schema(**more: Any) -> Any:
        vector = collections_pb2.VectorFieldSpec(name="v", dimension=4, metric="METRIC_L2")
        made = collections_pb2.CollectionSchema(vectors=[vector], **more)
        return collections_pb2.CreateCollectionRequest(collection="new", schema=made)

    def searched(**more: Any) -> Any:
        return ask(**c, query=query, options=options(limit=1, **more))

    return [
        (
            "other database",
            collections,
            "List",
            collections_pb2.ListCollectionsRequest(database="x"),
        ),
        ("properties", collections, "Create", schema(properties={"a": "b"})),
        ("insert partition", records, "Insert", insert(**c, rows=rows, partition="p")),
        ("upsert partition", records, "Upsert", upsert(**c, rows=rows, partition="p")),
        ("update partition", records, "Update", update(**c, rows=rows, partition="p")),
        ("query order_by", records, "Query", read(**c, limit=1, order_by=["a"])),
        ("query cursor", records, "Query", read(**c, limit=1, cursor="x")),
        ("count partitions", records, "Count", count(**c, partitions=["p"])),
        ("search budget", search, "Search", searched(params=params(budget_us=1))),
        ("search offset", search, "Search", searched(offset=1)),
        ("search group_by", search, "Search", searched(group_by="a")),
        ("search threshold", search, "Search", searched(score_threshold=0.0)),
        ("search explain", search, "Search", searched(explain=True)),
        ("search query_text", search, "Search", ask(**c, query_text="x", options=options(limit=1))),
    ]


def test_what_is_not_served_says_so_and_does_nothing(server: ServerProcess, db: Client) -> None:
    items = db.create_collection("items", V)
    items.insert([1], np.ones((1, 4)))
    before = items.get([1])
    with grpc.insecure_channel(server.address) as channel:
        for name, stub, method, request in unserved():
            with pytest.raises(grpc.RpcError) as caught:
                getattr(stub(channel), method)(request, timeout=30)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED, (
                f"{name}: {caught.value.code()} {caught.value.details()}"
            )
            assert caught.value.details()
    assert items.get([1]) == before
    assert [c.name for c in db.list_collections()] == ["items"]
