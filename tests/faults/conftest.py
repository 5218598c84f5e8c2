"""Fixtures: servers for faults."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "crash"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

from fault_items import Items
from fault_server import FaultServer
from half_open import PREFACE, CutLink, begin

Make = Callable[..., FaultServer]
_LOG_KEY = pytest.StashKey[list[FaultServer]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "fault(row): the test shows this row of the catalogue of faults"
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Shows the servers' logs with a failure."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed:
        for server in item.stash.get(_LOG_KEY, []):
            report.sections.append((f"log of {server.folder}", server.log()[-20_000:]))


@pytest.fixture
def make(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Make]:
    """Returns a function that makes a server, not started; it is killed at the end.

    Its arguments are options of the server, `folder` (a name or a path) and what FaultServer takes.
    """
    servers: list[FaultServer] = []
    request.node.stash[_LOG_KEY] = servers

    def make_server(*options: str, folder: str | Path = "server", **more: Any) -> FaultServer:
        server = FaultServer(tmp_path / folder, *options, **more)
        servers.append(server)
        return server

    yield make_server
    for server in servers:
        server.kill()


class Background:
    """Connections to nobody; see half_open.py.

    Attributes:
        half_open: The ones whose peers are silent.
        link: The one whose link is cut.
        link_items: What its server stores.
        link_before: That server's sockets without a connection.
    """

    def __init__(self, folder: Path) -> None:
        """Begins all of them."""
        self.half_open = begin(folder / "half_open")
        self.link = CutLink(folder / "cut_link")
        self.link_items = Items()
        self._sockets: list[socket.socket] = []
        if self.link.why_not:
            return
        with self.link.server.start().client() as db:
            self.link_items.create(db)
            self.link_items.insert(db, range(100))
        self.link_before = self.link.server.sockets()
        for _ in range(10):
            self._sockets.append(socket.create_connection(self.link.server.host_port, timeout=10))
            self._sockets[-1].sendall(PREFACE)
            self._sockets[-1].recv(1 << 16)
        self.link.cut()

    def close(self) -> None:
        """Ends them."""
        self.half_open.server.kill()
        self.link.close()
        for connection in self._sockets:
            connection.close()


@pytest.fixture(scope="session", autouse=True)
def background(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Background | None]:
    """Begins, with the session, what takes a minute, if a test of the session asks for it."""
    if not any("test_process_waiting" in item.nodeid for item in request.session.items):
        yield None
        return
    begun = Background(tmp_path_factory.mktemp("background"))
    yield begun
    begun.close()
