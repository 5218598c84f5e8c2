"""Fixtures: servers and clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from azimuth_db import Client
from server_process import ServerProcess

ServerFactory = Callable[..., ServerProcess]

_LOG_KEY = pytest.StashKey[list[ServerProcess]]()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Shows the servers' logs with a failure."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed:
        for server in item.stash.get(_LOG_KEY, []):
            report.sections.append((f"log of {server.folder}", server.log()[-20_000:]))


@pytest.fixture
def server_factory(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ServerFactory]:
    """Returns a function that starts a server: options and `folder` (a name) are its arguments.

    Two calls with one folder are two servers on one data directory.
    """
    servers: list[ServerProcess] = []
    request.node.stash[_LOG_KEY] = servers

    def make(*options: str, folder: str = "server", start: bool = True) -> ServerProcess:
        server = ServerProcess(tmp_path / folder, *options)
        servers.append(server)
        return server.start() if start else server

    yield make
    for server in servers:
        server.kill()


@pytest.fixture
def server(server_factory: ServerFactory) -> ServerProcess:
    """Returns a running server with the default options."""
    return server_factory()


@pytest.fixture
def db(server: ServerProcess) -> Iterator[Client]:
    """Returns a client of `server`."""
    with server.client() as client:
        yield client
