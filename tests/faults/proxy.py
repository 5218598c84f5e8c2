"""A TCP proxy between a client and a server that stalls, delays and cuts connections."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import threading
import time

CHUNK = 1 << 16
POLL_S = 0.02
# A close with this sends RST in place of FIN.
ABORT = struct.pack("ii", 1, 0)


class Proxy:
    """Listens at loopback and passes bytes on, both ways, with a thread for each connection.

    `stall_replies`, `cut` and the rest may be called from any thread, at any time.

    Attributes:
        address: Where clients connect to.
        delay_s: How long each chunk is held back, each way.
        cut_chance: How likely it is that a chunk and all after it are lost, with the connection.
        cuts: How many connections were cut so.
    """

    def __init__(self, target: tuple[str, int], seed: int = 1) -> None:
        """Begins to listen."""
        self.delay_s = 0.0
        self.cut_chance = 0.0
        self.cuts = 0
        self._target = target
        self._random = random.Random(seed)
        self._replies_pass = threading.Event()
        self._replies_pass.set()
        self._closed = threading.Event()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(POLL_S)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all connections and the proxy."""
        self._closed.set()
        self._replies_pass.set()
        self._acceptor.join()
        self._listener.close()
        self.cut()

    def stall_replies(self, stall: bool = True) -> None:
        """Reads nothing from the server any more, as a client that does not read; or again."""
        if stall:
            self._replies_pass.clear()
        else:
            self._replies_pass.set()

    def cut(self) -> None:
        """Aborts all connections that there are (RST)."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _abort(pair)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            try:
                server = socket.create_connection(self._target, timeout=5)
            except OSError:
                client.close()
                continue
            # A small window: what is not read stays with the server soon.
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
            pair = (client, server)
            with self._lock:
                self._pairs.append(pair)
            threading.Thread(target=self._pass_on, args=(pair,), daemon=True).start()

    def _pass_on(self, pair: tuple[socket.socket, socket.socket]) -> None:
        client, server = pair
        with contextlib.suppress(OSError, ValueError):
            while not self._closed.is_set():
                wanted = [client, server] if self._replies_pass.is_set() else [client]
                readable, _, _ = select.select(wanted, [], [], POLL_S)
                for source in readable:
                    data = source.recv(CHUNK)
                    if not data:
                        return _abort(pair)
                    if self.cut_chance and self._random.random() < self.cut_chance:
                        self.cuts += 1
                        return _abort(pair)
                    if self.delay_s:
                        time.sleep(self._random.uniform(0, 2 * self.delay_s))
                    (server if source is client else client).sendall(data)
        return _abort(pair)


def _abort(pair: tuple[socket.socket, socket.socket]) -> None:
    for end in pair:
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        end.close()
