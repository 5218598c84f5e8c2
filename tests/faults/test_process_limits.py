"""A server that gets no more memory, files or threads."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import mkdtemp

import pytest
from azimuth_db import AzimuthError, Client, ResourceExhausted
from conftest import Make
from fault_items import GROUPS, UNKNOWN_OUTCOME, Items, vectors_of
from fault_server import FaultServer, shimmed, wait_for
from server_process import TINY_SEGMENTS

MIB = 1 << 20
# What begins a connection of HTTP/2, with empty settings.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
# Nobody has this user id, so that nobody else has threads of it.
LONELY_UID = 54321
ANSWER_S = 40.0


def fill(server: FaultServer, rows: int = 1000, dimension: int = 8) -> Items:
    items = Items(dimension=dimension)
    with server.start().client() as db:
        items.create(db)
        items.insert(db, range(rows))
    return items


@pytest.mark.fault(35)
@pytest.mark.parametrize("more_mib", [16, 64])
def test_without_memory_a_request_fails_or_the_server_does_and_nothing_is_lost(
    make: Make, more_mib: int
) -> None:
    server = make(*TINY_SEGMENTS)
    items = fill(server, 500, dimension=1024)
    limit = server.memory("VmSize") + more_mib * MIB
    resource.prlimit(server.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    codes = set()
    with Client(server.address, retries=0) as db:
        for start in range(10**4, 10**4 + 3000, 500):
            try:
                items.insert(db, range(start, start + 500))
                db.collection("items").count("group == 3")
            except AzimuthError as error:
                codes.add(error.code.name)
                if server.exit_code() is not None:
                    break
    # Where it cannot go on it ends, and that is a crash as any other.
    assert codes <= {"RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}
    if server.exit_code() is None:
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(server.pid, resource.RLIMIT_AS, unlimited)
        with server.client() as db:
            items.settle(db)
            items.insert(db, range(20000, 20100))
            items.check(db)
    server.kill()
    with server.start().client() as db:
        items.check(db)
    server.assert_sound()


@pytest.mark.fault(35)
def test_a_start_without_memory_ends_and_a_later_one_has_everything(make: Make) -> None:
    server = make(*TINY_SEGMENTS)
    items = fill(server)
    server.kill()
    for limit in (60, 100, 200, 400):
        starved = make(*TINY_SEGMENTS, prefix=["prlimit", f"--as={limit * MIB}"])
        starved.launch()
        if starved.wait_ready():
            with starved.client() as db:
                items.check_search(db)
            starved.kill()
            continue
        # 127: not even its libraries fit.
        assert starved.wait() in (1, 127, -signal.SIGABRT), f"with {limit} MiB"
    with server.start().client() as db:
        items.check(db)
    server.assert_sound()


@pytest.mark.fault(36)
def test_after_too_many_open_files_it_answers_again_or_ends_so_that_a_restart_does(
    make: Make,
) -> None:
    server = make(prefix=["prlimit", "--nofile=64:64"])
    items = fill(server, 100)
    connections = [socket.create_connection(server.host_port) for _ in range(200)]
    for connection in connections:
        connection.sendall(PREFACE)
    wait_for("no descriptor is left", lambda: server.descriptors() >= 63)
    for connection in connections:
        connection.close()

    def answers_or_ended() -> bool:
        if server.exit_code() is not None:
            return True
        try:
            with Client(server.address, timeout=2, retries=0) as db:
                items.check_search(db)
        except UNKNOWN_OUTCOME:
            return False
        return True

    wait_for("it answers again, or has ended", answers_or_ended, ANSWER_S)
    if server.exit_code() is not None:
        assert server.wait() == 1
        server.start()
    with server.client() as db:
        items.check(db)
        items.insert(db, range(1000, 1100))
        items.check(db)
    server.assert_sound()


@pytest.mark.fault(36)
def test_a_row_table_without_a_descriptor_refuses_that_commit_alone(make: Make) -> None:
    server = make(*TINY_SEGMENTS, "--bulk-commit-kb", "1")
    shim = shimmed(server)
    items = fill(server, 100)
    with Client(server.address, retries=0) as db:
        shim.set("create(rocks/intake/*)@1-3=EMFILE")
        for _ in range(3):
            with pytest.raises(ResourceExhausted, match=r"open files.*not_applied"):
                items.insert(db, range(1000, 1100))
        items.insert(db, range(1000, 1100))
        items.check(db)
        # A load tries again by itself.
        shim.set("create(rocks/intake/*)@1=EMFILE")
        vectors = vectors_of(range(2000, 2100), [1] * 100, items.dimension)
        fields = {"group": [key % GROUPS for key in range(2000, 2100)], "generation": [1] * 100}
        load = [{"keys": range(2000, 2100), "vectors": vectors, "fields": fields}]
        assert db.collection("items").ingest(load, mode="insert").inserted == 100
        assert shim.hits() == 4
        items.states.update(dict.fromkeys(range(2000, 2100), 1))
        items.check(db)
    assert server.stop() == 0
    server.assert_sound()


@pytest.mark.fault(36)
def test_with_few_open_files_everything_is_done(make: Make) -> None:
    server = make(*TINY_SEGMENTS, "--write-buffer-mb", "1", prefix=["prlimit", "--nofile=64:64"])
    items = fill(server, 100, dimension=64)
    for start in range(0, 5000, 500):
        with server.client() as db:
            items.upsert(db, range(start, start + 500))
            items.check_search(db)
    with server.client() as db:
        db.collection("items").wait_indexed()
        items.check(db)
    server.restart(hard=True)
    with server.client() as db:
        items.check(db)
    assert server.stop() == 0
    server.assert_sound()


@pytest.fixture
def folder_of_anybody() -> Iterator[Path]:
    """A folder that a user without rights can reach and own."""
    folder = Path(mkdtemp(prefix="azimuth-faults-"))
    try:
        os.chmod(folder, 0o777)
        yield folder
    finally:
        shutil.rmtree(folder)


def lonely(make: Make, folder: Path, threads: int) -> FaultServer:
    """A server of a user that may have so many threads. (root may have any number.)"""
    user = ["setpriv", f"--reuid={LONELY_UID}", "--clear-groups", "--inh-caps=-all"]
    if os.geteuid() != 0:
        pytest.skip("only root can run a server as another user, and this is not root")
    server = make(
        *TINY_SEGMENTS, folder=folder / "server", prefix=[*user, "prlimit", f"--nproc={threads}"]
    )
    server.folder.mkdir(exist_ok=True)
    os.chmod(server.folder, 0o777)
    program = folder / "azimuthd"
    if not program.exists():
        shutil.copy(server.binary, program)
    server.binary = str(program)
    return server


@pytest.mark.fault(37)
def test_a_start_without_threads_is_refused_clearly(folder_of_anybody: Path, make: Make) -> None:
    server = lonely(make, folder_of_anybody, 1000)
    items = fill(server, 1000)
    server.kill()
    for threads in (1, 4, 8, 12, 16):
        starved = lonely(make, folder_of_anybody, threads)
        starved.launch()
        if starved.wait_ready():
            # Enough for a start.
            with starved.client() as db:
                items.check_search(db)
            starved.kill()
            continue
        assert starved.wait() == 1, f"with {threads} threads: {starved.last_lines(3)}"
        assert "thread" in starved.last_lines(3)
    with server.start().client() as db:
        items.check(db)
    server.assert_sound()


@pytest.mark.fault(37)
def test_where_no_more_threads_can_be_made_calls_are_shed_or_answered(
    folder_of_anybody: Path, make: Make
) -> None:
    server = lonely(make, folder_of_anybody, 1000)
    items = fill(server, 1000)
    server.kill()
    # As many as a start wants to see, and a few more.
    server = lonely(make, folder_of_anybody, 40).start()
    clients = [Client(server.address, timeout=20, retries=0) for _ in range(64)]

    def search(db: Client) -> str:
        try:
            items.check_search(db)
        except AzimuthError as error:
            return error.code.name
        return "OK"

    with ThreadPoolExecutor(len(clients)) as pool:
        codes = {code for _ in range(3) for code in pool.map(search, clients)}
    for db in clients:
        db.close()
    assert "OK" in codes
    assert codes <= {"OK", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED"}
    assert server.exit_code() is None
    with server.client() as db:
        items.insert(db, range(1000, 2000))
        items.check(db)
    server.assert_sound()
