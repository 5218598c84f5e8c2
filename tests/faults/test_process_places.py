"""Where a server runs: formats of other versions, upgrades that are cut short, odd surroundings."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from azimuth_db import Client
from conftest import Make
from fault_items import Items
from fault_server import FaultServer
from server_process import TINY_SEGMENTS

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
FORMATS = sorted(path.name for path in FIXTURES.glob("format-*"))
OLD_FORMATS = FORMATS[:-1]
UPGRADE_STEPS = ["upgrade.before_format", "upgrade.after_format"]


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Everything in a directory."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def from_fixture(server: FaultServer, name: str) -> None:
    server.folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(FIXTURES / name, server.data_dir)
    # Version control keeps no empty folders.
    for folder in ("segments", "quarantine"):
        (server.data_dir / folder).mkdir(exist_ok=True)


def format_of(server: FaultServer) -> int:
    found = re.match(r"azimuth data directory, format (\d+)\n", _format_text(server))
    assert found
    return int(found[1])


def _format_text(server: FaultServer) -> str:
    return (server.data_dir / "FORMAT").read_text()


def check_fixture(db: Client) -> None:
    """What tests/engine/recover_format_test.cc has written."""
    points = db.collection("points")
    assert points.count() == 203
    assert points.count("meta.price > 48") == 2
    fifteen, gone = points.get([15, 10], output_vectors=["a", "b"])
    assert gone is None
    assert fifteen is not None
    assert fifteen.fields["n"] == 1
    assert fifteen.fields["meta"]["price"] == 3.75
    assert fifteen.vectors["a"].tolist() == [15, 1, -1]
    found = points.search([10.4, 1, -1], 2, field="a")
    assert found.keys == [9, 12]
    assert db.collection("words").search([0.1, 5], 1).keys == ["nord"]


@pytest.mark.fault(49)
@pytest.mark.parametrize("name", FORMATS)
def test_a_directory_of_each_version_opens_with_the_same_answers(make: Make, name: str) -> None:
    server = make(*TINY_SEGMENTS)
    from_fixture(server, name)
    for hard in (True, False):
        with server.start().client() as db:
            check_fixture(db)
            db.collection("points").upsert([1000], {"a": [[1, 2, 3]]}, {"n": [5]})
            db.collection("points").delete(keys=[1000])
        if hard:
            server.kill()
        else:
            assert server.stop() == 0
    fresh = make(folder="fresh").start()
    assert format_of(server) == format_of(fresh), "it was not upgraded"
    server.assert_sound()


@pytest.mark.fault(49)
def test_a_directory_of_a_later_version_is_refused_untouched(make: Make) -> None:
    server = make()
    from_fixture(server, FORMATS[-1])
    with server.start().client() as db:
        check_fixture(db)
    assert server.stop() == 0
    text = _format_text(server).replace(f"format {format_of(server)}", "format 99")
    (server.data_dir / "FORMAT").write_text(text)
    before = bytes_of(server.data_dir)
    assert server.ends() == 1
    assert "99" in server.last_lines(2)
    assert bytes_of(server.data_dir) == before


@pytest.mark.fault(50)
@pytest.mark.parametrize("failpoint", UPGRADE_STEPS)
@pytest.mark.parametrize("name", OLD_FORMATS)
def test_an_upgrade_that_is_killed_is_done_by_the_next_start(
    make: Make, name: str, failpoint: str
) -> None:
    server = make(*TINY_SEGMENTS)
    from_fixture(server, name)
    old = format_of(server)
    for _ in range(2):
        server.launch({"AZIMUTH_FAILPOINTS": f"{failpoint}=kill"})
        if server.wait_ready():
            # It was done before the kill, and is not done again.
            assert failpoint == "upgrade.after_format"
            server.kill()
            break
        assert server.wait() == -signal.SIGKILL
        assert (format_of(server) > old) == (failpoint == "upgrade.after_format")
    with server.start().client() as db:
        check_fixture(db)
    server.restart(hard=True)
    with server.client() as db:
        check_fixture(db)
    server.assert_sound()


def works(server: FaultServer) -> None:
    """Starts it, writes enough for builds, kills it and checks again."""
    items = Items()
    with server.start().client() as db:
        items.create(db)
        items.insert(db, range(700))
        db.collection("items").wait_indexed()
        items.check(db)
    server.restart(hard=True)
    with server.client() as db:
        items.check(db)
    assert server.stop() == 0


@pytest.mark.fault(52)
@pytest.mark.parametrize("stderr", ["/dev/full", "closed"])
def test_it_serves_where_its_log_cannot_be_written(make: Make, stderr: str) -> None:
    server = make(*TINY_SEGMENTS, "--log-level", "debug")
    server.stderr = stderr
    works(server)
    # Not even a file of its own may get the lines of a descriptor that was closed.
    for content in bytes_of(server.data_dir).values():
        assert b"listening on" not in content


@pytest.mark.fault(52)
def test_it_serves_while_its_log_is_a_pipe_that_nobody_reads_any_more(make: Make) -> None:
    server = make(*TINY_SEGMENTS, "--log-level", "debug")
    reader, writer = os.pipe()
    server.stderr = f"/proc/self/fd/{writer}"
    server.launch()
    os.close(writer)
    os.close(reader)
    assert server.wait_ready()
    items = Items()
    with server.client() as db:
        items.create(db)
        items.insert(db, range(700))
        db.collection("items").wait_indexed()
        items.check(db)
    assert server.stop() == 0


@pytest.mark.fault(52)
def test_it_serves_without_temporary_folders(make: Make) -> None:
    """/tmp, /var/tmp and /run are empty and cannot be written, and TMPDIR leads nowhere."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("there is no /dev/shm to keep the data in while /tmp is missing")
    script = (
        "for d in /tmp /var/tmp /run; do mount -t tmpfs -o ro,size=4k none $d || exit 77; done; "
        'exec "$@"'
    )
    probe = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", "true"], check=False)
    if probe.returncode != 0:
        pytest.skip("mounting in a namespace of one's own is not permitted here")
    folder = Path(f"/dev/shm/azimuth-faults-{os.getpid()}")
    binary_copy = folder / "azimuthd"
    folder.mkdir()
    try:
        server = make(
            *TINY_SEGMENTS,
            folder=folder / "server",
            prefix=["unshare", "-m", "sh", "-c", script, "sh"],
        )
        # The program may itself lie in a folder that is hidden.
        shutil.copy(server.binary, binary_copy)
        server.binary = str(binary_copy)
        server.environment["TMPDIR"] = "/nowhere"
        works(server)
    finally:
        server.kill()
        shutil.rmtree(folder)


@pytest.mark.fault(52)
def test_it_starts_from_a_working_folder_that_is_gone(make: Make, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    server = make(
        prefix=["sh", "-c", f'mkdir -p {gone} && cd {gone} && rmdir {gone} && exec "$@"', "sh"]
    )
    works(server)
