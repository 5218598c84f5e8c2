#!/usr/bin/env python3
"""A tour of Azimuth with real pictures: load, search, filter, measure, crash, recover.

`./dev demo` builds the server and runs this. It starts a server of its own, and leaves a picture of
what was found in build/demo/ and the database in build/demo-data/.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

try:
    from azimuth_db import (
        AzimuthError,
        BatchResult,
        Client,
        Collection,
        CollectionStats,
        SearchResult,
        VectorField,
    )
    from contact_sheet import Block, Row, Tile, render
    from datasets import DataError, Dataset, Pixels, load
    from demo_server import DemoServer, ServerError, check_port, prepare_folder
    from latency import measure
except ImportError as missing:
    sys.exit(f"demo: {missing}.\nRun ./dev demo, or: pip install -e 'clients/python[demo]'")

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = "pictures"
TOP = 10
INSERT_ROWS = 10_000
QUERIES = 1_000
BATCH = 100
CHECKED = 5  # Queries whose exact answer numpy checks.
FILTERED_QUERIES = 50  # For each label.
LATE_ROWS = 500  # Inserted just before the crash.
COMPARED = 100  # Queries that are asked before and after the crash.
SCANNED_ROWS_MAX = 1_024  # A growing segment of fewer rows stays as it is (--graph-rows-min).
INDEX_S = 600.0
REPORT_S = 5.0  # Between lines of progress when nobody watches.
STEPS = 7

Floats = npt.NDArray[np.float32]


@dataclass
class Tour:
    """What the steps hand on to each other."""

    data: Dataset
    server: DemoServer
    figures: list[tuple[str, str]] = field(default_factory=list)
    step: int = 1

    @property
    def queries(self) -> Pixels:
        """The pictures that recall and speed are measured with."""
        return self.data.queries[:QUERIES]

    def note(self, name: str, value: str) -> None:
        """Says a figure, and keeps it for the table at the end."""
        print(f"      {name}: {value}", flush=True)
        self.figures.append((name, value))

    def connect(self) -> Client:
        """Returns a client of the server."""
        return Client(self.server.address, wait_ready=10.0, timeout=300.0)

    @contextlib.contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Numbers and times one step."""
        with timed(self.step, title):
            yield
        self.step += 1


@contextlib.contextmanager
def timed(number: int, title: str) -> Iterator[None]:
    """Prints a step's title and, once it is done, its time."""
    print(f"\n{number}/{STEPS}   {title}", flush=True)
    start = time.perf_counter()
    yield
    print(f"      done in {time.perf_counter() - start:.1f} s", flush=True)


def say(text: str) -> None:
    """Prints a line of the step that runs."""
    print(f"      {text}", flush=True)


# Steps.


def read_data(choice: str) -> Dataset:
    """Step 1: the pictures, and which ones they are."""
    data = load(choice, say)
    say(f"set: {data.title}")
    say(f"from: {data.origin}")
    if data.notes:
        say("passed over:")
        for text in data.notes:
            for line in text.splitlines():
                say(f"  {line}")
    say(
        f"{len(data.base):,} pictures of {data.side} x {data.side} pixels to search in, "
        f"{len(data.queries):,} others to search for"
    )
    return data


def insert(tour: Tour, db: Client) -> Collection:
    """Makes the collection and inserts all rows, in columns."""
    data = tour.data
    pictures = db.create_collection(
        COLLECTION,
        {"image": VectorField(dim=data.base.shape[1], metric="l2")},
        {"label": "int64", "name": "string"},
    )
    names = [data.names[label] for label in data.base_labels]
    rows = len(data.base)
    progress = Progress()
    start = time.perf_counter()
    for first in range(0, rows, INSERT_ROWS):
        part = slice(first, first + INSERT_ROWS)
        pictures.insert(
            keys=np.arange(rows)[part],
            vectors={"image": data.base[part]},
            fields={"label": data.base_labels[part], "name": names[part]},
        )
        done = min(rows, first + INSERT_ROWS)
        progress.show(f"{done:,} of {rows:,} rows inserted")
    seconds = time.perf_counter() - start
    progress.end()
    tour.note(
        "insert", f"{rows / seconds:,.0f} rows/s ({rows:,} in {seconds:.1f} s, each batch durable)"
    )
    return pictures


def wait_for_index(tour: Tour, pictures: Collection) -> None:
    """Waits until all rows are in sealed segments, or too few to deserve one."""
    progress = Progress()
    start = time.perf_counter()
    stats = pictures.stats()
    while not settled(stats):
        if stats.index_error:
            raise ServerError(f"building the index failed: {stats.index_error}")
        if time.perf_counter() - start > INDEX_S:
            raise ServerError(
                f"{stats.unindexed_rows} rows still wait for the index after {INDEX_S:.0f} s"
            )
        progress.show(f"{stats.unindexed_rows:,} of {stats.row_count:,} rows wait for the index")
        time.sleep(0.25)
        stats = pictures.stats()
    progress.end()
    sealed = sum(segment.state == "sealed" for segment in stats.segments)
    file_bytes = sum(segment.file_bytes for segment in stats.segments)
    tour.note(
        "index",
        f"{time.perf_counter() - start:.1f} s after the last insert: segments: {sealed}, "
        f"{file_bytes / 2**20:,.0f} MiB",
    )
    if stats.unindexed_rows:
        say(f"{stats.unindexed_rows:,} rows are too few for a graph: searches scan them")


def settled(stats: CollectionStats) -> bool:
    """Whether nothing is built or about to be."""
    waiting = [segment for segment in stats.segments if segment.state != "sealed"]
    return stats.unindexed_rows == 0 or (
        stats.unindexed_rows < SCANNED_ROWS_MAX
        and all(segment.state == "growing" for segment in waiting)
    )


def search_all(tour: Tour, pictures: Collection) -> list[SearchResult]:
    """Step 4: recall and speed of searches without a filter."""
    queries = tour.queries
    exact = pictures.search_batch(queries, TOP, exact=True, output_fields=[])
    check_with_numpy(tour.data.base, queries[:CHECKED], exact)
    say(f"exact answers of {len(queries):,} queries by scan; numpy agrees on {CHECKED} of them")

    def single(query: Pixels) -> SearchResult:
        return pictures.search(query, TOP, output_fields=["name"])

    measure(single, queries[:BATCH])  # The first calls warm up caches and the connection.
    latency, found = measure(single, queries)
    distances = np.array([[hit.distance for hit in result] for result in found], np.float32)
    tour.note("recall@10", f"{recall(distances, exact):.4f} over {len(queries):,} queries")
    tour.note(
        "search, one client",
        f"{latency.per_second:,.0f} queries/s, p50 {latency.p50_ms:.2f} ms, "
        f"p99 {latency.p99_ms:.2f} ms",
    )
    starts = [first for _ in range(3) for first in range(0, len(queries), BATCH)]
    batches, _ = measure(
        lambda first: pictures.search_batch(queries[first : first + BATCH], TOP, output_fields=[]),
        starts,
    )
    tour.note(
        f"search_batch of {BATCH}",
        f"{batches.per_second * BATCH:,.0f} queries/s, p50 {batches.p50_ms:.1f} ms a batch",
    )
    computed = float(np.mean([result.distances_computed for result in found]))
    tour.note(
        "work per query",
        f"{computed:,.0f} of {len(tour.data.base):,} distances computed "
        f"(path: {', '.join(sorted({result.path for result in found}))})",
    )
    return found


def search_filtered(tour: Tour, pictures: Collection) -> None:
    """Step 5: filters, with the value in the text and with parameters."""
    literals: list[tuple[str, dict[str, Any]]] = [
        (f"label == {label}", {}) for label in range(len(tour.data.names))
    ]
    pairs: list[tuple[str, dict[str, Any]]] = [
        ("name in $names", {"names": [tour.data.names[label] for label in labels]})
        for _, labels in tour.data.filters
    ]
    others = [("label != $n", {"n": label}) for label in range(len(tour.data.names))]
    measure_filter(tour, pictures, "filter label == n", literals)
    measure_filter(tour, pictures, "filter name in $names", pairs)
    measure_filter(tour, pictures, "filter label != $n", others)


def measure_filter(
    tour: Tour, pictures: Collection, title: str, filters: list[tuple[str, dict[str, Any]]]
) -> None:
    """Notes recall, speed and work of the same queries under several filters."""
    queries = tour.queries[:FILTERED_QUERIES]
    recalls: list[float] = []
    times: list[float] = []
    computed: list[int] = []
    matching: list[int] = []
    paths: set[str] = set()
    for text, params in filters:
        exact = pictures.search_batch(
            queries, TOP, filter=text, params=params, exact=True, output_fields=[]
        )
        start = time.perf_counter()
        found = [
            pictures.search(query, TOP, filter=text, params=params, output_fields=["name"])
            for query in queries
        ]
        times.append(time.perf_counter() - start)
        distances = np.array([[hit.distance for hit in result] for result in found], np.float32)
        recalls.append(recall(distances, exact))
        computed += [result.distances_computed for result in found]
        matching.append(found[0].work.rows_matching)
        paths |= {result.path for result in found}
    total = len(filters) * len(queries)
    tour.note(
        title,
        f"recall@10 {np.mean(recalls):.4f}, {total / sum(times):,.0f} queries/s one client, "
        f"{np.mean(computed):,.0f} distances per query\n{'':28}over {np.mean(matching):,.0f} "
        f"matching rows (path: {', '.join(sorted(paths))})",
    )


def draw(tour: Tour, pictures: Collection, found: list[SearchResult], path: Path) -> None:
    """Step 6: the picture."""
    data = tour.data
    firsts = [int(np.flatnonzero(data.query_labels == n)[0]) for n in range(len(data.names))]
    plain = tuple(
        make_row(data, i, found[i] if i < len(found) else pictures.search(data.queries[i], TOP))
        for i in firsts[:8]
    )
    filtered = []
    for label, wanted in data.filters:
        text = f"label == {wanted[0]}"
        params: dict[str, Any] = {}
        shown = f"{text}   ({data.names[wanted[0]]})"
        if len(wanted) > 1:
            text = "name in $names"
            params = {"names": [data.names[n] for n in wanted]}
            shown = f"{text}   ($names = {', '.join(params['names'])})"
        query = int(np.flatnonzero(data.query_labels == label)[1])
        result = pictures.search(data.queries[query], TOP, filter=text, params=params)
        filtered.append(make_row(data, query, result, f"filter   {shown}"))
    figures = dict(tour.figures)
    sheet = render(
        f"Azimuth: {data.title}",
        f"{len(data.base):,} pictures of {data.side} x {data.side}   \u00b7   "
        f"recall@10 {figures['recall@10'].split()[0]}   \u00b7   "
        f"{figures['search, one client'].split()[0]} queries/s, one client",
        (
            Block(
                "Nearest neighbours",
                "Left the query, then what is nearest, with its squared Euclidean distance. "
                "Red: another label than the query's.",
                plain,
            ),
            Block(
                "With a filter",
                "The nearest among the pictures that the filter admits.",
                tuple(filtered),
            ),
        ),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    say(f"{path} ({sheet.width} x {sheet.height})")


def make_row(data: Dataset, query: int, result: SearchResult, note: str = "") -> Row:
    """Returns a query and what was found for it as a row of the sheet."""
    name = data.names[data.query_labels[query]]
    neighbours = tuple(
        Tile(
            data.base[int(hit.key)],
            hit.fields["name"],
            f"{hit.distance / 1e6:.2f} M",
            differs=not note and hit.fields["name"] != name,
        )
        for hit in result
    )
    return Row(Tile(data.queries[query], name, "query"), neighbours, note)


def crash(tour: Tour, db: Client, pictures: Collection) -> None:
    """Step 7: kill -9 after an insert was acknowledged; nothing is lost, answers are the same."""
    data = tour.data
    asked = tour.queries[:COMPARED]
    before = pictures.search_batch(asked, TOP, output_fields=[])
    late = np.arange(len(data.base), len(data.base) + LATE_ROWS)
    sent = data.queries[-LATE_ROWS:]
    labels = data.query_labels[-LATE_ROWS:]
    fields = {"label": labels, "name": [data.names[label] for label in labels]}
    pictures.insert(keys=late, vectors={"image": sent}, fields=fields)
    pid = tour.server.pid
    tour.server.kill()
    say(f"{LATE_ROWS} more rows inserted, and at once: kill -9 {pid}")
    db.close()

    start = time.perf_counter()
    tour.server.start()
    with tour.connect() as again:
        pictures = again.collection(COLLECTION)
        pictures.search(asked[0], TOP)
        tour.note(
            "restart after kill -9", f"first answer after {time.perf_counter() - start:.2f} s"
        )
        records = pictures.get(late, output_vectors=["image"])
        kept = sum(
            record is not None and np.array_equal(record.vectors["image"], vector)
            for record, vector in zip(records, sent)
        )
        rows = pictures.count()
        pictures.delete(keys=late)  # Not part of the answers from before.
        after = pictures.search_batch(asked, TOP, output_fields=[])
        same = int(
            ((after.keys == before.keys) & (after.distances == before.distances)).all(axis=1).sum()
        )
        tour.note("rows of the last insert", f"{kept} of {LATE_ROWS} there, {rows:,} rows in all")
        tour.note("answers as before", f"{same} of {COMPARED} queries")
        if kept != LATE_ROWS or rows != len(data.base) + LATE_ROWS:
            raise ServerError("rows that were acknowledged are lost")
        if same != COMPARED:
            worse = recall(after.distances, before)
            say(f"segments were merged meanwhile; overlap with the answers before: {worse:.4f}")


# Arithmetic.


def recall(distances: Floats, exact: BatchResult) -> float:
    """Returns the share of answers that are no farther than the true last one, so ties count."""
    last = exact.distances[:, -1:]
    with np.errstate(invalid="ignore"):
        return float((distances <= last * (1 + 1e-6)).mean())


def check_with_numpy(base: Pixels, queries: Pixels, exact: BatchResult) -> None:
    """ServerError unless brute force in whole numbers finds the same distances."""
    for i, query in enumerate(queries):
        true = np.concatenate(
            [
                ((base[first : first + 5_000].astype(np.int32) - query) ** 2).sum(axis=1)
                for first in range(0, len(base), 5_000)
            ]
        )
        nearest = np.sort(true)[:TOP]
        if not np.allclose(exact.distances[i], nearest, rtol=1e-6):
            raise ServerError(
                f"query {i}: the exact search found distances {exact.distances[i]}, "
                f"brute force finds {nearest}"
            )


class Progress:
    """A line that changes on a terminal, and a line now and then elsewhere."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._shown = time.monotonic()

    def show(self, text: str) -> None:
        """Shows how far it is."""
        if self._live:
            print(f"\r      {text}\033[K", end="", flush=True)
        elif time.monotonic() - self._shown >= REPORT_S:
            self._shown = time.monotonic()
            say(text)

    def end(self) -> None:
        """Clears the line."""
        if self._live:
            print("\r\033[K", end="", flush=True)


# The whole.


def arguments() -> argparse.Namespace:
    """Returns the command line's arguments."""
    parser = argparse.ArgumentParser(prog="./dev demo", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--server",
        type=Path,
        default=ROOT / "build/release/server/azimuthd",
        help="the azimuthd to run (default: the release build)",
    )
    parser.add_argument(
        "--port", type=int, default=7600, help="port of 127.0.0.1 (default 7600; 0: any free one)"
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=ROOT / "build/demo-data",
        help="folder for the database; emptied first if an earlier demo made it",
    )
    parser.add_argument(
        "--dataset",
        choices=("auto", "fashion-mnist", "digits"),
        default="auto",
        help="auto: Fashion-MNIST if it can be had, else digits",
    )
    parser.add_argument("--keep", action="store_true", help="leave the server running at the end")
    args = parser.parse_args()
    if not 0 <= args.port <= 65535:
        parser.error(f"--port {args.port}: expected 0 to 65535")
    if not args.server.is_file():
        parser.error(f"--server {args.server}: there is no such file; ./dev demo builds it")
    return args


def run(args: argparse.Namespace) -> None:
    """Runs all steps."""
    start = time.perf_counter()
    folder = args.data_dir.absolute()
    server = DemoServer(args.server.absolute(), folder, args.port)
    sheet = ROOT / "build/demo/contact_sheet.png"
    check_port(args.port)
    with timed(1, "The pictures"):
        data = read_data(args.dataset)
    tour = Tour(data, server, step=2)
    finished = False
    try:
        with tour.stage("Start the server"):
            prepare_folder(folder)
            server.start()
            say(f"{server.binary} at {server.address}, process {server.pid}")
            say(f"data in {server.data}, log in {server.log}")
        with tour.connect() as db:
            with tour.stage("Insert the pictures and build the index"):
                pictures = insert(tour, db)
                wait_for_index(tour, pictures)
            with tour.stage("Search"):
                found = search_all(tour, pictures)
            with tour.stage("Search with filters"):
                search_filtered(tour, pictures)
            with tour.stage("Draw what was found"):
                draw(tour, pictures, found, sheet)
            with tour.stage("Crash the server, and start it again"):
                crash(tour, db, pictures)
        finished = True
    except AzimuthError as error:
        text = f"{error.details.get('method', 'a call')} failed: {error.code.name}: {error.message}"
        if server.ended():
            text = f"the server ended by itself ({text})"
        raise ServerError(f"{text}\n{server.log_tail()}") from None
    finally:
        if not (finished and args.keep):
            server.stop()
    finish(tour, args, sheet, time.perf_counter() - start)


def finish(tour: Tour, args: argparse.Namespace, sheet: Path, seconds: float) -> None:
    """Prints the figures, and what to do next."""
    width = max(len(name) for name, _ in tour.figures)
    print(f"\n{tour.data.title}: {len(tour.data.base):,} x {tour.data.base.shape[1]}, l2")
    for name, value in tour.figures:
        print(f"  {name:{width}}  " + " ".join(value.split()))
    print(f"  {'whole demo':{width}}  {seconds:.0f} s")
    server = tour.server
    where = f"--data-dir {server.data} --listen {server.address}"
    print(f"\nThe picture       {sheet}")
    print(f"The database      {server.data} ({COLLECTION!r})")
    if args.keep:
        print(f"The server        runs at {server.address}; stop it with: kill {server.pid}")
    else:
        print(f"Start the server  {server.binary} {where}")
    print(f"From Python       {sys.executable}, then:")
    for line in (
        "from azimuth_db import Client",
        f"db = Client({server.address!r})",
        f"print(db.collection({COLLECTION!r}).query('label == 3', limit=3))",
    ):
        print(f"                    {line}")
    print("Read on           README.md, clients/python/README.md, examples/quickstart.py")
    print("Run the tests     ./dev test")


def main() -> int:
    """Returns the exit status."""
    args = arguments()
    # kill ends the demo as Ctrl-C does, so that the server is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(args)
    except (ServerError, DataError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\ndemo: {error.filename or 'system'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; no server is left running", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
