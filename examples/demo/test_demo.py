"""Tests of the demo's parts that need neither a server nor the network."""

from __future__ import annotations

import gzip
import hashlib
import socket
import struct
import subprocess
import sys
from pathlib import Path

import contact_sheet
import datasets
import demo_server
import latency
import numpy as np
import pytest
from contact_sheet import Block, Row, Tile


def no_network(url: str, deadline: float) -> bytes:
    raise datasets.DataError(f"{url}: no network here")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no data sets, no network, and a small set of digits."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("AZIMUTH_DATASETS", raising=False)
    monkeypatch.setattr(datasets, "download", no_network)
    small = datasets.make_digits(base_rows=1_500, query_rows=500)
    monkeypatch.setattr(datasets, "make_digits", lambda notes=(): _with_notes(small, tuple(notes)))
    return tmp_path / "cache" / "azimuth" / "fashion-mnist"


def _with_notes(data: datasets.Dataset, notes: tuple[str, ...]) -> datasets.Dataset:
    return datasets.Dataset(**{**vars(data), "notes": notes})


def idx(values: np.ndarray) -> bytes:
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return gzip.compress(header + values.tobytes())


def fashion_files() -> dict[str, bytes]:
    """Four small files of the right form."""
    rng = np.random.default_rng(3)
    files = {}
    for prefix, rows in (("train", 20), ("t10k", 10)):
        images = rng.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
        files[f"{prefix}-images-idx3-ubyte.gz"] = idx(images)
        files[f"{prefix}-labels-idx1-ubyte.gz"] = idx(np.arange(rows, dtype=np.uint8) % 10)
    return files


def accept(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> None:
    """Makes the checksums those of `files`."""
    sums = {
        name: hashlib.md5(data, usedforsecurity=False).hexdigest() for name, data in files.items()
    }
    monkeypatch.setattr(datasets, "FASHION_MD5", sums)


def write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def quiet(text: str) -> None:
    del text


# Data.


def test_digits_have_the_shape_that_was_asked_for() -> None:
    data = datasets.make_digits(base_rows=3_000, query_rows=600)
    assert data.base.shape == (3_000, data.side**2)
    assert data.queries.shape == (600, data.side**2)
    assert data.base.dtype == np.uint8
    assert set(data.base_labels) == set(data.query_labels) == set(range(10))
    assert len(data.names) == 10


def test_digits_are_the_same_every_time() -> None:
    first = datasets.make_digits(base_rows=3_000, query_rows=600)
    second = datasets.make_digits(base_rows=3_000, query_rows=600)
    assert np.array_equal(first.base, second.base)
    assert np.array_equal(first.queries, second.queries)
    assert np.array_equal(first.base_labels, second.base_labels)


def test_digits_vary_and_queries_are_not_in_the_base() -> None:
    data = datasets.make_digits(base_rows=3_000, query_rows=600)
    base = {row.tobytes() for row in data.base}
    assert len(base) > 2_900
    assert not base & {row.tobytes() for row in data.queries}


def test_files_of_the_environment_are_read(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = fashion_files()
    accept(monkeypatch, files)
    write(tmp_path / "sets" / "fashion-mnist", files)
    monkeypatch.setenv("AZIMUTH_DATASETS", str(tmp_path / "sets"))
    data = datasets.load(say=quiet)
    assert data.title == "Fashion-MNIST"
    assert data.base.shape == (20, 784)
    assert data.query_labels.tolist() == list(range(10))
    assert data.notes == ()


def test_wrong_checksums_fall_back_to_digits_and_say_so(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "sets" / "fashion-mnist", fashion_files())
    monkeypatch.setenv("AZIMUTH_DATASETS", str(tmp_path / "sets"))
    data = datasets.load(say=quiet)
    assert data.title.startswith("Handwritten digits")
    assert "checksum" in data.notes[0]
    assert any("no network here" in note for note in data.notes)


def test_a_download_with_a_wrong_checksum_is_not_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "download", lambda url, deadline: b"an error page")
    data = datasets.load(say=quiet)
    assert data.title.startswith("Handwritten digits")
    assert "checksum" in data.notes[-1]
    assert list(cache.iterdir()) == []


def test_a_download_is_kept_and_used_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = fashion_files()
    accept(monkeypatch, files)
    monkeypatch.setattr(datasets, "download", lambda url, deadline: files[url.rpartition("/")[2]])
    first = datasets.load(say=quiet)
    monkeypatch.setattr(datasets, "download", no_network)
    second = datasets.load(say=quiet)
    assert first.title == second.title == "Fashion-MNIST"
    assert np.array_equal(first.base, second.base)
    assert "cache" in second.origin


def test_fashion_mnist_alone_is_an_error_when_it_cannot_be_had(cache: Path) -> None:
    with pytest.raises(datasets.DataError, match="AZIMUTH_DATASETS is not set"):
        datasets.load("fashion-mnist", say=quiet)


@pytest.mark.parametrize(
    "content",
    [b"plain", gzip.compress(b"\x00\x00\x0d\x01"), idx(np.zeros((4, 4), np.uint8))[:-9]],
    ids=["no gzip", "no bytes", "cut off"],
)
def test_a_bad_idx_file_is_a_data_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(content)
    with pytest.raises(datasets.DataError, match=r"file\.gz"):
        datasets.read_idx(path)


# Picture.


def blocks(side: int) -> tuple[Block, ...]:
    ink = np.full(side * side, 255, np.uint8)
    row = Row(Tile(ink, "query"), tuple(Tile(ink, f"{i}", f"{i}.5") for i in range(10)))
    noted = Row(row.query, row.neighbours[:3], "filter   label == 3")
    return (Block("One", "plain", (row, row)), Block("Two", "filtered", (noted,)))


@pytest.mark.parametrize("side", [24, 28])
def test_the_sheet_has_its_size_and_dark_tiles_on_white(side: int, tmp_path: Path) -> None:
    sheet = contact_sheet.render("Title", "subtitle", blocks(side))
    assert sheet.size == contact_sheet.size_of(blocks(side))
    sheet.save(tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 1_000
    gray = np.asarray(sheet.convert("L"))
    edge = contact_sheet.MARGIN // 2
    assert (gray[:edge] == 255).all()
    assert (gray[-edge:] == 255).all()
    assert (gray[:, -edge:] == 255).all()
    tiles = 2 * 11 + 4
    assert (gray == 0).sum() >= tiles * contact_sheet.TILE**2


def test_a_sheet_of_fewer_columns_is_narrower() -> None:
    full, short = blocks(28)
    assert contact_sheet.size_of((short,))[0] < contact_sheet.size_of((full,))[0]


# Times, folder and port.


def test_latency_counts_calls_and_returns_results() -> None:
    measured, results = latency.measure(lambda n: n * n, [1, 2, 3])
    assert results == [1, 4, 9]
    assert measured.calls == 3
    assert 0 <= measured.p50_ms <= measured.p99_ms
    assert measured.per_second > 0


def test_a_folder_that_is_not_the_demos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious").write_text("mine")
    with pytest.raises(demo_server.ServerError, match="not the demo's"):
        demo_server.prepare_folder(tmp_path)
    assert (tmp_path / "data" / "precious").read_text() == "mine"


def test_the_demos_own_folder_is_emptied(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    demo_server.prepare_folder(folder)
    (folder / "data").mkdir()
    (folder / "data" / "old").write_text("old")
    (folder / "note").write_text("not the demo's")
    demo_server.prepare_folder(folder)
    assert not (folder / "data").exists()
    assert (folder / "note").exists()


def test_a_taken_port_says_how_to_choose_another() -> None:
    with socket.socket() as taken:
        taken.bind((demo_server.HOST, 0))
        taken.listen()
        with pytest.raises(demo_server.ServerError, match="--port"):
            demo_server.check_port(taken.getsockname()[1])


def test_a_server_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    binary = tmp_path / "server"
    binary.write_text("#!/bin/sh\necho it is broken\nexit 3\n")
    binary.chmod(0o755)
    server = demo_server.DemoServer(binary, tmp_path, 0)
    with pytest.raises(demo_server.ServerError, match=r"(?s)status 3.*it is broken"):
        server.start()


def test_a_missing_server_is_named_without_a_traceback(tmp_path: Path) -> None:
    script = Path(__file__).with_name("image_search.py")
    command = [sys.executable, str(script), "--server", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no such file" in done.stderr
    assert "Traceback" not in done.stderr
