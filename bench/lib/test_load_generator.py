"""azimuth_load against a real server: the program of the build that AZIMUTH_SERVER belongs to."""

from __future__ import annotations

import signal
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from azimuth_db import VectorField

sys.path.append(str(Path(__file__).parents[2] / "tests/integration"))

from load import Load
from server_process import ServerProcess, server_binary

DIM = 4
ROWS = 100
PAUSE_S = 0.5


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """Yields a server with the collection "rows"."""
    process = ServerProcess(tmp_path / "server").start()
    try:
        with process.client() as client:
            rows = client.create_collection("rows", {"v": VectorField(DIM, "l2")})
            rows.insert(np.arange(ROWS), {"v": vectors()})
        yield process
    finally:
        process.kill()


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    """Returns an .npy file of vectors."""
    path = tmp_path / "queries.npy"
    np.save(path, vectors())
    return path


def vectors() -> np.ndarray:
    return np.random.default_rng(1).random((ROWS, DIM), np.float32)


def load(address: str, path: Path, **options: Any) -> Load:
    build = Path(server_binary()).parents[1]
    options = {"collection": "rows", "field": "v", "timeout": 20, **options}
    return Load(build, address=address, vectors=path, **options)


def test_an_open_loop_makes_as_many_calls_as_were_due(
    server: ServerProcess, queries: Path, tmp_path: Path
) -> None:
    samples = tmp_path / "samples"
    running = load(server.address, queries, rate=100, seconds=1.0, warmup=0.2, samples=samples)
    report = running.wait()
    assert (report["calls"], report["done"], report["errors"]) == (100, 100, 0)
    assert report["held_back"] == 0
    latency = report["latency_ms"]
    assert 0 < latency["p50"] <= latency["p99"] <= latency["p999"] <= latency["max"]
    calls = running.samples()
    assert len(calls) == 120  # Those of the warm-up too.
    np.testing.assert_allclose(np.diff(np.sort(calls[:, 0])), 0.01, atol=1e-6)
    assert abs(time.monotonic() - calls[:, 0].max()) < 20
    assert calls[-100:, 2].max() == pytest.approx(latency["max"], rel=1e-3)


def test_a_server_that_stalls_is_asked_no_less(server: ServerProcess, queries: Path) -> None:
    assert server._process is not None
    running = load(server.address, queries, rate=100, seconds=3.0)
    time.sleep(1.5)
    server._process.send_signal(signal.SIGSTOP)
    time.sleep(PAUSE_S)
    server._process.send_signal(signal.SIGCONT)
    report = running.wait()
    assert (report["calls"], report["errors"]) == (300, 0)
    latency = report["latency_ms"]
    assert latency["max"] >= 0.8 * PAUSE_S * 1e3
    # The calls that were due meanwhile, not only the one that met it: a sixth of all.
    assert latency["p95"] >= 0.5 * PAUSE_S * 1e3
    assert report["in_flight_most"] >= 0.5 * PAUSE_S * 100


def test_a_call_beyond_the_calls_in_flight_is_held_back_and_late(
    server: ServerProcess, queries: Path
) -> None:
    assert server._process is not None
    running = load(server.address, queries, rate=100, seconds=3.0, in_flight_max=4)
    time.sleep(1.5)
    server._process.send_signal(signal.SIGSTOP)
    time.sleep(PAUSE_S)
    server._process.send_signal(signal.SIGCONT)
    report = running.wait()
    assert (report["calls"], report["errors"], report["in_flight_most"]) == (300, 0, 4)
    assert report["held_back"] >= 1
    assert report["lag_ms"]["max"] >= 0.5 * PAUSE_S * 1e3
    assert report["latency_ms"]["p95"] >= 0.5 * PAUSE_S * 1e3


def test_a_closed_loop_keeps_its_calls_in_flight(server: ServerProcess, queries: Path) -> None:
    running = load(server.address, queries, closed_loop=3, connections=3, seconds=0.5)
    report = running.wait()
    assert report["errors"] == 0
    assert report["in_flight_most"] <= 4  # The next one starts before the last one is counted off.
    assert report["done_per_s"] == pytest.approx(report["done"] / report["seconds"], rel=0.01)
    assert report["done"] > 10


@pytest.mark.parametrize("batch", [0, 30])
def test_what_searches_found_is_written(
    server: ServerProcess, queries: Path, tmp_path: Path, batch: int
) -> None:
    answers = tmp_path / "answers"
    options = {"mode": "search_batch", "queries": batch} if batch else {}
    report = load(
        server.address, queries, closed_loop=2, seconds=1.0, limit=2, answers=answers, **options
    ).wait()
    assert report["errors"] == 0
    keys = np.fromfile(answers, np.int64).reshape(-1, 2)
    # 10 batches of 30 have each query three times, in turn.
    assert keys[:, 0].tolist() == list(range(ROWS)) * (3 if batch else 1)
    assert (keys[:, 1] >= 0).all()


def test_searches_that_were_too_few_leave_no_answers(
    server: ServerProcess, queries: Path, tmp_path: Path
) -> None:
    running = load(server.address, queries, rate=10, seconds=0.5, answers=tmp_path / "answers")
    with pytest.raises(RuntimeError, match="answers: cannot be written, or too few searches"):
        running.wait()


def test_upserts_write_rows_under_keys_that_come_again(
    server: ServerProcess, queries: Path
) -> None:
    options = {"mode": "upsert", "batch": 10, "first_key": 1000, "key_count": 30}
    report = load(server.address, queries, rate=50, seconds=0.2, **options).wait()
    assert (report["calls"], report["errors"]) == (10, 0)
    with server.client() as client:
        rows = client.collection("rows")
        assert rows.count() == ROWS + 30
        # Of 100 rows written to 30 keys, key i has row i + 60 or i + 90.
        for key, row in ((1000, 90), (1009, 99), (1010, 70), (1029, 89)):
            record = rows.get([key], output_vectors=["v"])[0]
            assert record is not None
            np.testing.assert_array_equal(record.vectors["v"], vectors()[row])


def test_a_signal_ends_it_with_a_report(server: ServerProcess, queries: Path) -> None:
    running = load(server.address, queries, rate=100, seconds=60)
    time.sleep(1.0)
    report = running.stop()
    assert report["errors"] == 0
    assert 10 <= report["calls"] <= 1000
    assert report["done_per_s"] == pytest.approx(100, rel=0.2)


def test_all_forms_of_files_are_read(server: ServerProcess, queries: Path, tmp_path: Path) -> None:
    fvecs, bare = tmp_path / "queries.fvecs", tmp_path / "queries.f32"
    fvecs.write_bytes(b"".join(struct.pack("<i", DIM) + row.tobytes() for row in vectors()))
    bare.write_bytes(vectors().tobytes())
    for path, options in ((queries, {}), (fvecs, {}), (bare, {"dim": DIM})):
        report = load(server.address, path, rate=50, seconds=0.2, **options).wait()
        assert (report["calls"], report["errors"]) == (10, 0)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.npy", b"\x93NUMPX\x01\x00\x10\x00", "it is no .npy file"),
        ("a.npy", b"\x93NUMPY\x01\x00\xff\xff", "its header is cut"),
        ("a.fvecs", b"\xff\xff\xff\xff", "dimension -1"),
        ("a.fvecs", struct.pack("<iffiff", 2, 0, 0, 3, 0, 0), "dimension 3 after rows of 2"),
        ("a.f32", b"\0" * 16, "name its dimension"),
        ("a.fvecs", struct.pack("<i", 2), "it has no rows"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RuntimeError, match=f"ended with 2.*{name}.*{says}"):
        load("127.0.0.1:1", path, rate=1, seconds=1).wait()


def test_other_kinds_of_arrays_are_refused(tmp_path: Path) -> None:
    for array in (np.zeros((2, 2)), np.zeros(4, np.float32), np.zeros((2, 2), np.float32).T):
        path = tmp_path / "a.npy"
        np.save(path, np.asfortranarray(array) if array.ndim == 2 else array)
        with pytest.raises(RuntimeError, match=r"ended with 2.*a\.npy"):
            load("127.0.0.1:1", path, rate=1, seconds=1).wait()


def test_errors_are_counted_by_code(server: ServerProcess, queries: Path) -> None:
    running = load(server.address, queries, rate=50, seconds=0.2, collection="none")
    with pytest.raises(RuntimeError, match=r'ended with 1.*"errors_by_code": {"5": 10}'):
        running.wait()
