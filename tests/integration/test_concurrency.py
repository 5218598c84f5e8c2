"""Many clients at once while segments close, build and merge under them."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from azimuth_db import Collection, VectorField
from server_process import ServerProcess

THREADS, ROUNDS, SECONDS, DIM = 8, 8, 0.3, 4
# Every tick of the clock closes what is growing, between the writes of others.
ALWAYS_CLOSING = ("--growing-rows-max", "4096", "--graph-rows-min", "1", "--growing-idle-ms", "0")


def test_rows_that_come_while_a_segment_closes_are_found_at_once_and_after_a_kill(
    server_factory: Callable[..., ServerProcess],
) -> None:
    server = server_factory(*ALWAYS_CLOSING)
    with server.client() as db:
        db.create_collection("items", {"v": VectorField(DIM, "l2")})
    keys: list[int] = []
    for number in range(ROUNDS):
        with server.client() as db:
            items = db.collection("items")
            deadline = time.monotonic() + SECONDS

            def write(
                thread: int,
                items: Collection = items,
                deadline: float = deadline,
                number: int = number,
            ) -> list[int]:
                rng = np.random.default_rng([number, thread])
                written: list[int] = []
                while time.monotonic() < deadline:
                    first = (number * THREADS + thread) * 1_000_000 + len(written)
                    added = list(range(first, first + int(rng.integers(1, 8))))
                    items.insert(added, rng.normal(size=(len(added), DIM)))
                    assert [r and r.key for r in items.get(added[:1])] == added[:1]
                    written += added
                return written

            with ThreadPoolExecutor(THREADS) as pool:
                keys += [key for part in pool.map(write, range(THREADS)) for key in part]
        server.restart(hard=True)
        with server.client() as db:
            items = db.collection("items")
            assert [r and r.key for r in items.get(keys)] == keys
            assert items.count() == len(keys)
