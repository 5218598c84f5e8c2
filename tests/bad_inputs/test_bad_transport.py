"""Entries 1 to 24: what reaches the server before, or instead of, a request; and calls that end
before their time."""

from __future__ import annotations

import gzip
import os
import random
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from azimuth_db._generated.azimuth.v1 import search_pb2, types_pb2
from bad_input_cases import (
    EXHAUSTED,
    UNIMPLEMENTED,
    UNREADABLE,
    Case,
    Check,
    count,
    create,
    drop,
    f32,
    insert,
    insert_of_value,
    nested_value,
    record,
    search,
    search_batch,
    table,
    varint,
    vector_field,
)
from bad_input_http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    Connection,
    frame,
    grpc_message,
    header,
    request_headers,
)
from bad_input_server import MIB, PATHS, Server, Stubs, Watch, assert_refused, failure, until

RPCS = list(PATHS)
UNKNOWN = [
    "/azimuth.v1.RecordService/Nothing", "/azimuth.v1.Nothing/Insert", "/Insert", "/", "//",
    "/azimuth.v2.RecordService/Insert", "/azimuth.v1.RecordService/insert",
    "/azimuth.v1.RecordService/Insert/", "/azimuth.v1.RecordService/../CollectionService/Drop",
    "/" + "a" * 4000,
]  # fmt: skip
LATER = {
    37: ["CollectionService/Alter"],
    42: ["CollectionService/SetAlias", "CollectionService/DropAlias"],
    89: ["SearchService/Hybrid"],
    90: ["SearchService/Recommend"],
    116: ["AdminService/SetConfig"],
}  # fmt: skip
GARBAGE = {
    "text": b"this is no protobuf message at all",
    "open varint": b"\xff" * 11,
    "length past the end": b"\x12\xff\xff\xff\xff\x07abc",
    "length over 2 GiB": b"\x12\xff\xff\xff\xff\x0fabc",
    "wire type 7": b"\x17",
    "group without an end": b"\x0b\x0b\x0b",
    "field 0": b"\x02\x00",
    "end of no group": b"\x0c",
}


def too_large() -> bytes:
    """One byte more than a message may have: an unknown field of bytes that fills it."""
    tag = varint(2047 << 3 | 2)
    size = 64 * MIB + 1 - len(tag)
    return tag + varint(size - 4) + bytes(size - 4)


REFUSED = [
    *(Case(1, path[:60] or "empty", path, b"", UNIMPLEMENTED, "") for path in UNKNOWN),
    *(Case(entry, path, f"/azimuth.v1.{path}", b"", UNIMPLEMENTED, "")
      for entry, paths in LATER.items() for path in paths),
    *(Case(2, rpc, rpc, too_large, EXHAUSTED, "larger than max.*67108864")
      for rpc in ("Insert", "Search", "Create")),
    *(Case(3, f"{rpc} {name}", rpc, data, UNREADABLE, "")
      for rpc in RPCS for name, data in GARBAGE.items() if rpc != "Check"),
    *(Case(4, f"{levels} levels", "Insert", insert_of_value(nested_value(levels)), UNREADABLE, "")
      for levels in (51, 100, 1000)),
    Case(4, "a million levels", "Insert", lambda: insert_of_value(b"\x32" * 10**6), UNREADABLE, ""),
]  # fmt: skip


@pytest.mark.parametrize("case", table(REFUSED))
def test_what_is_no_request_is_refused(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.bad_input(3)
def test_random_bytes_never_hurt(server: Server, watch: Watch) -> None:
    generator = random.Random(20240531)
    valid = [insert(record(9)).SerializeToString(), search().SerializeToString(),
             create("c").SerializeToString()]  # fmt: skip
    with watch:
        for _ in range(300):
            data = bytearray(generator.choice(valid))
            for _ in range(generator.randint(1, 4)):
                data[generator.randrange(len(data))] = generator.randrange(256)
            try:
                server.stubs.call("Search", bytes(data))
                server.stubs.call("Count", bytes(data))
            except grpc.RpcError as error:
                code = error.code()
                assert code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
@pytest.mark.bad_input(5)
def test_a_compressed_message_is_unimplemented(
    server: Server, watch: Watch, compression: grpc.Compression
) -> None:
    with watch:
        request = insert(record(9, title="x" * 10000))
        error = failure(lambda: server.stubs.call("Insert", request, compression=compression))
        assert_refused(error, UNIMPLEMENTED, "ompress", server)


@pytest.mark.bad_input(6)
def test_a_gzip_bomb_is_not_inflated(server: Server, watch: Watch) -> None:
    bomb = gzip.compress(bytes(60 * MIB))
    assert len(bomb) < 65536
    with watch, Connection(server.host_port) as connection:
        watch.peak_mib_max = 16
        headers = request_headers(PATHS["Insert"], [("grpc-encoding", "gzip")])
        for stream in (1, 3, 5, 7):
            connection.send(frame(HEADERS, END_HEADERS, stream, headers))
            body = grpc_message(bomb, compressed=True)
            chunks = [body[i : i + 16384] for i in range(0, len(body), 16384)]
            for i, chunk in enumerate(chunks):
                flags = END_STREAM if i == len(chunks) - 1 else 0
                connection.send(frame(DATA, flags, stream, chunk))
            connection.end_of(stream)


@pytest.mark.parametrize("kib", [16, 64, 1024])
@pytest.mark.bad_input(7)
def test_metadata_over_8_kib_is_refused(server: Server, watch: Watch, kib: int) -> None:
    with watch:
        metadata = [("x-large", "a" * (kib * 1024))]
        own = Stubs(server.address)  # The server may close the connection.
        error = failure(lambda: own.call("Insert", insert(record(9)), metadata=metadata))
        assert_refused(error, EXHAUSTED, "metadata", server)
        own.close()


@pytest.mark.bad_input(7)
def test_some_continuation_frames_leave_the_server_well(server: Server, watch: Watch) -> None:
    with watch, Connection(server.host_port) as connection:
        connection.send(frame(HEADERS, 0, 1, request_headers(PATHS["Insert"])))
        piece = header("x", "a" * 100) * 140
        for _ in range(16 * MIB // len(piece)):
            if not connection.send(frame(CONTINUATION, 0, 1, piece)):
                break


@pytest.mark.bad_input(8)
@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "example.com:0"])
def test_without_authentication_only_loopback_is_served(tmp_path: Any, listen: str) -> None:
    command = [os.environ["AZIMUTH_SERVER"], "--data-dir", str(tmp_path / "d"), "--listen", listen]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "no authentication" in done.stderr
    assert not (tmp_path / "d").exists()


@pytest.mark.bad_input(11)
@pytest.mark.bad_input(15)
def test_identity_in_headers_changes_nothing(server: Server, watch: Watch) -> None:
    metadata = [
        ("x-forwarded-for", "127.0.0.1"), ("sourceid", "root"), ("x-user", "admin"),
        ("authorization", "Bearer a"), ("authorization", "Basic b"), ("key-bin", b"\0\xff"),
    ]  # fmt: skip
    with watch:
        assert len(server.stubs.call("Search", search(), metadata=metadata).hits) == 3
        error = failure(lambda: server.stubs.call("Drop", drop("no"), metadata=metadata))
        assert_refused(error, grpc.StatusCode.NOT_FOUND, "'no'", server)


@pytest.mark.bad_input(17)
def test_a_connection_with_too_many_streams_is_closed(server: Server, watch: Watch) -> None:
    headers = request_headers(PATHS["Insert"])
    with watch, Connection(server.host_port) as connection:
        for number in range(300):
            connection.send(frame(HEADERS, END_HEADERS, 2 * number + 1, headers))
        # All that is left of the connection is read, and each stream has been given an end.
        ended = {got.stream for got in connection.frames() if got.kind == RST_STREAM}
        assert len(ended) <= 128


@pytest.mark.bad_input(17)
def test_300_connections_that_come_and_go(server: Server, watch: Watch) -> None:
    with watch:
        for number in range(300):
            with socket.create_connection(server.host_port, timeout=20) as opened:
                opened.sendall(PREFACE[: number % (len(PREFACE) + 1)])
        held = [socket.create_connection(server.host_port, timeout=20) for _ in range(300)]
        fresh = Stubs(server.address)
        assert len(fresh.call("Search", search()).hits) == 3
        fresh.close()
        for each in held:
            each.close()


@pytest.mark.bad_input(18)
def test_a_message_that_comes_after_its_deadline_does_no_work(server: Server, watch: Watch) -> None:
    body = grpc_message(insert(record(9)).SerializeToString())
    with watch, Connection(server.host_port) as connection:
        for stream in (1, 3, 5):
            headers = request_headers(PATHS["Insert"], [("grpc-timeout", "1n")])
            connection.send(frame(HEADERS, END_HEADERS, stream, headers))
            assert connection.end_of(stream) is not None
            connection.send(frame(DATA, END_STREAM, stream, body))
            connection.round_trip()


@pytest.mark.parametrize("rpc", ["Insert", "Search", "Create", "Count"])
@pytest.mark.bad_input(18)
def test_a_deadline_that_is_past_is_exceeded(server: Server, watch: Watch, rpc: str) -> None:
    requests: dict[str, Any] = {
        "Insert": insert(record(9)), "Search": search(), "Create": create("c"), "Count": count(""),
    }  # fmt: skip
    with watch:
        error: Any = failure(lambda: server.stubs.call(rpc, requests[rpc], timeout=-1))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


LARGE, LARGE_DIMENSION, LARGE_ROWS = "large", 256, 20000


@pytest.fixture(scope="module")
def long_search(server: Server) -> Iterator[Any]:
    """A request that keeps a core busy for seconds."""
    server.stubs.call("Create", create(LARGE, [vector_field(dimension=LARGE_DIMENSION)]))
    block = f32([i % 7 for i in range(LARGE_DIMENSION)])
    for start in range(0, LARGE_ROWS, 5000):
        data = types_pb2.RecordColumns(
            keys=types_pb2.KeyList(
                int64_keys=types_pb2.Int64List(values=range(start, start + 5000))
            )
        )
        data.vectors.add(name="v", f32=block * 5000)
        request = insert(into=LARGE)
        request.columns.CopyFrom(data)
        server.stubs.call("Insert", request)
    yield search_batch(block * 10000, 1, LARGE, params=search_pb2.SearchParams(exact=True))
    server.stubs.call("Drop", drop(LARGE))


def is_idle(server: Server) -> bool:
    """Whether the server used next to no processor time while a tenth of a second passed."""
    before = server.cpu_seconds()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.settimeout(0.1)
        with pytest.raises(TimeoutError):
            silent.accept()
    return server.cpu_seconds() - before <= 0.03


@pytest.mark.bad_input(19)
def test_a_deadline_within_a_scan_ends_it(server: Server, watch: Watch, long_search: Any) -> None:
    with watch:
        error: Any = failure(lambda: server.stubs.call("SearchBatch", long_search, timeout=0.5))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        until(lambda: is_idle(server), "the server still searches", 2.0)


@pytest.mark.bad_input(20)
def test_a_cancelled_search_stops(server: Server, watch: Watch, long_search: Any) -> None:
    with watch:
        started = server.cpu_seconds()
        call = server.stubs.method("SearchBatch").future(long_search, timeout=60)
        until(lambda: server.cpu_seconds() > started + 0.2 or call.done(), "no search began")
        assert not call.done()
        call.cancel()
        assert call.code() is grpc.StatusCode.CANCELLED
        until(lambda: is_idle(server), "the server still searches", 2.0)


@pytest.mark.bad_input(22)
def test_tls_on_the_plain_port_fails(server: Server, watch: Watch) -> None:
    hello = bytes.fromhex("16030100c8010000c40303") + bytes(range(194))
    with watch, socket.create_connection(server.host_port, timeout=20) as client:
        client.sendall(hello)
        answer = b""
        while piece := _receive(client):
            answer += piece
        assert not answer.startswith(b"\x16\x03"), "that was a TLS handshake"


def _receive(client: socket.socket) -> bytes:
    try:
        return client.recv(4096)
    except ConnectionResetError:
        return b""


@pytest.mark.bad_input(23)
def test_10_000_streams_opened_and_reset(server: Server, watch: Watch) -> None:
    headers = request_headers(PATHS["Search"])
    with watch, Connection(server.host_port) as connection:
        for number in range(10000):
            stream = 2 * number + 1
            opened = frame(HEADERS, END_HEADERS, stream, headers)
            reset = frame(RST_STREAM, 0, stream, (8).to_bytes(4, "big"))
            if not connection.send(opened + reset):
                break
        # The connection stays open, and for a while all threads are with its calls.
        fresh = Stubs(server.address)
        until(lambda: is_idle(server) and answers(fresh), "other clients get no answer", 20)
        fresh.close()


def answers(stubs: Stubs) -> bool:
    """Whether a search is answered; it may be refused for want of threads, and in no other way."""
    try:
        return len(stubs.call("Search", search(), timeout=20).hits) == 3
    except grpc.RpcError as error:
        if error.code() is not EXHAUSTED:
            raise
        return False


@pytest.mark.bad_input(24)
def test_half_a_frame_and_silence_holds_nobody_up(server: Server, watch: Watch) -> None:
    body = grpc_message(insert(record(9)).SerializeToString())
    beginnings = [
        b"", b"PRI * HT", PREFACE, PREFACE + frame(SETTINGS, 0, 0)[:5],
        PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 0, 1, request_headers("/"))[:30],
        PREFACE + frame(SETTINGS, 0, 0)
        + frame(HEADERS, END_HEADERS, 1, request_headers(PATHS["Insert"]))
        + frame(DATA, 0, 1, body)[:-3],
    ]  # fmt: skip
    with watch:
        silent = []
        for number in range(120):
            silent.append(socket.create_connection(server.host_port, timeout=20))
            silent[-1].sendall(beginnings[number % len(beginnings)])
        with ThreadPoolExecutor(8) as pool:
            fresh = [Stubs(server.address) for _ in range(8)]
            replies = pool.map(lambda stubs: stubs.call("Search", search(), timeout=20), fresh)
            assert [len(reply.hits) for reply in replies] == [3] * 8
        for stubs in fresh:
            stubs.close()
        for each in silent:
            each.close()


@pytest.mark.bad_input(70)
def test_a_batch_that_breaks_off_is_not_written(server: Server, watch: Watch) -> None:
    body = grpc_message(insert(*(record(n) for n in range(100, 200))).SerializeToString())
    with watch:
        for size in (5, len(body) // 2, len(body) - 1):
            for ending in (RST_STREAM, END_STREAM, None):
                with Connection(server.host_port) as connection:
                    headers = request_headers(PATHS["Insert"])
                    connection.send(frame(HEADERS, END_HEADERS, 1, headers))
                    flags = END_STREAM if ending == END_STREAM else 0
                    connection.send(frame(DATA, flags, 1, body[:size]))
                    if ending == RST_STREAM:
                        connection.send(frame(RST_STREAM, 0, 1, (8).to_bytes(4, "big")))
                    connection.round_trip()


@pytest.mark.bad_input(4)
def test_the_deepest_value_that_protobuf_reads_is_refused_by_us(refused: Check) -> None:
    data = insert_of_value(nested_value(40))
    refused(Case(4, "", "Insert", data, grpc.StatusCode.INVALID_ARGUMENT, "nested .*16"))
