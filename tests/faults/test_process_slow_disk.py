"""A disk whose syncs take long."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from azimuth_db import Client, DeadlineExceeded, Unavailable
from conftest import Make
from fault_items import Items, Load
from fault_server import FaultServer, shimmed, wait_for

SYNC_MS = 250


def fill(server: FaultServer, rows: int = 1000, dimension: int = 8) -> Items:
    items = Items(dimension=dimension)
    with server.start().client() as db:
        items.create(db)
        items.insert(db, range(rows))
    return items


@pytest.mark.fault(34)
def test_slow_syncs_are_shared_and_searches_do_not_wait_for_them(make: Make) -> None:
    # Without builds, each of which has commits of its own.
    server = make()
    shim = shimmed(server)
    items, still = fill(server, 10), Items("still")
    with server.client() as db:
        still.create(db)
        still.insert(db, range(1000))
        db.collection("still").wait_indexed()
        shim.set(f"sync(rocks/*.log)@1=sleep:{SYNC_MS}:sticky")
        with Load(items, server.address, threads=16) as load:
            wait_for("the load runs", lambda: load.acknowledged > 16)
            # Groups grow: many batches are acknowledged by one sync.
            first, syncs = load.acknowledged, shim.counts()["fdatasync"]
            wait_for("some syncs", lambda: shim.counts()["fdatasync"] >= syncs + 6)
            synced = shim.counts()["fdatasync"] - syncs
            assert load.acknowledged - first > 4 * synced, (load.acknowledged - first, synced)
            began, took = time.monotonic(), []
            while time.monotonic() < began + 4 * SYNC_MS / 1000:
                asked = time.monotonic()
                still.check_search(db)
                took.append(time.monotonic() - asked)
            took.sort()
            assert took[len(took) * 9 // 10] < SYNC_MS / 2000, "searches wait for syncs"
            # A deadline that is shorter than the sync is kept.
            with Client(server.address, timeout=SYNC_MS / 2500, retries=0) as hasty:
                asked = time.monotonic()
                with pytest.raises((DeadlineExceeded, Unavailable)):
                    items.upsert(hasty, range(10))
                assert time.monotonic() - asked < 4 * SYNC_MS / 1000
        shim.clear()
        assert not load.errors
        items.check(db)
    server.assert_sound()


@pytest.mark.fault(34)
def test_one_very_slow_sync_of_many_delays_only_those_who_wait_for_it(make: Make) -> None:
    server = make()
    shim = shimmed(server)
    items = fill(server, 100)
    with server.client() as db, ThreadPoolExecutor(1) as pool:
        shim.set("sync(rocks/*.log)@20=sleep:1500")
        began = time.monotonic()
        slow = pool.submit(lambda: [items.upsert(db, range(10)) for _ in range(30)])
        while not slow.done():
            items_there = db.collection("items").count()
            assert items_there == 100
        assert slow.result()
        assert 1.4 < time.monotonic() - began < 10
        assert shim.hits() == 1
        items.check(db)
    assert server.stop() == 0
