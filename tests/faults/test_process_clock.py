"""A wall clock that is wrong, stands still or steps: it is data for expiries and nothing else."""

from __future__ import annotations

import time

import pytest
from azimuth_db import Client
from conftest import Make
from fault_items import Items, Load
from fault_server import FaultServer, shimmed, wait_for
from server_process import TINY_SEGMENTS

HOUR_US = 3600 * 10**6
YEAR_MS = 366 * 24 * 3600 * 1000
WRONG_CLOCKS = {
    "a year ahead": f"clock@1=offset:{YEAR_MS}:sticky",
    "a year behind": f"clock@1=offset:-{YEAR_MS}:sticky",
    "standing still": "clock@1=freeze:sticky",
}


def now_us() -> int:
    return time.time_ns() // 1000


def write_and_check(server: FaultServer, db: Client, items: Items, last: int) -> int:
    """Writes and reads in every way; returns the sequence number, which must be larger."""
    as_of = items.upsert(db, range(0, 1000, 3))
    assert as_of > last
    items.delete(db, range(1, 1000, 100))
    as_of = items.insert(db, range(10**4 + as_of * 300, 10**4 + as_of * 300 + 300))
    items.check(db)
    db.collection("items").wait_indexed(timeout=20)
    items.check(db)
    return as_of


@pytest.mark.fault(43)
@pytest.mark.parametrize("rules", WRONG_CLOCKS.values(), ids=WRONG_CLOCKS)
def test_with_a_wrong_clock_all_is_done_in_order(make: Make, rules: str) -> None:
    server = make(*TINY_SEGMENTS)
    shim = shimmed(server)
    items = Items()
    with server.start().client() as db:
        items.create(db)
        items.insert(db, range(1000))
        as_of = write_and_check(server, db, items, 0)
        shim.set(rules)
        for _ in range(2):
            as_of = write_and_check(server, db, items, as_of)
        # What is done once a second is still done.
        server.wait_synced(as_of)
        shim.clear()
        as_of = write_and_check(server, db, items, as_of)
    # The same for starts: into the wrong time, and out of it.
    for of_start in (rules, "", rules):
        shim.set(of_start)
        server.restart(hard=True)
        with server.client() as db:
            items.check(db)
            as_of = write_and_check(server, db, items, as_of)
    server.kill()
    shim.clear()
    server.assert_sound()


@pytest.mark.fault(43)
def test_a_clock_that_steps_under_load_loses_nothing(make: Make) -> None:
    server = make(*TINY_SEGMENTS)
    shim = shimmed(server)
    items = Items()
    with server.start().client() as db:
        items.create(db)
        with Load(items, server.address, threads=4) as load:
            for step_ms in (1, -1, 1000, -5000, 3600_000, -3600_000, 10**8, -(10**8), YEAR_MS, 0):
                seen = load.acknowledged
                shim.set(f"clock@1=offset:{step_ms}:sticky")
                wait_for("the load runs", lambda seen=seen: load.acknowledged > seen + 40)
        assert not load.errors
        assert not items.in_flight, "a deadline was measured by the wall clock"
        items.check(db)
    server.restart(hard=True)
    with server.client() as db:
        items.check(db)
    server.assert_sound()


@pytest.mark.fault(43)
def test_records_end_by_their_stored_time_as_the_clock_says(make: Make) -> None:
    server = make(*TINY_SEGMENTS)
    shim = shimmed(server)
    lasting, ending = range(300), range(1000, 1300)
    items = Items()
    with server.start().client() as db:
        items.create(db)
        items.insert(db, lasting)
        db.collection("items").insert(
            list(ending),
            [[0.0] * 8] * len(ending),
            {"group": [0] * len(ending), "generation": [1] * len(ending)},
            expires_at=now_us() + HOUR_US,
        )

        def count_ending() -> int:
            found = db.collection("items").get(list(ending), output_fields=[])
            there = sum(record is not None for record in found)
            assert db.collection("items").count("key >= 1000") == there
            assert db.collection("items").count() == there + len(lasting)
            return there

        assert count_ending() == 300
        shim.set(f"clock@1=offset:{-YEAR_MS}:sticky")
        assert count_ending() == 300
        shim.set("clock@1=offset:3500000:sticky")
        assert count_ending() == 300
        # A little more than an hour ahead: they are gone, with no other write.
        shim.set("clock@1=offset:3700000:sticky")
        assert count_ending() == 0
        items.check(db)
        # Back again: what is swept stays away, what is not may return; nothing is half there.
        shim.clear()
        count_ending()
        for key in lasting:
            assert db.collection("items").get([key], output_fields=[]) != [None]
    shim.set("clock@1=offset:3700000:sticky")
    server.restart(hard=True)
    with server.client() as db:
        items.check(db)
    server.kill()
    shim.clear()
    server.assert_sound()


@pytest.mark.fault(43)
def test_a_request_is_done_once_whatever_the_clock_says_between_its_tries(make: Make) -> None:
    server = make()
    shim = shimmed(server)
    items = Items()
    with server.start().client() as db:
        items.create(db)
        items.insert(db, range(10))
        first = db.collection("items").delete(keys=[1, 2], request_id="once")
        items.states.update({1: None, 2: None})
        shim.set(f"clock@1=offset:{-YEAR_MS}:sticky")
        again = db.collection("items").delete(keys=[1, 2], request_id="once")
        assert again.replayed
        assert again.as_of == first.as_of
        items.check(db)
