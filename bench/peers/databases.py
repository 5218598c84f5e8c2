#!/usr/bin/env python3
"""Vector databases beside ours, each through its own client, one query at a time.

    databases.py NAME METRIC VECTORS QUERIES FOLDER

Loads row i of VECTORS under id i into FOLDER, with the database's own defaults for the index,
prints one line about it, and then answers the lines of session.py. METRIC: l2 or cosine. Efforts:
"default" (its own defaults of a search) and "ef". A database of its own process is started here
and ends with this.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from session import Array, Searcher, read, run

BATCH_ROWS = 1000
REFINED = 2  # Candidates for each hit, where a database has codes only in its graph.


class Database(Searcher):
    """One of them. `package` is what its version is of, `server` whether it is a process apart."""

    package = ""
    server = False

    def __init__(self, folder: Path, metric: str, dim: int) -> None:
        """Makes an empty collection."""
        raise NotImplementedError

    def load(self, vectors: Array) -> None:
        """Writes all rows."""
        raise NotImplementedError

    def index(self) -> None:
        """Builds what is not built yet."""

    def about(self) -> dict[str, Any]:
        """Returns what else belongs beside its figures."""
        return {}

    def close(self) -> None:
        """Ends it."""


def batches(vectors: Array) -> Iterator[tuple[int, Array]]:
    """Yields parts of the rows, each with the number of its first."""
    for first in range(0, len(vectors), BATCH_ROWS):
        yield first, vectors[first : first + BATCH_ROWS]


def no_such(effort: str) -> ValueError:
    """Returns the error of an effort that none has."""
    return ValueError(f"effort {effort}: expected default or ef")


class Chroma(Database):
    """Chroma in this process, with its files."""

    package = "chromadb"

    def __init__(self, folder: Path, metric: str, dim: int) -> None:
        import chromadb
        from chromadb.config import Settings

        client = chromadb.PersistentClient(str(folder), Settings(anonymized_telemetry=False))
        space = {"hnsw": {"space": metric}}
        self._rows = client.create_collection("rows", configuration=space, embedding_function=None)
        self._limit, self._ef = 10, 0

    def load(self, vectors: Array) -> None:
        for first, part in batches(vectors):
            ids = [str(first + i) for i in range(len(part))]
            self._rows.add(ids=ids, embeddings=part)

    def set_effort(self, name: str, value: float, limit: int) -> None:
        self._limit = limit
        if name not in ("default", "ef"):
            raise no_such(name)
        ef = int(value) if name == "ef" else 100  # Its default.
        if ef != self._ef:
            self._rows.modify(configuration={"hnsw": {"ef_search": ef}})
            self._ef = ef

    def search(self, query: Array) -> Any:
        return self._rows.query(query_embeddings=[query], n_results=self._limit, include=[])

    def ids(self, found: Any) -> list[int]:
        return [int(key) for key in found["ids"][0]]


class Lance(Database):
    """LanceDB in this process, with an index IVF_HNSW_SQ."""

    package = "lancedb"

    def __init__(self, folder: Path, metric: str, dim: int) -> None:
        import lancedb

        self._db = lancedb.connect(str(folder))
        self._metric, self._dim = metric, dim
        self._limit, self._ef = 10, 0

    def load(self, vectors: Array) -> None:
        import pyarrow

        rows = pyarrow.FixedSizeListArray.from_arrays(vectors.ravel(), self._dim)
        table = pyarrow.table({"key": np.arange(len(vectors)), "v": rows})
        self._table = self._db.create_table("rows", table)

    def index(self) -> None:
        self._table.create_index(
            metric=self._metric, vector_column_name="v", index_type="IVF_HNSW_SQ"
        )

    def set_effort(self, name: str, value: float, limit: int) -> None:
        if name not in ("default", "ef"):
            raise no_such(name)
        self._limit = limit
        # It must reach as far as what is refined.
        self._ef = max(int(value), REFINED * limit) if name == "ef" else 0

    def search(self, query: Array) -> Any:
        search = self._table.search(query).limit(self._limit).select(["key"])
        if self._ef:
            # Codes of 8 bits need their best in full precision to reach a high recall.
            search = search.ef(self._ef).refine_factor(REFINED)
        return search.to_arrow()

    def ids(self, found: Any) -> list[int]:
        return list(found["key"].to_pylist())


class Qdrant(Database):
    """Qdrant's engine in this process."""

    package = "qdrant-edge-py"

    def __init__(self, folder: Path, metric: str, dim: int) -> None:
        import qdrant_edge as edge

        self._edge = edge
        distance = edge.Distance.Euclid if metric == "l2" else edge.Distance.Cosine
        (folder / "shard").mkdir()
        self._shard = edge.EdgeShard.create(
            str(folder / "shard"), edge.EdgeConfig(vectors=edge.EdgeVectorParams(dim, distance))
        )
        self._limit, self._params = 10, None

    def load(self, vectors: Array) -> None:
        for first, part in batches(vectors):
            points = [self._edge.Point(first + i, row.tolist(), {}) for i, row in enumerate(part)]
            self._shard.update(self._edge.UpdateOperation.upsert_points(points))
        self._shard.flush()

    def index(self) -> None:
        self._shard.optimize()

    def set_effort(self, name: str, value: float, limit: int) -> None:
        if name not in ("default", "ef"):
            raise no_such(name)
        self._limit = limit
        self._params = self._edge.SearchParams(hnsw_ef=int(value)) if name == "ef" else None

    def search(self, query: Array) -> Any:
        edge = self._edge
        return self._shard.query(
            edge.QueryRequest(
                limit=self._limit,
                query=edge.Query.Nearest(query.tolist()),
                params=self._params,
                with_vector=False,
                with_payload=False,
            )
        )

    def ids(self, found: Any) -> list[int]:
        return [int(point.id) for point in found]

    def close(self) -> None:
        self._shard.close()


class Milvus(Database):
    """Milvus Lite: its client and a server in this process, HNSW by Faiss."""

    package = "milvus-lite"

    def __init__(self, folder: Path, metric: str, dim: int) -> None:
        from pymilvus import DataType, MilvusClient

        self._client = MilvusClient(str(folder / "milvus.db"))
        schema = self._client.create_schema(auto_id=False)
        schema.add_field("key", DataType.INT64, is_primary=True)
        schema.add_field("v", DataType.FLOAT_VECTOR, dim=dim)
        self._client.create_collection("rows", schema=schema)
        self._metric = {"l2": "L2", "cosine": "COSINE"}[metric]
        self._limit: int = 10
        self._params: dict[str, Any] = {}

    def load(self, vectors: Array) -> None:
        for first, part in batches(vectors):
            rows = [{"key": first + i, "v": row} for i, row in enumerate(part)]
            self._client.insert("rows", rows)
        self._client.flush("rows")

    def index(self) -> None:
        params = self._client.prepare_index_params()
        params.add_index(
            "v",
            index_type="HNSW",
            metric_type=self._metric,
            params={"M": 16, "efConstruction": 200},  # It has no defaults for them.
        )
        self._client.create_index("rows", params)
        self._client.load_collection("rows")

    def set_effort(self, name: str, value: float, limit: int) -> None:
        if name not in ("default", "ef"):
            raise no_such(name)
        self._limit = limit
        self._params = {"params": {"ef": int(value)}} if name == "ef" else {}

    def search(self, query: Array) -> Any:
        return self._client.search(
            "rows", [query], limit=self._limit, search_params=self._params, anns_field="v"
        )

    def ids(self, found: Any) -> list[int]:
        return [int(hit["key"]) for hit in found[0]]

    def close(self) -> None:
        self._client.close()


class DuckDb(Database):
    """DuckDB with its extension vss, in this process. Its index lives in memory."""

    package = "duckdb"

    def __init__(self, folder: Path, metric: str, dim: int) -> None:
        import duckdb
        import duckdb_extension_vss

        found = Path(duckdb_extension_vss.__file__).parent.rglob("vss.duckdb_extension")
        self._db = duckdb.connect(config={"allow_unsigned_extensions": "true"})
        self._db.execute(f"LOAD '{next(found)}'")
        self._db.execute(f"CREATE TABLE rows (key BIGINT, v FLOAT[{dim}])")
        self._kind = {"l2": "l2sq", "cosine": "cosine"}[metric]
        function = {"l2": "array_distance", "cosine": "array_cosine_distance"}[metric]
        self._sql = f"SELECT key FROM rows ORDER BY {function}(v, ?::FLOAT[{dim}]) LIMIT "
        self._dim, self._limit = dim, 10

    def load(self, vectors: Array) -> None:
        import pyarrow

        for first, part in batches(vectors):
            rows = pyarrow.FixedSizeListArray.from_arrays(part.ravel(), self._dim)
            table = pyarrow.table({"key": np.arange(first, first + len(part)), "v": rows})
            self._db.register("part", table)
            self._db.execute("INSERT INTO rows SELECT key, v FROM part")
            self._db.unregister("part")

    def index(self) -> None:
        self._db.execute(f"CREATE INDEX graph ON rows USING HNSW (v) WITH (metric='{self._kind}')")

    def set_effort(self, name: str, value: float, limit: int) -> None:
        if name not in ("default", "ef"):
            raise no_such(name)
        self._limit = limit
        reset = "RESET hnsw_ef_search"
        self._db.execute(reset if name == "default" else f"SET hnsw_ef_search = {int(value)}")

    def search(self, query: Array) -> Any:
        return self._db.execute(f"{self._sql}{self._limit}", [query.tolist()]).fetchall()

    def ids(self, found: Any) -> list[int]:
        return [row[0] for row in found]

    def about(self) -> dict[str, Any]:
        return {"extension": metadata.version("duckdb-extension-vss")}


class Pgvector(Database):
    """PostgreSQL with pgvector, a server, over a socket. As root it runs as the user nobody."""

    package = "pgserver"
    server = True

    def __init__(self, folder: Path, metric: str, dim: int) -> None:
        import pgserver
        import psycopg

        programs = Path(pgserver.__file__).parent / "pginstall/bin"
        self._folder = Path("/tmp") / f"azimuth_bench_pg_{os.getpid()}"
        self._folder.mkdir()
        user: dict[str, Any] = {}
        if os.geteuid() == 0:
            shutil.chown(self._folder, "nobody", "nogroup")
            user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "cwd": self._folder, **user}
        data = self._folder / "data"
        subprocess.run(
            [programs / "initdb", "-D", data, "-A", "trust", "-U", "bench"], check=True, **quiet
        )
        settings = [f"unix_socket_directories={self._folder}", "listen_addresses="]
        options = [word for setting in settings for word in ("-c", setting)]
        with open(self._folder / "log", "wb") as log:
            self._process = subprocess.Popen(
                [programs / "postgres", "-D", data, *options], stderr=log, **quiet
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                self._db = psycopg.connect(
                    host=str(self._folder), user="bench", dbname="postgres", autocommit=True
                )
                break
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.05)
        self._db.execute("CREATE EXTENSION vector")
        self._db.execute(f"CREATE TABLE rows (key bigint PRIMARY KEY, v vector({dim}))")
        self._operators = {"l2": "vector_l2_ops", "cosine": "vector_cosine_ops"}[metric]
        self._sql = f"SELECT key FROM rows ORDER BY v {'<->' if metric == 'l2' else '<=>'} %b LIMIT"
        self._limit = 10

    def load(self, vectors: Array) -> None:
        copy = "COPY rows FROM STDIN (FORMAT BINARY)"
        with self._db.cursor() as cursor, cursor.copy(copy) as rows:
            rows.set_types(["int8", "bytea"])
            for key, row in enumerate(vectors):
                rows.write_row((key, self._binary(row)))

    def index(self) -> None:
        self._db.execute(f"CREATE INDEX ON rows USING hnsw (v {self._operators})")
        self._db.execute("VACUUM ANALYZE rows")

    def set_effort(self, name: str, value: float, limit: int) -> None:
        if name not in ("default", "ef"):
            raise no_such(name)
        self._limit = limit
        reset = "RESET hnsw.ef_search"
        self._db.execute(reset if name == "default" else f"SET hnsw.ef_search = {int(value)}")

    def search(self, query: Array) -> Any:
        text = "[" + ",".join(map(str, query.tolist())) + "]"
        sql = f"{self._sql} {self._limit}".replace("%b", "%s::vector")
        return self._db.execute(sql, [text], prepare=True).fetchall()

    def ids(self, found: Any) -> list[int]:
        return [row[0] for row in found]

    def about(self) -> dict[str, Any]:
        found = self._db.execute(
            "SELECT version(), extversion FROM pg_extension WHERE extname = 'vector'"
        ).fetchone()
        return {"postgres": found[0].split(" on ")[0], "pgvector": found[1]}

    def close(self) -> None:
        self._db.close()
        self._process.terminate()
        self._process.wait(60)
        shutil.rmtree(self._folder, ignore_errors=True)

    @staticmethod
    def _binary(row: Array) -> bytes:
        return len(row).to_bytes(2, "big") + b"\0\0" + row.astype(">f4").tobytes()


class Zvec(Database):
    """Zvec in this process."""

    package = "zvec"

    def __init__(self, folder: Path, metric: str, dim: int) -> None:
        import zvec

        self._zvec = zvec
        zvec.init(log_level=zvec.LogLevel.ERROR)
        kind = {"l2": zvec.MetricType.L2, "cosine": zvec.MetricType.COSINE}[metric]
        vector = zvec.VectorSchema(
            "v", zvec.DataType.VECTOR_FP32, dim, zvec.HnswIndexParam(metric_type=kind)
        )
        self._rows = zvec.create_and_open(
            str(folder / "rows"), zvec.CollectionSchema("rows", vectors=vector)
        )
        self._limit, self._param = 10, None

    def load(self, vectors: Array) -> None:
        for first, part in batches(vectors):
            self._rows.insert(
                [
                    self._zvec.Doc(id=str(first + i), vectors={"v": row.tolist()})
                    for i, row in enumerate(part)
                ]
            )
        self._rows.flush()

    def index(self) -> None:
        self._rows.optimize()

    def set_effort(self, name: str, value: float, limit: int) -> None:
        if name not in ("default", "ef"):
            raise no_such(name)
        self._limit = limit
        self._param = self._zvec.HnswQueryParam(ef=int(value)) if name == "ef" else None

    def search(self, query: Array) -> Any:
        asked = self._zvec.Query("v", vector=query.tolist(), param=self._param)
        return self._rows.query(asked, topk=self._limit, output_fields=[])

    def ids(self, found: Any) -> list[int]:
        return [int(row.id) for row in found]


DATABASES: dict[str, type[Database]] = {
    "chroma": Chroma,
    "duckdb_vss": DuckDb,
    "lancedb": Lance,
    "milvus_lite": Milvus,
    "pgvector": Pgvector,
    "qdrant_edge": Qdrant,
    "zvec": Zvec,
}


def main(arguments: list[str]) -> int:
    """Loads one and serves until the input ends."""
    if len(arguments) != 5 or arguments[0] not in DATABASES:
        print(f"{__doc__}\nNAME is one of {', '.join(DATABASES)}", file=sys.stderr)
        return 2
    name, metric, vectors, queries = arguments[:4]
    folder = Path(arguments[4])
    folder.mkdir(parents=True, exist_ok=True)
    base = read(vectors)
    # Only our lines go to where they are read: some databases print.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    database = DATABASES[name](folder, metric, base.shape[1])
    with contextlib.closing(database):
        start = time.monotonic()
        database.load(base)
        loaded = time.monotonic()
        database.index()
        about = {
            "version": metadata.version(database.package),
            "server": database.server,
            "load_s": round(loaded - start, 2),
            "index_s": round(time.monotonic() - loaded, 2),
            **database.about(),
        }
        run(database, read(queries), about, out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
