"""Peers that are gone without a word: begun with the session, looked at after all other tests."""

from __future__ import annotations

import pytest
from conftest import Background
from fault_server import wait_for

CLOSED_S = 60.0


@pytest.mark.fault(40)
def test_connections_of_silent_peers_are_closed_within_a_minute(background: Background) -> None:
    half_open = background.half_open
    server, items = half_open.server, half_open.items
    # Others are served all along.
    with server.client() as db:
        items.check(db)
    for connection in half_open.connections:
        connection.settimeout(CLOSED_S)
        while connection.recv(1 << 16):
            pass
        connection.close()
    wait_for("their sockets are free", lambda: server.sockets() <= half_open.before)
    with server.client() as db:
        items.check(db)


@pytest.mark.fault(40)
def test_connections_over_a_link_that_is_cut_are_closed_within_a_minute(
    background: Background,
) -> None:
    link = background.link
    if link.why_not:
        pytest.skip(f"a network of the test's own cannot be made here: {link.why_not}")
    server = link.server
    wait_for(
        "their sockets are free",
        lambda: server.sockets() <= background.link_before,
        CLOSED_S,
    )
    link.mend()
    with server.client() as db:
        background.link_items.check(db)
