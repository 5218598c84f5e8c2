"""The real server as a process, and what a bad input may not change about it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from azimuth_db._generated.azimuth.v1 import (
    admin_pb2,
    collections_pb2,
    records_pb2,
    search_pb2,
)
from grpc_health.v1 import health_pb2

MIB = 1 << 20
RSS_GROWTH_MAX_MIB = 200
START_SECONDS = 60.0
CALL_SECONDS = 60.0

REPLIES: dict[str, Any] = {
    "Create": collections_pb2.CreateCollectionResponse,
    "Drop": collections_pb2.DropCollectionResponse,
    "Describe": collections_pb2.DescribeCollectionResponse,
    "List": collections_pb2.ListCollectionsResponse,
    "Stats": collections_pb2.CollectionStatsResponse,
    "Truncate": collections_pb2.TruncateCollectionResponse,
    "Optimize": collections_pb2.OptimizeResponse,  # A stream: here for calls that are refused.
    "Insert": records_pb2.InsertResponse,
    "Upsert": records_pb2.UpsertResponse,
    "Update": records_pb2.UpdateResponse,
    "Delete": records_pb2.DeleteResponse,
    "Get": records_pb2.GetResponse,
    "Query": records_pb2.QueryResponse,
    "Count": records_pb2.CountResponse,
    "Search": search_pb2.SearchResponse,
    "SearchBatch": search_pb2.SearchBatchResponse,
    "ServerInfo": admin_pb2.ServerInfoResponse,
    "CreateSnapshot": admin_pb2.CreateSnapshotResponse,
    "ListSnapshots": admin_pb2.ListSnapshotsResponse,
    "VerifySnapshot": admin_pb2.VerifySnapshotResponse,
    "RestoreSnapshot": admin_pb2.RestoreSnapshotResponse,
    "DeleteSnapshot": admin_pb2.DeleteSnapshotResponse,
    "Check": health_pb2.HealthCheckResponse,
}
SERVICES = {
    "CollectionService": ("Create", "Drop", "Describe", "List", "Stats", "Truncate", "Optimize"),
    "RecordService": ("Insert", "Upsert", "Update", "Delete", "Get", "Query", "Count"),
    "SearchService": ("Search", "SearchBatch"),
    "AdminService": (
        "ServerInfo",
        "CreateSnapshot",
        "ListSnapshots",
        "VerifySnapshot",
        "RestoreSnapshot",
        "DeleteSnapshot",
    ),
}
PATHS = {
    rpc: f"/azimuth.v1.{service}/{rpc}" for service, rpcs in SERVICES.items() for rpc in rpcs
} | {"Check": "/grpc.health.v1.Health/Check"}


def to_bytes(request: Any) -> bytes:
    """A request is a message, or its bytes where no library would write them."""
    if isinstance(request, bytes):
        return request
    data: bytes = request.SerializeToString()
    return data


class Stubs:
    """Every RPC by its short name or its path, for messages and for raw bytes."""

    def __init__(self, address: str, **options: int) -> None:
        defaults = {
            "grpc.max_send_message_length": -1,
            "grpc.max_receive_message_length": -1,
            "grpc.enable_http_proxy": 0,
            "grpc.use_local_subchannel_pool": 1,
        }
        self.channel = grpc.insecure_channel(address, options=list((defaults | options).items()))

    def method(self, rpc: str) -> Any:
        """The callable of an RPC's short name or full path; replies of paths stay bytes."""
        path = PATHS.get(rpc, rpc)
        reply = REPLIES.get(rpc)
        return self.channel.unary_unary(
            path,
            request_serializer=to_bytes,
            response_deserializer=reply.FromString if reply else None,
        )

    def call(self, rpc: str, request: Any, timeout: float = CALL_SECONDS, **options: Any) -> Any:
        """Calls and returns the reply; grpc.RpcError as grpc raises it."""
        return self.method(rpc)(request, timeout=timeout, **options)

    def close(self) -> None:
        self.channel.close()


def until(condition: Callable[[], Any], what: str, seconds: float = START_SECONDS) -> Any:
    """Asks again and again until the condition holds; fails with `what` after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{seconds} s passed: {what}"
        time.sleep(0.01)


class Server:
    """One azimuthd over one data directory."""

    def __init__(self, data_dir: Path, *flags: str, environment: dict[str, str] | None = None):
        binary = os.environ.get("AZIMUTH_SERVER", "")
        assert binary, "AZIMUTH_SERVER is not set; ./dev test sets it to the server's binary"
        self.data_dir = data_dir
        self.port_file = data_dir.with_name(data_dir.name + ".port")
        self.log = data_dir.with_name(data_dir.name + ".log")
        self.port_file.unlink(missing_ok=True)
        arguments = [binary, "--data-dir", str(data_dir), "--port-file", str(self.port_file)]
        if "--listen" not in flags:
            arguments += ["--listen", "127.0.0.1:0"]
        with self.log.open("ab") as log:
            # SIGXFSZ stays ignored, as Python has it, for the test that limits the size of files.
            self.process = subprocess.Popen(
                [*arguments, *flags],
                stdout=log,
                stderr=log,
                env=os.environ | (environment or {}),
                restore_signals=False,
            )

    def wait_ready(self) -> Server:
        """Returns once the server listens."""

        def listens() -> bool:
            assert self.process.poll() is None, self.log.read_text(errors="replace")[-2000:]
            return self.port_file.exists()

        until(listens, f"no port file; the server's log is {self.log}")
        self.address = self.port_file.read_text().strip()
        self.stubs = Stubs(self.address)
        return self

    @property
    def host_port(self) -> tuple[str, int]:
        host, _, port = self.address.rpartition(":")
        return host, int(port)

    def memory(self) -> dict[str, int]:
        """VmRSS and VmHWM (the peak of VmRSS) in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        kib = dict(re.findall(r"^(\w+):\s+(\d+) kB", status, re.M))
        return {name: int(kib[name]) * 1024 for name in ("VmRSS", "VmHWM")}

    def forget_peak(self) -> None:
        """Makes VmHWM begin anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def cpu_seconds(self) -> float:
        """What all threads of the server have used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def health(self) -> str:
        reply = self.stubs.call("Check", health_pb2.HealthCheckRequest())
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))

    def stop(self) -> int:
        """Ends the server by SIGTERM and returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            if hasattr(self, "stubs"):
                self.stubs.close()


@dataclass(frozen=True)
class State:
    """All that a refused request must leave as it is."""

    as_of: int  # The store's last sequence number: any write raises it.
    collections: tuple[tuple[str, int, int], ...]


def state_of(server: Server, collection: str) -> State:
    count = server.stubs.call("Count", records_pb2.CountRequest(collection=collection))
    listed = server.stubs.call("List", collections_pb2.ListCollectionsRequest())
    return State(
        count.as_of,
        tuple((c.collection, c.collection_id, c.row_count) for c in listed.collections),
    )


class Watch:
    """A context in which a bad input is sent; on leaving it the server must be as good as before:
    alive, nothing written, the next good calls answered, its memory bounded."""

    def __init__(self, server: Server, good: Callable[[Server], None], collection: str) -> None:
        self.server, self.good, self.collection = server, good, collection
        self.peak_mib_max: int | None = None  # Set it inside to bound the peak as well.

    def __enter__(self) -> Watch:
        self.before = state_of(self.server, self.collection)
        self.server.forget_peak()
        self.rss = self.server.memory()["VmRSS"]
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is not None:
            return
        assert self.server.process.poll() is None, "the server died"
        assert self.server.health() == "SERVING"
        memory = self.server.memory()
        grown = (memory["VmRSS"] - self.rss) / MIB
        peak = (memory["VmHWM"] - self.rss) / MIB
        assert state_of(self.server, self.collection) == self.before, "something was written"
        self.good(self.server)
        assert grown < RSS_GROWTH_MAX_MIB, f"memory grew by {grown:.0f} MiB"
        if self.peak_mib_max is not None:
            assert peak < self.peak_mib_max, f"memory grew by {peak:.0f} MiB for a while"


def failure(call: Callable[[], Any]) -> Any:
    """The error of a call that must fail."""
    try:
        reply = call()
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"the call was answered: {str(reply)[:300]!r}")


def assert_refused(
    error: Any, codes: grpc.StatusCode | Sequence[grpc.StatusCode], reason: str, server: Server
) -> None:
    """The code is one of those, the text matches the pattern and tells nothing of the inside."""
    wanted = (codes,) if isinstance(codes, grpc.StatusCode) else tuple(codes)
    text = error.details() or ""
    assert error.code() in wanted, f"got {error.code().name}: {text}"
    assert re.search(reason, text, re.S), f"{text!r} does not say {reason!r}"
    assert str(server.data_dir) not in text
    assert not re.search(r"\.(cc|h):\d+|0x[0-9a-f]{8,}", text), f"{text!r} shows the inside"
