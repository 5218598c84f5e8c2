"""Connections whose other end is gone, without a word: begun early, looked at late.

A server takes some 40 seconds to notice. They are begun with the session, and other tests run
meanwhile.
"""

from __future__ import annotations

import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fault_items import Items
from fault_server import FaultServer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


@dataclass
class HalfOpen:
    """A server with connections to nobody.

    Attributes:
        server: The server.
        items: What it stores.
        connections: Our ends, of a peer that lives but does not answer pings.
        before: The sockets of the server without any of them.
    """

    server: FaultServer
    items: Items
    connections: list[socket.socket]
    before: int


def begin(folder: Path) -> HalfOpen:
    """Starts a server with silent peers: of one nothing came, of one the preface."""
    server = FaultServer(folder)
    items = Items()
    with server.start().client() as db:
        items.create(db)
        items.insert(db, range(100))
    before = server.sockets()
    connections = [socket.create_connection(server.host_port) for _ in range(20)]
    for connection in connections[10:]:
        connection.sendall(PREFACE)
    return HalfOpen(server, items, connections, before)


class CutLink:
    """A server in a network of its own, and a link to it that can be cut.

    Attributes:
        server: The server.
        why_not: Why there is none; empty if there is.
    """

    def __init__(self, folder: Path) -> None:
        """Makes network and server."""
        self.why_not = ""
        self._space = f"azf{os.getpid()}"
        self._ours, self._theirs = f"aza{os.getpid()}", f"azb{os.getpid()}"
        net = f"10.213.{os.getpid() // 250 % 250}"
        self.server = FaultServer(
            folder,
            "--listen",
            f"{net}.2:7600",
            "--insecure",
            prefix=["ip", "netns", "exec", self._space],
        )
        commands = [
            f"ip netns add {self._space}",
            f"ip link add {self._ours} type veth peer name {self._theirs}",
            f"ip link set {self._theirs} netns {self._space}",
            f"ip addr add {net}.1/24 dev {self._ours}",
            f"ip link set {self._ours} up",
            f"ip netns exec {self._space} ip addr add {net}.2/24 dev {self._theirs}",
            f"ip netns exec {self._space} ip link set {self._theirs} up",
            f"ip netns exec {self._space} ip link set lo up",
        ]
        for command in commands:
            run = subprocess.run(command.split(), capture_output=True, text=True, check=False)
            if run.returncode != 0:
                self.why_not = f"`{command}`: {run.stderr.strip()}"
                return

    def cut(self) -> None:
        """Everything that is sent from now on is lost."""
        subprocess.run(["ip", "link", "set", self._ours, "down"], check=True)

    def mend(self) -> None:
        """The link is there again."""
        subprocess.run(["ip", "link", "set", self._ours, "up"], check=True)

    def close(self) -> None:
        """Ends the server and removes the network."""
        self.server.kill()
        for command in (f"ip link del {self._ours}", f"ip netns del {self._space}"):
            subprocess.run(command.split(), capture_output=True, check=False)
