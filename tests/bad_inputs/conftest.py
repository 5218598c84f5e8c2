"""One server for all bad inputs, with four collections that no case may change."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from azimuth_db._generated.azimuth.v1 import types_pb2
from bad_input_cases import (
    AUTO,
    EMPTY,
    OPEN,
    STRICT,
    Check,
    answers_good_calls,
    check,
    create,
    field,
    insert,
    record,
    vector_field,
)
from bad_input_server import Server, Watch

# Nothing is sealed or built in the background, so that only writes raise the sequence number.
NO_BUILDS = ("--growing-rows-max", "10000000", "--graph-rows-min", "10000000")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "bad_input(entry): the test shows this entry of the bad-input catalogue"
    )


def make_collections(server: Server) -> None:
    fields = [
        field("flag", types_pb2.FIELD_TYPE_BOOL),
        field("n", types_pb2.FIELD_TYPE_INT64),
        field("price", types_pb2.FIELD_TYPE_DOUBLE),
        field("title", types_pb2.FIELD_TYPE_STRING),
    ]
    for name in (OPEN, EMPTY):
        server.stubs.call("Create", create(name, fields=fields))
    server.stubs.call("Create", create(AUTO, fields=fields, auto_id=True))
    strict_fields = [
        field("title", types_pb2.FIELD_TYPE_STRING, nullable=False),
        field("price", types_pb2.FIELD_TYPE_DOUBLE),
    ]
    strict_vectors = [
        vector_field("v", metric=types_pb2.METRIC_COSINE),
        vector_field("w", metric=types_pb2.METRIC_IP, dimension=2),
    ]
    server.stubs.call(
        "Create",
        create(
            STRICT,
            strict_vectors,
            strict_fields,
            key_type=types_pb2.KEY_TYPE_STRING,
            dynamic=False,
        ),
    )
    server.stubs.call("Insert", insert(*(record(n, [n, 0, 0, 0], n=n) for n in (1, 2, 3))))
    server.stubs.call("Insert", insert(record("a", [1, 0, 0, 0], title="t"), into=STRICT))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    process = Server(tmp_path_factory.mktemp("bad_inputs") / "data", *NO_BUILDS)
    try:
        process.wait_ready()
        make_collections(process)
        answers_good_calls(process)
        yield process
    finally:
        status = process.stop()
    assert status == 0, process.log.read_text(errors="replace")[-2000:]


@pytest.fixture
def refused(server: Server) -> Check:
    """Checks one Case."""
    return lambda case: check(server, case)


@pytest.fixture
def watch(server: Server) -> Watch:
    """The context around a bad input that is no Case."""
    return Watch(server, answers_good_calls, OPEN)
