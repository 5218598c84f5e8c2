"""Clients and networks that misbehave: gone in mid-call, not reading, cut off, all at once."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from azimuth_db import AzimuthError, Client, Unavailable
from conftest import Make
from fault_items import Items, vectors_of
from fault_server import FaultServer, free_port, wait_for
from proxy import Proxy
from server_process import TINY_SEGMENTS

MIB = 1 << 20
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
SETTINGS = 4
NO_BUILDS = ("--growing-rows-max", "1000000", "--graph-rows-min", "1000000")
DIMENSION = 512
ROWS = 6000


def fill(server: FaultServer, rows: int = 1000, dimension: int = 8) -> Items:
    items = Items(dimension=dimension)
    with server.start().client() as db:
        items.create(db)
        for start in range(0, rows, 2000):
            items.insert(db, range(start, min(start + 2000, rows)))
    return items


def idle_after(server: FaultServer, began: float) -> float:
    """Waits until the server uses no processor; returns seconds since `began`."""
    seen = [server.cpu_seconds(), time.monotonic()]

    def idle() -> bool:
        now = time.monotonic()
        if now < seen[1] + 0.1:
            return False
        used, last = server.cpu_seconds(), seen[1]
        busy = (used - seen[0]) / (now - last) > 0.3
        seen[:] = [used, now]
        return not busy

    wait_for("the server is idle", idle, 20)
    return seen[1] - 0.1 - began


@pytest.mark.fault(38)
def test_a_client_that_is_gone_in_mid_search_costs_nothing_more(make: Make) -> None:
    server = make(*NO_BUILDS)
    items = fill(server, ROWS, DIMENSION)
    queries = vectors_of(range(4000), [9] * 4000, DIMENSION)

    def search(address: str) -> None:
        with Client(address, retries=0) as db:
            db.collection("items").search_batch(queries, 10, exact=True, output_fields=[])

    with Proxy(server.host_port) as proxy, ThreadPoolExecutor(4) as pool:
        before = server.memory()
        calls = [pool.submit(search, proxy.address) for _ in range(4)]
        used = server.cpu_seconds()
        wait_for("they run", lambda: server.cpu_seconds() > used + 0.3)
        assert not any(call.done() for call in calls), "the search is too short for this test"
        began = time.monotonic()
        proxy.cut()
        took = idle_after(server, began)
        for call in calls:
            with pytest.raises(Unavailable):
                call.result()
    assert took < 1.0, f"it went on for {took:.1f} s"
    wait_for("the memory is free", lambda: server.memory() < before + 64 * MIB, 20)
    with server.client() as db:
        items.check_search(db)


@pytest.mark.fault(38)
def test_a_client_that_is_gone_in_mid_write_leaves_whole_batches(make: Make) -> None:
    server = make(*TINY_SEGMENTS)
    items = fill(server, 100)
    with Proxy(server.host_port) as proxy:
        for i in range(10):
            with Client(proxy.address, retries=0) as db:
                wait_for("the proxy has let go of the last one", lambda: _answers(db))
                first = 10**4 * (i + 1)
                cut = threading.Timer(0.002 * i, proxy.cut)
                cut.start()
                with contextlib.suppress(Unavailable):
                    items.insert(db, range(first, first + 1000))
                cut.join()
    with server.client() as db:
        wait_for("nothing is under way", lambda: _settled(items, db))
        items.check(db)


def _answers(db: Client) -> bool:
    try:
        return db.collection("items").count() > 0
    except Unavailable:
        return False


def _settled(items: Items, db: Client) -> bool:
    """A batch whose client is gone is applied or not within the time of one call."""
    before = db.server_info().as_of
    items.upsert(db, [1])
    return db.server_info().as_of == before + 1


@pytest.mark.fault(39)
def test_clients_that_do_not_read_hold_one_reply_each_and_nobody_else_up(make: Make) -> None:
    server = make(*NO_BUILDS)
    items, small = fill(server, ROWS, DIMENSION), Items("small")
    reply_bytes = ROWS * DIMENSION * 4
    stalled = 16
    asked = threading.Barrier(stalled + 1)

    def ask(address: str) -> None:
        # Each with a connection of its own, and with more patience than the server.
        own = {"grpc.use_local_subchannel_pool": 1}
        with Client(address, timeout=300, retries=0, channel_options=own) as db:
            db.collection("items").count()
            asked.wait()
            db.collection("items").query(limit=ROWS, output_vectors=["v"])

    with (
        Proxy(server.host_port) as proxy,
        ThreadPoolExecutor(stalled) as pool,
        server.client() as db,
    ):
        small.create(db)
        small.insert(db, range(100))
        took = []

        def others_are_served() -> bool:
            began = time.monotonic()
            small.check_search(db)
            took.append(time.monotonic() - began)
            return True

        before, sockets = server.memory(), server.sockets()
        calls = [pool.submit(ask, proxy.address) for _ in range(stalled)]
        wait_for("all are connected", lambda: asked.n_waiting == stalled)
        proxy.stall_replies()
        asked.wait()

        def grown() -> int:
            others_are_served()
            return server.memory() - before

        wait_for("the replies are in memory", lambda: grown() > stalled * reply_bytes // 2)
        assert server.sockets() == sockets + stalled

        def ended() -> bool:
            others_are_served()
            return server.sockets() <= sockets

        # By the server: the clients wait on, and the proxy reads nothing.
        wait_for("their connections are closed", ended)
        # Of each what was asked for, as records and as bytes.
        peak = server.memory("VmHWM") - before
        assert peak < stalled * 4 * reply_bytes
        assert grown() < peak * 0.6, "their memory is not given back"
        assert sorted(took)[len(took) // 2] < 0.1, "others wait"
        proxy.cut()
        for call in calls:
            with pytest.raises(AzimuthError):
                call.result()
    with server.client() as db:
        items.check(db)


@pytest.mark.fault(41)
def test_a_thousand_reconnects_at_once_after_a_restart_are_all_served(make: Make) -> None:
    server = make("--listen", f"127.0.0.1:{free_port()}")
    items = fill(server, 100)
    clients = [Client(server.address, timeout=30, retries=20) for _ in range(16)]
    for db in clients:
        items.check_search(db)
    server.kill()
    with ThreadPoolExecutor(len(clients)) as pool:
        searches = [pool.submit(items.check_search, db) for db in clients]
        server.start()
        began = time.monotonic()
        sockets = [socket.create_connection(server.host_port, timeout=30) for _ in range(1000)]
        try:
            for connection in sockets:
                connection.sendall(PREFACE)
            for connection in sockets:
                # A frame of settings is how a server begins: this one listens to us.
                assert connection.recv(9)[3] == SETTINGS
            assert time.monotonic() - began < 30
            for search in searches:
                search.result()
            with server.client() as db:
                items.check(db)
        finally:
            for connection in sockets:
                connection.close()
    for db in clients:
        db.close()
    wait_for("the connections are given back", lambda: server.sockets() < 20)
    with server.client() as db:
        items.check(db)


@pytest.mark.fault(42)
def test_over_a_network_that_delays_and_cuts_every_write_is_done_once(make: Make) -> None:
    server = make(*TINY_SEGMENTS)
    items = fill(server, 500)
    with Proxy(server.host_port) as proxy:
        proxy.delay_s = 0.005
        proxy.cut_chance = 0.03

        def write(first: int) -> None:
            with Client(proxy.address, timeout=60, retries=30) as db:
                for start in range(first, first + 100, 10):
                    # Not by itself idempotent: a second insert of a key is an error.
                    items.insert(db, range(start, start + 10))
                    items.delete(db, range(start, start + 3))

        def read() -> None:
            with Client(proxy.address, timeout=60, retries=30) as db:
                for _ in range(15):
                    [record, none] = db.collection("items").get([7, -1])
                    assert record is not None
                    assert none is None
                    found = db.collection("items").query("group == 3 and key < 500", 1000)
                    assert [r.key for r in found] == [key for key in range(500) if key % 7 == 3]

        with ThreadPoolExecutor(6) as pool:
            calls = [pool.submit(write, 1000 * i) for i in range(1, 5)]
            calls += [pool.submit(read) for _ in range(2)]
            for call in calls:
                call.result()
        assert proxy.cuts > 5, "the network was too good"
    assert not items.in_flight
    with server.client() as db:
        items.check(db)
    server.assert_sound()


@pytest.mark.fault(42)
def test_bytes_that_come_one_by_one_make_the_same_request(make: Make) -> None:
    server = make()
    items = fill(server, 50)
    with socket.create_connection(server.host_port) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in PREFACE:
            connection.sendall(bytes([byte]))
        readable, _, _ = select.select([connection], [], [], 10)
        assert readable
        assert connection.recv(9)[3] == SETTINGS
    with server.client() as db:
        items.check(db)
