#!/usr/bin/env python3
"""Our server through our client in Python, one query at a time, as bench/peers/databases.py has it.

    our_client.py PROGRAM FOLDER QUERIES

FOLDER has `data` with the collection "rows" of azimuth_inprocess_search_bench. Driven by the lines
of bench/peers/session.py; efforts: "default", "ef" and, where client and server have it, "recall".
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("bench/peers", "bench/lib", "tests/integration")]

import azimuth_db  # noqa: E402
from azimuth_db import AzimuthError, Collection  # noqa: E402
from server_process import ServerProcess  # noqa: E402
from servers import running  # noqa: E402
from session import Array, Searcher, read, run  # noqa: E402


class OurClient(Searcher):
    """A collection of a server."""

    def __init__(self, rows: Collection, recall: bool) -> None:
        """Starts with the defaults. `recall`: whether that can be asked for."""
        self._rows, self._has_recall = rows, recall
        self._limit = 10
        self._effort: dict[str, Any] = {}

    def set_effort(self, name: str, value: float, limit: int) -> None:
        self._limit = limit
        if name == "default":
            self._effort = {}
        elif name == "ef":
            self._effort = {"ef": int(value)}
        elif name == "recall" and self._has_recall:
            self._effort = {"recall": value}
        else:
            raise ValueError(f"effort {name}: client or server do not have it")

    def search(self, query: Array) -> Any:
        return self._rows.search(query, self._limit, output_fields=[], **self._effort)

    def ids(self, found: Any) -> list[int]:
        return [int(hit.key) for hit in found]


def serves_recall(rows: Collection, query: Array) -> bool:
    """Returns whether client and server can be asked for a recall."""
    if "recall" not in inspect.signature(Collection.search).parameters:
        return False
    try:
        asked: dict[str, Any] = {"recall": 0.95}
        rows.search(query, 1, output_fields=[], **asked)
    except AzimuthError:
        return False
    return True


def main(arguments: list[str]) -> int:
    """Serves until the input ends."""
    if len(arguments) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    server = ServerProcess(Path(arguments[1]), binary=arguments[0])
    with running(server) as client:
        rows = client.collection("rows")
        queries = read(arguments[2])
        by_recall = serves_recall(rows, queries[0])
        about = {
            "version": getattr(azimuth_db, "__version__", "unknown"),
            "server": True,
            "serves_recall": by_recall,
        }
        run(OurClient(rows, by_recall), queries, about, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
