"""HTTP/2 by hand: frames that no library would send."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header(name: str, value: str) -> bytes:
    """A literal that is not indexed. Values below 127 bytes."""
    assert len(value) < 127
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def request_headers(path: str, more: Sequence[tuple[str, str]] = ()) -> bytes:
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *more,
    ]
    return b"".join(header(name, value) for name, value in fields)


def grpc_message(data: bytes, compressed: bool = False) -> bytes:
    return struct.pack(">BI", compressed, len(data)) + data


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


class Connection:
    """One HTTP/2 connection, settings exchanged."""

    def __init__(self, address: tuple[str, int], seconds: float = 20) -> None:
        self.socket = socket.create_connection(address, timeout=seconds)
        self.buffer = b""
        self.send(PREFACE + frame(SETTINGS, 0, 0))
        # The server holds us to its settings once we have acknowledged them.
        next(got for got in self.frames() if got.kind == SETTINGS and not got.flags & ACK)
        self.send(frame(SETTINGS, ACK, 0))

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> bool:
        """False once the server has closed the connection."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            return False
        return True

    def frames(self) -> Iterator[Frame]:
        """What the server sends until it closes the connection; TimeoutError if it is silent."""
        while True:
            while len(self.buffer) < 9 or len(self.buffer) < 9 + self._length():
                try:
                    received = self.socket.recv(1 << 16)
                except ConnectionResetError:
                    received = b""
                if not received:
                    return
                self.buffer += received
            end = 9 + self._length()
            kind, flags, stream = struct.unpack(">BBI", self.buffer[3:9])
            payload, self.buffer = self.buffer[9:end], self.buffer[end:]
            yield Frame(kind, flags, stream & 0x7FFFFFFF, payload)

    def _length(self) -> int:
        return int.from_bytes(self.buffer[:3], "big")

    def round_trip(self) -> None:
        """Returns once the server has answered a ping, which comes after what was sent before."""
        self.send(frame(PING, 0, 0, b"12345678"))
        for got in self.frames():
            if got.kind == PING and got.flags & ACK:
                return

    def end_of(self, stream: int) -> Frame | None:
        """The frame that ends a stream; None if the connection ended first."""
        for got in self.frames():
            if got.kind == GOAWAY:
                return None
            ends = got.kind == RST_STREAM or got.flags & END_STREAM
            if got.stream == stream and got.kind in (DATA, HEADERS, RST_STREAM) and ends:
                return got
        return None
