#!/usr/bin/env python3
"""Faiss and usearch beside our searches, as their wheels on PyPI are.

    libraries.py build NAME METRIC VECTORS INDEX THREADS
    libraries.py serve NAME METRIC INDEX QUERIES

NAME: faiss_hnsw, faiss_hnsw_sq or usearch; METRIC: l2, or ip (of rows of length 1). M 16 and
efConstruction 200 as with all others. `serve` is driven by the lines of session.py, its effort is
ef; each round is one call with all queries and one thread, so that Python costs nothing.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from session import Array, Searcher, read, run

M = 16
EF_CONSTRUCTION = 200
SQ_TRAIN_ROWS = 50_000


def build_faiss(name: str, metric: str, vectors: Array, threads: int) -> Any:
    """Returns an index of all rows. SQ: 8 bits a dimension, trained on the first rows."""
    import faiss

    faiss.omp_set_num_threads(threads)
    kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    dim = vectors.shape[1]
    if name == "faiss_hnsw":
        index = faiss.IndexHNSWFlat(dim, M, kind)
    else:
        index = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_8bit, M, kind)
    index.hnsw.efConstruction = EF_CONSTRUCTION
    if not index.is_trained:
        index.train(vectors[:SQ_TRAIN_ROWS])
    index.add(vectors)
    return index


def make_usearch(metric: str, dim: int) -> Any:
    """Returns an empty index. Its connectivity is that of the upper levels, as M is."""
    from usearch.index import Index

    kind = "l2sq" if metric == "l2" else "ip"
    return Index(ndim=dim, metric=kind, dtype="f32", connectivity=M, expansion_add=EF_CONSTRUCTION)


def build(name: str, metric: str, path: str, index_path: str, threads: int) -> None:
    """Builds, saves, and says how long the first took."""
    import numpy as np

    vectors = read(path)
    start = time.monotonic()
    if name == "usearch":
        index = make_usearch(metric, vectors.shape[1])
        index.add(np.arange(len(vectors)), vectors, threads=threads)
        seconds = time.monotonic() - start
        index.save(index_path)
    else:
        import faiss

        index = build_faiss(name, metric, vectors, threads)
        seconds = time.monotonic() - start
        faiss.write_index(index, index_path)
    print(json.dumps({"rows": len(vectors), "threads": threads, "build_s": round(seconds, 3)}))


class Faiss(Searcher):
    """Either of its indexes."""

    in_batches = True

    def __init__(self, path: str) -> None:
        """Loads it."""
        import faiss

        faiss.omp_set_num_threads(1)
        self._index = faiss.read_index(path)
        self.about = {"version": faiss.__version__, "flags": faiss.get_compile_options().strip()}
        self._limit = 10

    def set_effort(self, name: str, value: float, limit: int) -> None:
        if name != "ef":
            raise ValueError(f"effort {name}: Faiss has ef only")
        self._index.hnsw.efSearch = int(value)
        self._limit = limit

    def search(self, query: Array) -> Any:
        return self._index.search(query, self._limit)[1]


class Usearch(Searcher):
    """usearch over float32."""

    in_batches = True

    def __init__(self, metric: str, path: str, dim: int) -> None:
        """Loads it."""
        import usearch

        self._index = make_usearch(metric, dim)
        self._index.load(path)
        self.about = {"version": usearch.__version__, "flags": self._index.hardware_acceleration}
        self._limit = 10

    def set_effort(self, name: str, value: float, limit: int) -> None:
        if name != "ef":
            raise ValueError(f"effort {name}: usearch has ef only")
        self._index.expansion_search = int(value)
        self._limit = limit

    def search(self, query: Array) -> Any:
        return self._index.search(query, self._limit, threads=1).keys.astype("int64")


def main(arguments: list[str]) -> int:
    """Builds, or serves until the input ends."""
    if len(arguments) == 6 and arguments[0] == "build":
        build(*arguments[1:5], int(arguments[5]))
        return 0
    if len(arguments) == 5 and arguments[0] == "serve":
        name, metric, path = arguments[1:4]
        queries = read(arguments[4])
        searcher = Usearch(metric, path, queries.shape[1]) if name == "usearch" else Faiss(path)
        run(searcher, queries, searcher.about, sys.stdout)
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
