"""Some entries again through the Python client: each code arrives as its exception."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import azimuth_db
import numpy as np
import pytest
from azimuth_db import errors
from bad_input_cases import EMPTY, OPEN, STRICT
from bad_input_server import Server, Watch

Act = Callable[[azimuth_db.Client], Any]
VECTORS = {"v": azimuth_db.VectorField(4, "l2")}
ONE = [1.0, 0.0, 0.0, 0.0]


@pytest.fixture
def client(server: Server) -> Iterator[azimuth_db.Client]:
    with azimuth_db.Client(server.address, timeout=20) as connected:
        yield connected


CASES: list[tuple[int, str, type[Exception], str, Act]] = [
    (27, "taken", errors.AlreadyExists, "'open'",
     lambda db: db.create_collection(OPEN, VECTORS)),
    (25, "bad name", errors.InvalidArgument, "no name for a collection",
     lambda db: db.create_collection("a/b", VECTORS)),
    (38, "drop unknown", errors.NotFound, "'nothing'", lambda db: db.drop_collection("nothing")),
    (43, "unknown collection", errors.NotFound, "'nothing'",
     lambda db: db.collection("nothing").search(ONE, limit=1)),
    (46, "one too few", ValueError, "4",
     lambda db: db.collection(OPEN).insert([9], np.ones((1, 3), np.float32))),
    (48, "NaN", ValueError, "NaN|finite",
     lambda db: db.collection(OPEN).insert([9], np.full((1, 4), np.nan, np.float32))),
    (55, "existing key", errors.AlreadyExists, r"\b2\b",
     lambda db: db.collection(OPEN).insert([2], np.ones((1, 4), np.float32))),
    (54, "key twice", errors.InvalidArgument, "comes twice",
     lambda db: db.collection(OPEN).insert([9, 9], np.ones((2, 4), np.float32))),
    (50, "zero with cosine", errors.InvalidArgument, "zero vector",
     lambda db: db.collection(STRICT).search([0.0] * 4, limit=1, field="v")),
    (56, "update of a missing key", errors.NotFound, "77",
     lambda db: db.collection(OPEN).update([77], fields={"n": [1]})),
    (57, "stale version", errors.Aborted, "if_version asks for 1",
     lambda db: db.collection(OPEN).upsert([2], np.ones((1, 4), np.float32), if_version=1)),
    (71, "long id", errors.InvalidArgument, "request_id: 129 bytes",
     lambda db: db.collection(OPEN).update([2], request_id="r" * 129)),
    (80, "limit over", ValueError, "16385.*16384",
     lambda db: db.collection(OPEN).search(ONE, limit=16385)),
    (83, "recall", ValueError, "recall: expected more than 0, up to 1, got 1.5",
     lambda db: db.collection(OPEN).search(ONE, recall=1.5)),
    (83, "recall and ef", ValueError, "at most one of recall, exact and ef",
     lambda db: db.collection(OPEN).search(ONE, recall=0.5, ef=9)),
    (94, "syntax", errors.InvalidArgument, "1:5: ",
     lambda db: db.collection(OPEN).count("n = = 1")),
    (105, "parameter", errors.InvalidArgument, r"\$a",
     lambda db: db.collection(OPEN).count("n = $a")),
    (69, "empty filter", ValueError, "all",
     lambda db: db.collection(OPEN).delete(filter="")),
    (101, "like", errors.Unimplemented, "does not serve",
     lambda db: db.collection(OPEN).count("title like 'a%'")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "reason", "act"),
    [pytest.param(kind, reason, act, id=f"{entry}-{name}", marks=pytest.mark.bad_input(entry))
     for entry, name, kind, reason, act in CASES],
)  # fmt: skip
def test_the_client_raises_what_the_server_says(
    client: azimuth_db.Client, watch: Watch, kind: type[Exception], reason: str, act: Act
) -> None:
    with watch, pytest.raises(kind, match=reason):
        act(client)


@pytest.mark.bad_input(91)
def test_the_client_finds_nothing_in_an_empty_collection(client: azimuth_db.Client) -> None:
    assert len(client.collection(EMPTY).search(ONE, limit=5)) == 0
