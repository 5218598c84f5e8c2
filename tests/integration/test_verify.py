"""`azimuthd verify` and `Client.verify`: sound data is sound, damage is found, repair heals."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import azimuth_db
import numpy as np
import pytest
from azimuth_db import Client, VectorField
from conftest import ServerFactory
from server_process import TINY_SEGMENTS, ServerProcess

ROWS, DIM = 2000, 8
TIMEOUT_S = 120.0


def verify(server: ServerProcess, *options: str) -> tuple[int, dict[str, Any] | None, str]:
    """Runs the command; returns exit code, report (None if there is none) and stderr."""
    command = [server.binary, "verify", *options, str(server.data_dir)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return run.returncode, json.loads(run.stdout) if run.stdout else None, run.stderr


def fill(db: Client) -> None:
    """Stores records with every third vector absent, and deletes some."""
    rng = np.random.default_rng(1)
    items = db.create_collection(
        "items", {"v": VectorField(DIM, "l2"), "w": VectorField(4, "cosine")}, {"n": "int64"}
    )
    for part in np.array_split(np.arange(ROWS), 8):
        vectors = {
            "v": rng.standard_normal((len(part), DIM), dtype="f4"),
            "w": rng.standard_normal((len(part), 4), dtype="f4"),
        }
        items.insert(part, vectors, {"n": part % 7, "extra": part % 5})
    items.delete(keys=range(100, 200))
    items.wait_indexed()


def contents(folder: Path) -> dict[str, bytes]:
    """Returns every file of a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def filled(server_factory: ServerFactory) -> ServerProcess:
    server = server_factory(*TINY_SEGMENTS)
    with server.client() as db:
        fill(db)
    return server


def test_running_server_finds_its_data_sound(filled: ServerProcess) -> None:
    with filled.client() as db:
        report = db.verify(deep=True)
        assert (report.sound, report.findings, report.deep) == (True, [], True)
        assert report.keys == ROWS - 100
        assert report.segments >= 1
        assert report.segment_rows_compared >= ROWS - 100
        assert report.bytes_read > 0
        assert report.incarnation == db.server_info().incarnation
        assert db.verify("items").collections == 1
        with pytest.raises(azimuth_db.NotFound, match="none"):
            db.verify("none")


def test_running_server_finds_a_removed_file(filled: ServerProcess) -> None:
    with filled.client() as db:
        filled.segment_files()[0].unlink()
        report = db.verify()
        assert not report.sound
        assert [finding.kind for finding in report.findings] == ["segment.missing"]


@pytest.mark.parametrize("hard", [False, True])
def test_command_finds_a_stopped_directory_sound_and_leaves_it_alone(
    filled: ServerProcess, hard: bool
) -> None:
    if hard:
        filled.kill()
    else:
        assert filled.stop() == 0
    before = contents(filled.data_dir)
    for options in ([], ["--deep"]):
        code, report, errors = verify(filled, *options)
        assert report is not None
        assert (code, report["sound"]) == (0, True), (report, errors)
        assert report["directory"] == str(filled.data_dir)
        assert report["deep"] == bool(options)
        assert int(report["keys"]) == ROWS - 100
    assert contents(filled.data_dir) == before


def test_command_repairs_damaged_files(filled: ServerProcess) -> None:
    with filled.client() as db:
        before = {
            r.key: r.version for r in db.collection("items").get(list(range(0, ROWS, 7))) if r
        }
    filled.kill()
    for path in filled.segment_files():
        data = bytearray(path.read_bytes())
        for at in range(5000, len(data), 4096):
            data[at] ^= 0x10
        path.write_bytes(data)
    code, report, _ = verify(filled)
    assert code == 1
    assert report is not None
    # The kill may have met a build, whose file stays until the next start.
    found = [finding for finding in report["findings"] if finding["kind"] != "file.left_over"]
    assert {finding["severity"] for finding in found} == {"derived"}
    code, report, _ = verify(filled, "--repair", "--deep")
    assert report is not None
    assert (code, report["sound"], report["repair"]) == (0, True, True), report
    assert any("taken out of the catalog" in line for line in report["repairs"])
    filled.start()
    with filled.client() as db:
        items = db.collection("items")
        assert {r.key: r.version for r in items.get(list(range(0, ROWS, 7))) if r} == before
        assert db.verify(deep=True).sound


def test_command_says_when_it_cannot_check(filled: ServerProcess, tmp_path: Path) -> None:
    code, report, errors = verify(filled)
    assert (code, report) == (2, None)
    assert "LOCK" in errors
    missing = [filled.binary, "verify", str(tmp_path / "none")]
    run = subprocess.run(missing, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert (run.returncode, run.stdout) == (2, "")
    usage = [filled.binary, "verify"]
    run = subprocess.run(usage, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert run.returncode == 2
