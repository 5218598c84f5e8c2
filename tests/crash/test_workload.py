"""What the load holds back, so that the oracle can tell what happened."""

from __future__ import annotations

import threading
from typing import Any

import grpc
from azimuth_db import Unavailable
from workload import Target, Writer


class Gone:
    """A collection of a server that has died."""

    def __init__(self) -> None:
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        def call(*_: object, **__: object) -> None:
            self.calls += 1
            raise Unavailable(grpc.StatusCode.UNAVAILABLE, f"{name}: connection refused")

        return call


def test_once_an_outcome_is_open_no_other_write_is_sent() -> None:
    target, stop, gone = Target("items", "l2", "int64"), threading.Event(), Gone()
    items: Any = gone
    first, second = (Writer(target, owner, 7, stop) for owner in (0, 1))
    assert not first.upsert(items)
    assert stop.is_set()
    assert [write.name for write in target.in_flight] == ["upsert"]
    assert not any(second.step(items) for _ in range(100))
    assert not second.truncate(items)
    assert gone.calls == 1
