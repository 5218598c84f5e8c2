"""The lines of bench/lib/search_session.h, answered by a searcher in Python."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Searcher:
    """What is measured.

    Attributes:
        in_batches: Whether `search` takes all queries at once, as a library does in C++.
    """

    in_batches = False

    def set_effort(self, name: str, value: float, limit: int) -> None:
        """Sets how all searches from now on are made. ValueError if there is no such effort."""
        raise NotImplementedError

    def search(self, query: Array) -> Any:
        """Searches for one query, or for all if it takes them `in_batches`; returns what it got."""
        raise NotImplementedError

    def ids(self, found: Any) -> list[int]:
        """Returns the ids in what `search` returned for one query, nearest first."""
        raise NotImplementedError


def run(searcher: Searcher, queries: Array, about: dict[str, Any], out: TextIO) -> None:
    """Prints a line about it, and then answers the lines of the standard input until it ends."""
    print(json.dumps(about), file=out, flush=True)
    for line in sys.stdin:
        try:
            answer = _answer(searcher, queries, line.split())
        except Exception as error:  # The database's own kinds of errors.
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=out, flush=True)


def _answer(searcher: Searcher, queries: Array, words: list[str]) -> dict[str, Any]:
    command, effort, limit = words[0], words[1], int(words[2])
    name, _, value = effort.partition("=")
    searcher.set_effort(name, float(value or 0), limit)
    if command == "check":
        return {}
    if command == "answers":
        found = np.full((len(queries), limit), -1, np.int64)
        if searcher.in_batches:
            found[:] = searcher.search(queries)
        else:
            for row, query in zip(found, queries):
                ids = searcher.ids(searcher.search(query))
                row[: len(ids)] = ids
        found.tofile(words[3])
        return {"queries": len(queries)}
    if command != "time" or words[3] != "1":
        raise ValueError(f"{words}: expected time with one thread, answers or check")
    return _time(searcher, queries, float(words[4]))


def _time(searcher: Searcher, queries: Array, seconds: float) -> dict[str, Any]:
    allowed = os.sched_getaffinity(0)
    if searcher.in_batches:
        os.sched_setaffinity(0, {min(allowed)})
    try:
        warm, _ = _rounds(searcher, queries, 1)
        rounds = max(1, math.ceil(seconds / max(warm, 1e-6)))
        cpu = time.process_time()
        taken, nanos = _rounds(searcher, queries, rounds)
        cpu = time.process_time() - cpu
    finally:
        os.sched_setaffinity(0, allowed)
    searches = rounds * len(queries)
    measured: dict[str, Any] = {
        "searches": searches,
        "seconds": taken,
        "qps": searches / taken,
        "cpu_us": cpu * 1e6 / searches,
    }
    if nanos:
        ordered = np.sort(nanos) / 1e3
        for name, share in (("p50_us", 0.5), ("p99_us", 0.99)):
            measured[name] = float(ordered[max(math.ceil(share * len(ordered)), 1) - 1])
    return measured


def _rounds(searcher: Searcher, queries: Array, rounds: int) -> tuple[float, list[int]]:
    """Returns the seconds of all, and the nanoseconds of each search unless they are batches."""
    nanos: list[int] = []
    start = before = time.perf_counter_ns()
    for _ in range(rounds):
        if searcher.in_batches:
            searcher.search(queries)
            continue
        for query in queries:
            searcher.search(query)
            now = time.perf_counter_ns()
            nanos.append(now - before)
            before = now
    return (time.perf_counter_ns() - start) / 1e9, nanos


def read(path: str) -> Array:
    """Returns the vectors of an .npy file in memory."""
    return np.ascontiguousarray(np.load(Path(path)), np.float32)
