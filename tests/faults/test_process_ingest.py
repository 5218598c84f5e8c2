"""Bulk loads over a server that is killed and a network that cuts: each batch once, whole."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from azimuth_db import Client, Collection, VectorField
from conftest import Make
from fault_server import FaultServer, free_port, wait_for
from proxy import Proxy
from server_process import TINY_SEGMENTS
from verify import verify

DIM = 32
ROWS = 40
BATCHES = 150
TINY = (*TINY_SEGMENTS, "--bulk-commit-kb", "1", "--write-buffer-mb", "1")


def batch(number: int) -> dict[str, Any]:
    """Returns batch `number`, from 1 on: keys and vectors that say what they are."""
    keys = np.arange((number - 1) * ROWS, number * ROWS)
    vectors = np.ones((ROWS, DIM), np.float32) * keys[:, None]
    return {"keys": keys, "vectors": vectors, "fields": {"batch": np.full(ROWS, number)}}


def batches() -> Iterator[dict[str, Any]]:
    """Yields all batches, so slowly that they are not applied in one or two groups."""
    for number in range(1, BATCHES + 1):
        if number % 5 == 0:
            time.sleep(0.01)
        yield batch(number)


def check(items: Collection, number: int = BATCHES) -> None:
    """Asserts that batches up to `number` are there, whole and once."""
    assert items.count() == number * ROWS
    for record in items.get(range(number * ROWS), output_vectors=["v"]):
        assert record is not None
        assert record.fields["batch"] == record.key // ROWS + 1
        assert (record.vectors["v"] == record.key).all()


class Restarted:
    """A server at one address that is started again whenever it was killed."""

    def __init__(self, server: FaultServer) -> None:
        """Starts it for the first time as it is armed."""
        self.server = server
        self.kills = 0
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep)

    def __enter__(self) -> Restarted:
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._keeper.join()

    def _keep(self) -> None:
        while not self._over.wait(0.02):
            if self.server.exit_code() is not None:
                assert self.server.wait() == -signal.SIGKILL
                self.kills += 1
                self.server.start()


@pytest.mark.parametrize(
    ("failpoint", "visit"),
    [
        pytest.param("tables.before_take_in", 2, marks=pytest.mark.fault(1)),
        pytest.param("tables.before_take_in", 9, marks=pytest.mark.fault(1)),
        pytest.param("tables.after_take_in", 2, marks=pytest.mark.fault(1)),
        pytest.param("tables.after_take_in", 9, marks=pytest.mark.fault(1)),
        pytest.param("commit.after_log", 2, marks=pytest.mark.fault(3)),
        pytest.param("commit.after_log", 9, marks=pytest.mark.fault(3)),
        pytest.param("commit.before_publish", 5, marks=pytest.mark.fault(3)),
        pytest.param("ingest.before_ack", 1, marks=pytest.mark.fault(4)),
        pytest.param("ingest.before_ack", 4, marks=pytest.mark.fault(4)),
    ],
)
def test_a_load_over_a_kill_applies_each_batch_once(make: Make, failpoint: str, visit: int) -> None:
    server = make(*TINY, "--listen", f"127.0.0.1:{free_port()}")
    with server.start().client() as db:
        db.create_collection("items", {"v": VectorField(DIM, "l2")}, {"batch": "int64"})
    server.stop()
    server.start({"AZIMUTH_FAILPOINTS": f"{failpoint}=kill@{visit}"})
    with Restarted(server) as keeper, Client(server.address) as db:
        items = db.collection("items")
        done = items.ingest(batches(), mode="insert", timeout=60)
        assert (done.batches, done.inserted, done.refused) == (BATCHES, BATCHES * ROWS, ())
        assert keeper.kills == 1
        check(items)
        assert db.verify(deep=True).sound
        items.wait_indexed()
        check(items)


@pytest.mark.parametrize(
    ("failpoint", "visit"),
    [
        pytest.param("tables.after_take_in", 4, marks=pytest.mark.fault(1)),
        pytest.param("commit.after_log", 5, marks=pytest.mark.fault(3)),
        pytest.param("ingest.before_ack", 3, marks=pytest.mark.fault(4)),
    ],
)
def test_a_load_over_a_kill_tells_each_key_that_the_server_made_once(
    make: Make, failpoint: str, visit: int
) -> None:
    server = make(*TINY, "--listen", f"127.0.0.1:{free_port()}")
    with server.start().client() as db:
        fields = {"n": "int64"}
        db.create_collection("items", {"v": VectorField(DIM, "l2")}, fields, auto_id=True)
    server.stop()
    server.start({"AZIMUTH_FAILPOINTS": f"{failpoint}=kill@{visit}"})
    told: list[tuple[int, list[int]]] = []
    with Restarted(server) as keeper, Client(server.address) as db:
        items = db.collection("items")
        keyless = (
            {"vectors": part["vectors"], "fields": {"n": part["keys"]}} for part in batches()
        )
        done = items.ingest(
            keyless,
            mode="insert",
            timeout=60,
            on_keys=lambda number, keys: told.append((number, keys.tolist())),
        )
        assert (done.batches, done.inserted) == (BATCHES, BATCHES * ROWS)
        assert keeper.kills == 1
        assert [number for number, _ in told] == list(range(1, BATCHES + 1))
        keys = [key for _, made in told for key in made]
        assert len(set(keys)) == len(keys) == items.count() == BATCHES * ROWS
        # After the kill there may be a gap, but nothing comes back: what was lost was told to none.
        assert keys == sorted(keys)
        for n, record in enumerate(items.get(keys, output_vectors=["v"])):
            assert record is not None
            assert record.fields["n"] == n
            assert (record.vectors["v"] == n).all()
        assert db.verify(deep=True).sound


@pytest.mark.fault(1)
def test_what_a_death_between_tables_and_commit_leaves_goes_away(make: Make) -> None:
    server = make(*TINY)
    with server.start().client() as db:
        items = db.create_collection("items", {"v": VectorField(DIM, "l2")}, {"batch": "int64"})
        items.insert(**batch(1))
    server.stop()
    server.start({"AZIMUTH_FAILPOINTS": "tables.after_take_in=kill@1"})
    with server.client() as db, pytest.raises(ConnectionError):
        db.collection("items").insert(**batch(2), relaxed=True)
    assert server.wait() == -signal.SIGKILL
    # A look that changes nothing finds nothing wrong with it.
    assert verify(server.binary, server.data_dir) == []
    with server.start().client() as db:
        items = db.collection("items")
        check(items, 1)
        # Rows that get the ids of those, and have no vectors.
        items.insert(batch(2)["keys"], fields=batch(2)["fields"])
        for record in items.get(batch(2)["keys"], output_vectors=["v"]):
            assert record is not None
            assert "v" not in record.vectors
        server.restart(hard=True)
    with server.client() as db:
        for record in db.collection("items").get(batch(2)["keys"], output_vectors=["v"]):
            assert record is not None
            assert "v" not in record.vectors
        assert db.verify(deep=True).sound


def test_a_load_over_a_network_that_cuts_applies_each_batch_once(make: Make) -> None:
    server = make(*TINY)
    with server.start().client() as db:
        db.create_collection("items", {"v": VectorField(DIM, "l2")}, {"batch": "int64"})
    with Proxy(server.host_port) as proxy, Client(proxy.address) as db:
        items = db.collection("items")

        def cut_now_and_then() -> Iterator[dict[str, Any]]:
            for number in range(1, BATCHES + 1):
                if number % 30 == 0:
                    wait_for("some batches", lambda: direct.count() > 0)
                    proxy.cut()
                yield batch(number)

        with server.client() as other:
            direct = other.collection("items")
            done = items.ingest(cut_now_and_then(), mode="insert", timeout=60)
            assert (done.batches, done.inserted) == (BATCHES, BATCHES * ROWS)
            check(direct)
