"""Entries 39 and 106 to 114: names, hostile folders, and what is not a snapshot or not there."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from azimuth_db._generated.azimuth.v1 import admin_pb2
from bad_input_cases import (
    ABORTED,
    ALREADY_EXISTS,
    EXHAUSTED,
    INVALID,
    NOT_FOUND,
    OPEN,
    UNREADABLE,
    Case,
    Check,
    answers_good_calls,
    create,
    drop,
    insert,
    record,
    table,
)
from bad_input_server import Server, Watch, assert_refused, failure
from conftest import NO_BUILDS, make_collections

PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
DATA_LOSS = grpc.StatusCode.DATA_LOSS
GOOD = "good"  # The snapshot of OPEN that every test has.
# What no name of a snapshot or a collection may be.
PATHS = [
    "../x", "..", ".", "a/b", "/etc/passwd", "/", "a\\b", "a\0b", "~", "1", "-a", "a b", "a.b",
    "file:///etc/passwd", "http://169.254.169.254/latest", "https://example.org/a", "s3://a/b",
    "é", "a\n", "x" * 256,
]  # fmt: skip
URLS = [name for name in PATHS if "://" in name]


def make(name: str = "", of: str = OPEN) -> admin_pb2.CreateSnapshotRequest:
    return admin_pb2.CreateSnapshotRequest(collection=of, name=name)


def restore(
    snapshot: str = GOOD, to: str = "restored", of: str = "", overwrite: bool = False
) -> admin_pb2.RestoreSnapshotRequest:
    return admin_pb2.RestoreSnapshotRequest(
        snapshot=snapshot, collection=of, target_name=to, overwrite=overwrite
    )


def verify(snapshot: str) -> admin_pb2.VerifySnapshotRequest:
    return admin_pb2.VerifySnapshotRequest(snapshot=snapshot)


def delete(snapshot: str) -> admin_pb2.DeleteSnapshotRequest:
    return admin_pb2.DeleteSnapshotRequest(snapshot=snapshot)


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.fixture(scope="module", autouse=True)
def good(server: Server) -> Iterator[Path]:
    """The folder of GOOD."""
    info = server.stubs.call("CreateSnapshot", make(GOOD)).snapshot
    yield server.data_dir / "snapshots" / info.id
    server.stubs.call("DeleteSnapshot", delete(info.id))


class Hostile:
    """A copy of GOOD that a test spoils."""

    def __init__(self, good: Path, snapshot: str) -> None:
        self.snapshot = snapshot
        self.folder = good.parent / snapshot
        shutil.copytree(good, self.folder)
        self.rename()

    def rename(self) -> None:
        """Gives it a name of its own, so that GOOD stays the only one."""
        self.edit("\nname good\n", "\nname hostile\n")

    def edit(self, old: str, new: str, right: bool = True) -> None:
        """Changes the manifest; its checksum stays right if that is said."""
        path = self.folder / "MANIFEST"
        text = path.read_text(errors="surrogateescape")
        assert old in text
        text = text.replace(old, new)
        if right:
            body = text[: text.rindex("crc32c ")]
            text = f"{body}crc32c {crc32c(body.encode(errors='surrogateescape')):08x}\n"
        path.write_text(text, errors="surrogateescape")

    def line(self, start: str) -> str:
        text = (self.folder / "MANIFEST").read_text()
        return next(line for line in text.splitlines() if line.startswith(start))


@pytest.fixture
def hostile(good: Path) -> Iterator[Hostile]:
    copy = Hostile(good, "00000000000000ee")
    yield copy
    if copy.folder.is_dir() and not copy.folder.is_symlink():
        shutil.rmtree(copy.folder)
    else:
        copy.folder.unlink()


def check_refused(
    server: Server, hostile: Hostile, codes: Any, reason: str, mends: bool = True
) -> None:
    """It is not restored under any name, told in the list and by a check, and nothing is left."""
    segments = sorted((server.data_dir / "segments").iterdir())
    with Watch(server, answers_good_calls, OPEN):
        for request in (restore(hostile.snapshot), restore(hostile.snapshot, OPEN, overwrite=True)):
            error = failure(lambda request=request: server.stubs.call("RestoreSnapshot", request))
            assert_refused(error, codes, reason, server)
        reply = server.stubs.call("VerifySnapshot", verify(hostile.snapshot))
        assert not reply.restorable
        assert str(server.data_dir) not in "".join(reply.problems)
    assert sorted((server.data_dir / "segments").iterdir()) == segments
    names = {path.name for path in (server.data_dir / "snapshots").iterdir()}
    assert not any(name.endswith((".tmp", ".restore")) for name in names)


NAMES = [
    *(Case(106, f"create {name[:20]!r}", "CreateSnapshot", make(name), INVALID, "^name: .*no name")
      for name in PATHS if "\0" not in name),
    *(Case(106, f"of {name[:20]!r}", "CreateSnapshot", make("x", name), INVALID, "^collection: ")
      for name in PATHS),
    *(Case(106, f"{rpc} {name[:20]!r}", rpc, request(name), INVALID, "^snapshot: .*no name")
      for rpc, request in (("RestoreSnapshot", restore), ("VerifySnapshot", verify),
                           ("DeleteSnapshot", delete))
      for name in [*PATHS, ""] if name not in URLS),
    *(Case(106, f"to {name[:20]!r}", "RestoreSnapshot", restore(to=name), INVALID,
           "^target_name: ") for name in PATHS),
    *(Case(106, f"one of {name[:20]!r}", "RestoreSnapshot", restore(of=name), INVALID,
           "^collection: ") for name in PATHS),
    Case(106, "like an id", "CreateSnapshot", make("abcdefabcdefabcd"), INVALID, "could be an id"),
    Case(106, "not UTF-8", "CreateSnapshot", b"\x1a\x02\xff\xfe", UNREADABLE, ""),
    Case(107, "create again", "CreateSnapshot", make(GOOD), ALREADY_EXISTS, "'good' already"),
    Case(107, "of no collection", "CreateSnapshot", make("x", "nothing"), NOT_FOUND, "'nothing'"),
    *(Case(107, f"{rpc} {name}", rpc, request(name), NOT_FOUND, f"'{name}' does not exist")
      for rpc, request in (("RestoreSnapshot", restore), ("VerifySnapshot", verify),
                           ("DeleteSnapshot", delete))
      for name in ("nothing", "0123456789abcdef")),
    Case(107, "another collection", "RestoreSnapshot", restore(of="empty"), NOT_FOUND,
         "of collection 'open' and has no 'empty'"),
    Case(111, "its own name", "RestoreSnapshot", restore(to=""), ALREADY_EXISTS, "'open'"),
    Case(111, "another name", "RestoreSnapshot", restore(to="strict"), ALREADY_EXISTS, "'strict'"),
    *(Case(114, f"{rpc} {name}", rpc, request(name), INVALID, "no name for a snapshot")
      for rpc, request in (("RestoreSnapshot", restore), ("VerifySnapshot", verify),
                           ("DeleteSnapshot", delete))
      for name in URLS),
]  # fmt: skip


@pytest.mark.parametrize("case", table(NAMES))
def test_names_of_snapshots(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.bad_input(108)
@pytest.mark.parametrize(
    ("what", "kind"),
    [
        (what, kind)
        for what in ("rows.dat", "MANIFEST", "folder", "segment")
        for kind in ("symlink", "pipe", "folder", "socket", "device")
        if (what, kind) != ("folder", "folder")
    ],
)
def test_what_is_no_regular_file_is_not_followed(
    server: Server, hostile: Hostile, what: str, kind: str, tmp_path: Path
) -> None:
    path = hostile.folder if what == "folder" else hostile.folder / what
    if what == "segment":
        path = hostile.folder / "00000000000000aa.seg"
        hostile.edit("files 1\n", "files 2\nfile 00000000000000aa.seg 0 00000000\n")
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    if kind == "symlink":
        # To what would do, to the letter.
        target = tmp_path / "target"
        good = next(p for p in hostile.folder.parent.iterdir() if p != hostile.folder)
        source = good if what == "folder" else good / what
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            target.write_bytes(source.read_bytes() if source.exists() else b"")
        path.symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        # By a short path: a socket has no other.
        parent = os.open(path.parent, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{parent}/{path.name}")
        os.close(parent)
    else:
        run = subprocess.run(["mknod", str(path), "c", "1", "5"], capture_output=True, check=False)
        if run.returncode != 0:
            pytest.skip("devices cannot be made here")
    check_refused(server, hostile, INVALID, "not a regular file|not a folder")


@pytest.mark.bad_input(108)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("file rows.dat", "file ../rows.dat"),
        ("file rows.dat", "file /etc/passwd"),
        ("file rows.dat", "file ."),
        ("file rows.dat", "file rows.dat/../../x"),
        ("file rows.dat", "file rocks/CURRENT"),
        ("files 1\n", "files 10000000\n"),
        ("files 1\n", "files 18446744073709551616\n"),
        ("files 1\n", "files 2\nfile rows.dat 0 00000000\n"),
        ("next_row ", "next_row 9999999999999"),
        ("as_of ", "as_of 9999999999999999999"),
        ("definition ", "definition 00"),
        ("\ncollection open\n", "\ncollection ../open\n"),
        ("\ncollection open\n", "\ncollection \udcff\udcfe\n"),
        ("\nname hostile\n", "\nname ../../x\n"),
        ("\nname hostile\n", "\nname \udcff\n"),
        ("\ncreated_unix_us ", "\ncreated_unix_us 99"),
        ("\ncollection_created_unix_us ", "\ncollection_created_unix_us -99"),
        ("\nlive_rows ", "\nlive_rows 99999999999999999"),
    ],
)
def test_a_hostile_manifest_is_refused(
    server: Server, hostile: Hostile, old: str, new: str
) -> None:
    hostile.edit(old, new)
    # Nothing of it gets to who lists it.
    with Watch(server, answers_good_calls, OPEN):
        listed = server.stubs.call("ListSnapshots", admin_pb2.ListSnapshotsRequest()).snapshots
        if old not in ("next_row ", "definition "):  # Those are looked at by a restore.
            assert [info.name for info in listed if not info.problem] == [GOOD]
            [bad] = [info for info in listed if info.problem]
            assert (bad.id, bad.name, bad.collection, bad.created_unix_us, bad.rows) == (
                hostile.snapshot, "", "", 0, 0,
            )  # fmt: skip
    # So many rows there could be, but the memory for them there is not; or, with the digits that
    # the number has had, there cannot be so many.
    if old == "next_row ":
        with Watch(server, answers_good_calls, OPEN):
            error = failure(lambda: server.stubs.call("RestoreSnapshot", restore(hostile.snapshot)))
            reason = "bytes of memory|'next_row' is out of range"
            assert_refused(error, (EXHAUSTED, DATA_LOSS), reason, server)
        return
    check_refused(server, hostile, (DATA_LOSS, INVALID, PRECONDITION), "")


@pytest.mark.bad_input(108)
def test_a_sparse_bomb_and_a_manifest_without_end_cost_no_memory(
    server: Server, hostile: Hostile
) -> None:
    size = int(hostile.line("file rows.dat").split()[2])
    os.truncate(hostile.folder / "rows.dat", 1 << 40)
    check_refused(server, hostile, DATA_LOSS, f"1099511627776 bytes instead of {size}")
    os.truncate(hostile.folder / "MANIFEST", 1 << 40)
    check_refused(server, hostile, DATA_LOSS, "more than a manifest has")


@pytest.mark.bad_input(109)
@pytest.mark.parametrize("where", ["checksum", "letter", "cut", "longer", "empty"])
def test_a_damaged_manifest_is_data_loss(server: Server, hostile: Hostile, where: str) -> None:
    path = hostile.folder / "MANIFEST"
    text = path.read_text()
    if where == "checksum":
        hostile.edit("crc32c ", "crc32c 0", right=False)
    elif where == "letter":
        hostile.edit("live_rows", "live_rowz", right=False)
    elif where == "cut":
        path.write_text(text[:-20])
    elif where == "longer":
        path.write_text(text + "x\n")
    else:
        path.write_text("")
    check_refused(server, hostile, DATA_LOSS, "not a manifest")


@pytest.mark.bad_input(109)
@pytest.mark.parametrize("where", ["size", "byte", "missing", "crc"])
def test_damaged_rows_are_data_loss(server: Server, hostile: Hostile, where: str) -> None:
    path = hostile.folder / "rows.dat"
    content = path.read_bytes()
    if where == "size":
        path.write_bytes(content[:-1])
    elif where == "byte":
        path.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    elif where == "missing":
        path.unlink()
    else:
        line = hostile.line("file rows.dat")
        hostile.edit(line, line[:-8] + f"{int(line[-8:], 16) ^ 1:08x}")
    check_refused(server, hostile, DATA_LOSS, r"rows\.dat")


@pytest.mark.bad_input(109)
def test_rows_that_contradict_themselves_are_data_loss(server: Server, hostile: Hostile) -> None:
    path = hostile.folder / "rows.dat"
    size, crc = hostile.line("file rows.dat").split()[2:]
    # Whole and with right checksums, and a row of it is of a commit after the snapshot.
    as_of = int(hostile.line("as_of ").split()[1])
    content = bytearray(path.read_bytes())
    header = content[:12] + (1).to_bytes(8, "little")
    content[:24] = header + crc32c(bytes(header)).to_bytes(4, "little")
    path.write_bytes(content)
    hostile.edit(f"file rows.dat {size} {crc}", f"file rows.dat {size} {crc32c(content):08x}")
    hostile.edit(f"as_of {as_of}", "as_of 1")
    check_refused(server, hostile, DATA_LOSS, "inserted at")


@pytest.mark.bad_input(110)
def test_a_newer_format_is_refused_by_its_number(server: Server, hostile: Hostile) -> None:
    hostile.edit("azimuth snapshot, format 1", "azimuth snapshot, format 7")
    check_refused(server, hostile, PRECONDITION, "format 7.* newer than 1")


@pytest.mark.bad_input(112)
def test_room_for_a_restore_is_asked_for_first(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", *NO_BUILDS).wait_ready()
    make_collections(server)
    info = server.stubs.call("CreateSnapshot", make(GOOD)).snapshot
    assert server.stop() == 0
    free = os.statvfs(tmp_path)
    floor = free.f_bavail * free.f_frsize // (1 << 20) + (1 << 20)
    server = Server(tmp_path / "data", *NO_BUILDS, "--disk-floor-mb", str(floor)).wait_ready()
    try:
        for rpc, request in (
            ("RestoreSnapshot", restore()),
            ("RestoreSnapshot", restore(to=OPEN, overwrite=True)),
            ("CreateSnapshot", make("another")),
        ):
            error = failure(lambda rpc=rpc, request=request: server.stubs.call(rpc, request))
            assert_refused(error, EXHAUSTED, "free|disk", server)
        assert [p.name for p in (server.data_dir / "snapshots").iterdir()] == [info.id]
    finally:
        assert server.stop() == 0


@pytest.mark.bad_input(113)
def test_a_second_snapshot_while_one_runs_is_aborted(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", *NO_BUILDS).wait_ready()
    try:
        make_collections(server)
        for part in range(20):
            rows = (
                record(n, [n, 0, 0, 0], n=n) for n in range(1000 * part + 1000, 1000 * part + 2000)
            )
            server.stubs.call("Upsert", insert(*rows))
        outcomes: list[Any] = []

        def take(n: int) -> None:
            try:
                outcomes.append(server.stubs.call("CreateSnapshot", make(f"s{n}")).snapshot.name)
            except grpc.RpcError as error:
                outcomes.append(error)

        threads = [threading.Thread(target=take, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        made = {outcome for outcome in outcomes if isinstance(outcome, str)}
        for outcome in outcomes:
            if not isinstance(outcome, str):
                assert_refused(outcome, ABORTED, "is being made; try again", server)
        assert made
        assert len(made) < 16
        listed = server.stubs.call("ListSnapshots", admin_pb2.ListSnapshotsRequest()).snapshots
        assert {info.name for info in listed} == made
        answers_good_calls(server)
    finally:
        assert server.stop() == 0


@pytest.mark.bad_input(39)
def test_a_drop_during_a_snapshot_is_done_and_the_snapshot_is_whole(server: Server) -> None:
    for round_ in range(10):
        server.stubs.call("Create", create("passing"))
        rows = (record(n, [n, 0, 0, 0], n=n) for n in range(2000))
        server.stubs.call("Insert", insert(*rows, into="passing"))
        outcomes: list[Any] = []

        def take(n: int = round_, outcomes: list[Any] = outcomes) -> None:
            try:
                request = make(f"passing{n}", "passing")
                outcomes.append(server.stubs.call("CreateSnapshot", request).snapshot)
            except grpc.RpcError as error:
                outcomes.append(error)

        taker = threading.Thread(target=take)
        taker.start()
        server.stubs.call("Drop", drop("passing"))
        taker.join()
        [outcome] = outcomes
        if isinstance(outcome, grpc.RpcError):
            assert_refused(outcome, NOT_FOUND, "'passing' does not exist", server)
            continue
        assert outcome.rows == 2000
        assert server.stubs.call("VerifySnapshot", verify(outcome.id)).sound
        server.stubs.call("DeleteSnapshot", delete(outcome.id))
