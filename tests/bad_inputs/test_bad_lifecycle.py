"""Entries that need a server of their own: its start, its end, and a store that cannot write."""

from __future__ import annotations

import resource
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from azimuth_db._generated.azimuth.v1 import search_pb2, types_pb2
from bad_input_cases import (
    EMPTY,
    EXHAUSTED,
    OPEN,
    Case,
    check,
    count,
    create,
    delete,
    drop,
    f32,
    field,
    get,
    insert,
    query,
    record,
    search_batch,
    update,
    upsert,
    vector_field,
)
from bad_input_server import MIB, Server, Stubs, assert_refused, failure, until
from conftest import NO_BUILDS, make_collections

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
DIMENSION = 1024
ROWS = 16384  # As many as one reply may have; their vectors alone fill the largest message.


def fill_large(server: Server) -> None:
    """The collection `large`: ROWS records of DIMENSION numbers."""
    server.stubs.call("Create", create("large", [vector_field(dimension=DIMENSION)]))
    block = f32([float(i % 5) for i in range(DIMENSION)])
    step = ROWS // 4
    for start in range(0, ROWS, step):
        request = insert(into="large")
        keys = types_pb2.Int64List(values=range(start, start + step))
        data = types_pb2.RecordColumns(keys=types_pb2.KeyList(int64_keys=keys))
        data.vectors.add(name="v", f32=block * step)
        request.columns.CopyFrom(data)
        server.stubs.call("Insert", request)


def long_search(queries: int) -> search_pb2.SearchBatchRequest:
    block = f32([1.0] * DIMENSION)
    params = search_pb2.SearchParams(exact=True)
    return search_batch(block * queries, 1, "large", params=params)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of few threads with the collection `large`."""
    data = tmp_path_factory.mktemp("bad_lifecycle") / "data"
    server = Server(data, *NO_BUILDS, "--rpc-threads", "8")
    try:
        server.wait_ready()
        make_collections(server)
        fill_large(server)
        yield server
    finally:
        server.stop()


@pytest.mark.bad_input(92)
def test_a_reply_over_the_message_size_is_refused(own: Server) -> None:
    request = query(ROWS, of="large", output_vectors=["v"])
    reason = r"the reply would have \d+ bytes, and 67108864 is the most: ask for fewer"
    check(own, Case(92, "", "Query", request, EXHAUSTED, reason))
    assert len(own.stubs.call("Query", query(ROWS // 2, of="large", output_vectors=["v"])).records)


@pytest.mark.bad_input(16)
@pytest.mark.bad_input(17)
def test_more_calls_than_threads_are_refused_or_answered(own: Server) -> None:
    clients = [Stubs(own.address) for _ in range(32)]

    def call(stubs: Stubs) -> grpc.StatusCode:
        try:
            stubs.call("SearchBatch", long_search(100))
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
        return grpc.StatusCode.OK

    with ThreadPoolExecutor(len(clients)) as pool:
        codes = list(pool.map(call, clients))
    for stubs in clients:
        stubs.close()
    assert set(codes) <= {grpc.StatusCode.OK, EXHAUSTED}
    assert EXHAUSTED in codes
    assert grpc.StatusCode.OK in codes
    assert own.stubs.call("Count", count("", of="large")).count == ROWS


@pytest.mark.bad_input(21)
def test_calls_before_the_server_listens_and_while_it_drains(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    early = Stubs(address)
    assert failure(lambda: early.call("Count", count(""))).code() is UNAVAILABLE
    server = Server(tmp_path / "data", *NO_BUILDS, "--listen", address)
    codes = set()

    def answered() -> bool:
        try:
            early.call("List", b"")
        except grpc.RpcError as error:
            codes.add(error.code())
            return False
        return True

    until(answered, "the server never answered")
    assert codes <= {UNAVAILABLE}
    server.wait_ready()
    fill_large(server)
    started = server.cpu_seconds()
    running = server.stubs.method("SearchBatch").future(long_search(500), timeout=60)
    until(lambda: server.cpu_seconds() > started + 0.05 or running.done(), "no search began")
    server.process.send_signal(signal.SIGTERM)
    codes.clear()
    until(lambda: not answered() and UNAVAILABLE in codes, "the server goes on answering")
    # gRPC cancels a call that is on its way at that very moment and that no thread has taken.
    assert codes <= {UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert len(running.result().results) == 500  # What runs may finish.
    early.close()
    assert server.process.wait(60) == 0  # A second signal would end it at once.
    server.stop()


@pytest.mark.bad_input(67)
def test_after_a_failed_log_write_the_store_is_read_only_until_a_restart(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", *NO_BUILDS).wait_ready()
    make_collections(server)
    # No file may grow past 1 MiB: the write-ahead log fails as on a broken disk.
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (MIB, MIB))
    error: Any = None
    written = 3
    while error is None:
        batch = [record(written + 1 + n, title="x" * 50000) for n in range(5)]
        try:
            server.stubs.call("Insert", insert(*batch))
            written += len(batch)
        except grpc.RpcError as failed:
            error = failed
    assert error.code() is UNAVAILABLE, error
    assert "unknown" in error.details()
    assert "upsert" in error.details()
    later: Any = failure(lambda: server.stubs.call("Upsert", upsert(record(1))))
    # The server stops by itself, so a later call may find it gone.
    assert later.code() in (PRECONDITION, UNAVAILABLE), later
    if later.code() is PRECONDITION:
        assert "read-only" in later.details()
    assert server.process.wait(60) == 1
    server.stop()

    server = Server(tmp_path / "data", *NO_BUILDS).wait_ready()
    found = server.stubs.call("Count", count("")).count
    assert found in (written, written + 5), "a batch is whole or not there"
    assert not server.stubs.call("Get", get(*range(1, found + 1))).missing.int64_keys.values
    server.stubs.call("Insert", insert(record(10**6)))
    assert server.stop() == 0


@pytest.mark.bad_input(26)
def test_names_and_drops_outlive_a_restart(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", *NO_BUILDS).wait_ready()
    make_collections(server)
    for name in ("Twin", "twin"):
        server.stubs.call("Create", create(name, fields=[field("n")]))
        server.stubs.call("Insert", insert(record(1, title=name), into=name))
    server.stubs.call("Drop", drop(EMPTY))
    assert server.stop() == 0
    server = Server(tmp_path / "data", *NO_BUILDS).wait_ready()
    for name in ("Twin", "twin"):
        (found,) = server.stubs.call("Get", get(1, of=name)).records
        assert found.fields["title"].string_value == name
    missing: Any = failure(lambda: server.stubs.call("Count", count("", of=EMPTY)))
    assert missing.code() is grpc.StatusCode.NOT_FOUND
    assert server.stubs.call("Count", count("", of=OPEN)).count == 3
    assert server.stop() == 0


@pytest.mark.bad_input(66)
def test_more_rows_than_may_wait_are_refused_and_deletes_are_not(tmp_path: Path) -> None:
    flags = (*NO_BUILDS, "--unindexed-rows-max", "3")
    server = Server(tmp_path / "data", *flags).wait_ready()
    try:
        make_collections(server)
        for rpc, request in (
            ("Insert", insert(record(9))),
            ("Upsert", upsert(record(1))),
            ("Update", update(record(1))),
        ):
            error = failure(lambda rpc=rpc, request=request: server.stubs.call(rpc, request))
            assert_refused(error, EXHAUSTED, "'open'.* 3 ", server)
        assert server.stubs.call("Count", count("")).count == 3
        keys = types_pb2.KeyList(int64_keys=types_pb2.Int64List(values=[1]))
        assert server.stubs.call("Delete", delete(keys=keys)).deleted == 1
        assert server.stubs.call("Insert", insert(record(1), into=EMPTY)).inserted == 1
    finally:
        assert server.stop() == 0
