"""Signals, a second server, and copies of a live directory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable

import pytest
from azimuth_db import Client, DataLoss, Unavailable
from conftest import Make
from fault_items import UNKNOWN_OUTCOME, Items, Load
from fault_server import FaultServer, wait_for
from server_process import TINY_SEGMENTS, server_binary


def fill(server: FaultServer, rows: int = 1000) -> Items:
    items = Items()
    with server.start().client() as db:
        items.create(db)
        items.insert(db, range(rows))
    return items


class Readers:
    """Threads that search until they are told to stop; `errors` has what was no right answer."""

    def __init__(self, server: FaultServer, items: Items, threads: int = 3) -> None:
        self.errors: list[BaseException] = []
        self.answers = 0
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(server.address, items)) for _ in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, address: str, items: Items) -> None:
        with Client(address, timeout=30, retries=0) as db:
            while not self._stop.is_set():
                try:
                    items.check_search(db)
                    self.answers += 1
                except BaseException as error:
                    self.errors.append(error)
                    return

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


@pytest.mark.fault(44)
def test_sigterm_under_full_load_ends_in_good_order(make: Make) -> None:
    server = make(*TINY_SEGMENTS)
    still, moving = fill(server), Items("moving")
    with server.client() as db:
        moving.create(db)
    readers = Readers(server, still)
    with Load(moving, server.address, threads=8) as load:
        wait_for("the load runs", lambda: load.acknowledged > 100 and readers.answers > 20)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    readers.stop()
    assert not load.errors
    assert all(isinstance(error, UNKNOWN_OUTCOME) for error in readers.errors), readers.errors
    server.start()
    with server.client() as db:
        still.check(db)
        moving.check(db)
    server.assert_sound()


@pytest.mark.fault(44)
@pytest.mark.parametrize("last", [signal.SIGTERM, signal.SIGKILL])
def test_a_second_signal_or_sigkill_in_the_grace_time_is_as_a_crash(
    make: Make, last: signal.Signals
) -> None:
    server = make(*TINY_SEGMENTS)
    items = fill(server)
    with Load(items, server.address, threads=8) as load:
        wait_for("the load runs", lambda: load.acknowledged > 100)
        server.signal(signal.SIGTERM)
        server.signal(last)
        # Both at once: it may see them as one, and end in good order.
        assert server.wait() in (0, 1, -last)
    assert not load.errors
    server.start()
    with server.client() as db:
        items.check(db)
    server.assert_sound()


@pytest.mark.fault(45)
def test_a_server_that_stood_still_goes_on_where_it_was(make: Make) -> None:
    server = make(*TINY_SEGMENTS)
    items = fill(server)
    with Load(items, server.address, threads=4) as load:
        for _ in range(3):
            seen = load.acknowledged
            wait_for("the load runs", lambda seen=seen: load.acknowledged > seen + 30)
            server.signal(signal.SIGSTOP)
            wait_for("it stands still", lambda: _state_of(server.pid) == "T")
            with Client(server.address, timeout=0.5, retries=0) as db, pytest.raises(TimeoutError):
                db.collection("items").count()
            server.signal(signal.SIGCONT)
    assert not load.errors
    assert not items.in_flight, "calls without a short deadline outlive it"
    with server.client() as db:
        items.check(db)
    assert server.stop() == 0
    server.assert_sound()


def _state_of(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


@pytest.mark.fault(46)
@pytest.mark.parametrize(
    "number",
    [
        signal.SIGHUP,
        signal.SIGPIPE,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGWINCH,
    ],
)
def test_signals_that_ask_for_nothing_do_not_end_it(make: Make, number: signal.Signals) -> None:
    server = make()
    items = fill(server, 100)
    for _ in range(3):
        server.signal(number)
        with server.client() as db:
            items.upsert(db, range(50))
            items.check(db)
    assert server.exit_code() is None
    assert server.stop() == 0


@pytest.mark.fault(47)
def test_of_many_servers_started_at_once_on_a_directory_one_serves(make: Make) -> None:
    servers = [make("--listen", "127.0.0.1:0") for _ in range(4)]
    for i, server in enumerate(servers):
        # One directory, and a port file of its own for each.
        server._port_file = server.folder / f"port-{i}"
        server.launch()
    ended = wait_for(
        "all but one have ended",
        lambda: [s for s in servers if s.exit_code() is not None][2:] and True,
    )
    assert ended
    [one] = [server for server in servers if server.exit_code() is None]
    assert [server.wait() for server in servers if server is not one] == [1, 1, 1]
    assert one.wait_ready()
    items = Items()
    with one.client() as db:
        items.create(db)
        items.insert(db, range(100))
        items.check(db)
    # The lock ends with the process, however it ends.
    one.kill()
    with servers[0].start().client() as db:
        items.check(db)


@pytest.mark.fault(47)
def test_the_lock_is_held_across_containers_and_not_inherited(make: Make) -> None:
    server = make()
    items = fill(server, 100)
    # Another view of the same directory, as in another container.
    other = subprocess.run(
        ["unshare", "-m", "-p", "-f", server_binary(), "--data-dir", str(server.data_dir)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "Operation not permitted" in other.stderr:
        pytest.skip(f"namespaces are not permitted here: {other.stderr.strip()}")
    assert other.returncode == 1
    assert str(server.data_dir) in other.stderr
    assert "another process holds it" in other.stderr
    with server.client() as db:
        items.check(db)


def _copy_of_live(server: FaultServer, copy: FaultServer) -> None:
    """Copies file by file while they change and disappear."""
    copy.data_dir.mkdir(parents=True)
    for folder, _, names in os.walk(server.data_dir):
        target = copy.data_dir / os.path.relpath(folder, server.data_dir)
        target.mkdir(exist_ok=True)
        for name in names:
            try:
                shutil.copy(os.path.join(folder, name), target / name)
            except FileNotFoundError:
                continue


@pytest.mark.fault(48)
def test_a_copy_of_a_live_directory_opens_as_after_a_crash_or_says_why_not(make: Make) -> None:
    server = make(*TINY_SEGMENTS, "--write-buffer-mb", "1")
    items = fill(server)
    outcomes: list[str] = []
    with Load(items, server.address, threads=4, first_key=10**6) as load:
        for i in range(4):
            seen = load.acknowledged
            wait_for("the load runs", lambda seen=seen: load.acknowledged > seen + 100)
            copy = make(*TINY_SEGMENTS, folder=f"copy-{i}")
            _copy_of_live(server, copy)
            outcomes.append(_open_copy(copy))
    assert not load.errors
    assert set(outcomes) <= {"opened", "refused", "read-only"}, outcomes
    with server.client() as db:
        items.check(db)


def _open_copy(copy: FaultServer) -> str:
    copy.launch()
    if not copy.wait_ready():
        code = copy.wait()
        assert code == 1, f"exit code {code}"
        assert "azimuthd: " in copy.last_lines(1)
        return "refused"
    with copy.client() as db:
        found = db.collection("items").get(range(1000), output_fields=["generation"])
        outcome = "opened"
        try:
            db.collection("items").upsert([1], [[0.0] * 8])
        except DataLoss:
            outcome = "read-only"
        else:
            # These rows were there long before the copy was begun.
            assert [r.key for r in found if r is not None] == list(range(1000))
        listed = [r.key for r in db.collection("items").query(limit=16384)]
        assert len(listed) == len(set(listed)) == db.collection("items").count()
    copy.kill()
    if outcome == "opened":
        copy.assert_sound()
    return outcome


@pytest.mark.fault(48)
def test_a_copy_of_a_quiet_live_directory_has_everything(make: Make) -> None:
    server = make(*TINY_SEGMENTS)
    items = fill(server)
    with server.client() as db:
        db.collection("items").wait_indexed()
    copy = make(*TINY_SEGMENTS, folder="copy")
    _copy_of_live(server, copy)
    with copy.start().client() as db:
        items.check(db)
        # The two go their own ways.
        items.upsert(db, range(10))
        items.check(db)
    with server.client() as db:
        [record] = db.collection("items").get([5])
        assert record is not None
        assert record.fields["generation"] == 1


@pytest.mark.fault(44)
def test_calls_after_the_end_are_unavailable(make: Make) -> None:
    server = make()
    fill(server, 10)
    with Client(server.address, retries=0) as db:
        assert db.collection("items").count() == 10
        assert server.stop() == 0
        calls: list[Callable[[], object]] = [
            lambda: db.collection("items").count(),
            lambda: db.collection("items").delete(keys=[1]),
        ]
        for call in calls:
            with pytest.raises(Unavailable):
                call()
