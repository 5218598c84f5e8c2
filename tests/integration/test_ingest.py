"""Bulk loads: order, resumption, refusals, pace, and what goes wrong on the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from azimuth_db import (
    AlreadyExists,
    Client,
    Collection,
    InvalidArgument,
    NotFound,
    Unavailable,
    VectorField,
)
from azimuth_db._generated.azimuth.v1 import records_pb2 as pb
from azimuth_db._generated.azimuth.v1 import records_pb2_grpc, types_pb2
from server_process import TINY_SEGMENTS, ServerProcess, wait_for

ServerFactory = Callable[..., ServerProcess]
DIM = 4
ROWS = 25
V = {"v": VectorField(DIM, "l2")}


def batch(number: int, rows: int = ROWS) -> dict[str, Any]:
    """Returns batch `number`, from 1 on: keys that no other batch has."""
    keys = np.arange((number - 1) * ROWS, (number - 1) * ROWS + rows)
    vectors = np.zeros((rows, DIM), np.float32)
    vectors[:, 0] = keys
    return {"keys": keys, "vectors": vectors, "fields": {"batch": np.full(rows, number)}}


def batches(count: int) -> Iterator[dict[str, Any]]:
    return (batch(number) for number in range(1, count + 1))


@pytest.fixture
def items(db: Client) -> Collection:
    return db.create_collection("items", V, {"batch": "int64"})


# The way of the client.


def test_a_load_is_there_at_once_and_for_good(server: ServerProcess, items: Collection) -> None:
    done = items.ingest(batches(40))
    assert (done.batches, done.inserted, done.replaced) == (40, 40 * ROWS, 0)
    assert items.count() == 40 * ROWS
    again = items.ingest(batches(3))
    assert (again.inserted, again.replaced) == (0, 3 * ROWS)
    assert again.load != done.load
    server.restart(hard=True)
    with server.client() as db:
        found = db.collection("items")
        assert found.count() == 40 * ROWS
        hit = found.search([333.0, 0, 0, 0], limit=1)[0]
        assert (hit.key, hit.fields["batch"]) == (333, 333 // ROWS + 1)


def test_vectors_in_tables_of_their_own_are_read_like_all_others(
    server_factory: ServerFactory,
) -> None:
    server = server_factory(*TINY_SEGMENTS, "--bulk-commit-kb", "1", "--write-buffer-mb", "1")
    with server.client() as db:
        items = db.create_collection("items", V, {"batch": "int64"})
        items.ingest(batches(60), mode="insert")
        items.upsert(**batch(7))
        items.delete(keys=range(10))
        server.restart(hard=True)
    with server.client() as db:
        items = db.collection("items")
        assert items.count() == 60 * ROWS - 10
        keys = [10, 160, 60 * ROWS - 1]
        for key, record in zip(keys, items.get(keys, output_vectors=["v"])):
            assert record is not None
            assert record.vectors["v"][0] == key
        assert db.verify(deep=True).sound


def test_empty_loads_and_loads_of_strings(db: Client) -> None:
    named = db.create_collection("named", V, key_type="string")
    assert named.ingest([]).batches == 0
    done = named.ingest([{"keys": ["a", "b"], "vectors": np.ones((2, DIM))}, {"keys": ["c"]}])
    assert (done.batches, done.inserted) == (2, 3)


def test_a_refused_batch_ends_the_load_and_says_how_far_it_came(items: Collection) -> None:
    items.insert(**batch(5))
    with pytest.raises(AlreadyExists, match=r"batch 5: records\[0\].key: 100 already exists") as e:
        items.ingest(batches(9), mode="insert")
    assert e.value.partial_load is not None
    assert e.value.partial_load.batches == 4
    assert items.count() == 5 * ROWS


def test_refused_batches_can_be_passed_over(items: Collection) -> None:
    items.insert(**batch(2))
    items.insert(**batch(30))
    given = list(batches(50))
    given[10]["vectors"] = np.full((ROWS, DIM), np.nan)
    done = items.ingest(given, mode="insert", skip_refused=True)
    assert [refused.number for refused in done.refused] == [2, 11, 30]
    kinds = [type(refused.error) for refused in done.refused]
    assert kinds == [AlreadyExists, InvalidArgument, AlreadyExists]
    assert (done.batches, done.inserted) == (50, 47 * ROWS)
    assert items.count() == 49 * ROWS


def test_refusals_are_passed_over_until_the_collection_is_gone(
    db: Client, items: Collection
) -> None:
    def drops() -> Iterator[dict[str, Any]]:
        yield from batches(5)
        db.drop_collection("items")
        yield from (batch(number) for number in range(6, 500))

    with pytest.raises(NotFound, match="collection 'items' does not exist"):
        items.ingest(drops(), mode="insert", skip_refused=True)


def test_a_load_that_was_broken_off_goes_on_where_it_was(
    server: ServerProcess, items: Collection
) -> None:
    def breaks() -> Iterator[dict[str, Any]]:
        yield from batches(20)
        wait_for("the first batches", lambda: items.count() >= 5 * ROWS)
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        items.ingest(breaks(), mode="insert", load="night")
    server.restart(hard=True)
    with server.client() as db:
        items = db.collection("items")
        before = items.count()
        done = items.ingest(batches(40), mode="insert", load="night")
        assert before % ROWS == 0
        assert 5 * ROWS <= before <= 20 * ROWS
        assert (done.load, done.batches, done.inserted) == ("night", 40, 40 * ROWS)
        assert items.count() == 40 * ROWS
        # All of it again does nothing.
        assert items.ingest(batches(40), mode="insert", load="night").inserted == 40 * ROWS


def test_a_named_load_begins_anew_after_a_truncation(items: Collection) -> None:
    items.ingest(batches(10), mode="insert", load="night")
    items.truncate()
    done = items.ingest(batches(12), mode="insert", load="night")
    assert (done.batches, done.inserted, done.as_of > 0) == (12, 12 * ROWS, True)
    assert items.count() == 12 * ROWS
    assert items.ingest(batches(12), mode="insert", load="night") == done


def test_two_streams_of_one_load_apply_each_batch_once(
    server: ServerProcess, items: Collection
) -> None:
    def load() -> None:
        with server.client() as db:
            db.collection("items").ingest(batches(60), mode="insert", load="twice")

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert items.count() == 60 * ROWS


def test_searches_and_other_writes_go_on_during_a_load(
    server_factory: ServerFactory,
) -> None:
    server = server_factory(*TINY_SEGMENTS, "--bulk-commit-kb", "1")
    with server.client() as db:
        items = db.create_collection("items", V, {"batch": "int64"})

        def slowly() -> Iterator[dict[str, Any]]:
            for number in range(1, 101):
                yield batch(number)
                if number % 10 == 0:
                    with server.client() as other:
                        same = other.collection("items")
                        same.upsert([-number], np.ones((1, DIM)))
                        same.search(np.zeros(DIM), limit=3)

        assert items.ingest(slowly()).inserted == 100 * ROWS
        assert items.count() == 100 * ROWS + 10


def test_a_load_waits_while_the_index_is_behind(server_factory: ServerFactory) -> None:
    server = server_factory(*TINY_SEGMENTS, "--unindexed-rows-max", "600")
    with server.client() as db:
        items = db.create_collection("items", V, {"batch": "int64"})
        done = items.ingest(batches(120), mode="insert")
        assert done.inserted == 120 * ROWS
        assert done.refused == ()


def test_a_server_that_stops_says_so(server: ServerProcess, items: Collection) -> None:
    def stops() -> Iterator[dict[str, Any]]:
        yield batch(1)
        wait_for("the first batch", lambda: items.count() == ROWS)
        server.terminate()
        yield batch(2)

    with pytest.raises(Unavailable):
        items.ingest(stops(), timeout=2.0)
    assert server.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"mode": "replace"}, ValueError, "mode"),
        ({"load": ""}, ValueError, "load"),
        ({"load": "x" * 101}, InvalidArgument, "load: 101 bytes"),
    ],
)
def test_wrong_arguments(
    items: Collection, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        items.ingest(batches(1), **arguments)
    assert items.count() == 0


def test_wrong_batches(db: Client, items: Collection) -> None:
    with pytest.raises(NotFound, match="nothing"):
        db.collection("nothing").ingest([{"keys": [1], "vectors": {"v": np.ones((1, DIM))}}])
    with pytest.raises(ValueError, match="vectors"):
        items.ingest([batch(1), {"keys": [1, 2], "vectors": np.ones((3, DIM))}])
    with pytest.raises(TypeError):
        items.ingest([{"key": [1]}])
    with pytest.raises(ValueError, match="32"):
        items.ingest([{"keys": [1], "fields": {"text": ["x" * (33 << 20)]}}])


# The wire, as a client that does it all wrong would use it.


def start(**fields: Any) -> pb.IngestRequest:
    return pb.IngestRequest(start=pb.IngestStart(collection="items", **fields))


def raw(number: int, **fields: Any) -> pb.IngestRequest:
    columns = types_pb2.RecordColumns(
        keys=types_pb2.KeyList(int64_keys=types_pb2.Int64List(values=[number]))
    )
    return pb.IngestRequest(batch=pb.IngestBatch(number=number, columns=columns, **fields))


def stream(server: ServerProcess, requests: Iterable[pb.IngestRequest]) -> list[Any]:
    """Returns the answers, and the status at the end if it is not OK."""
    answers: list[Any] = []
    with grpc.insecure_channel(server.address) as channel:
        stub = records_pb2_grpc.RecordServiceStub(channel)
        try:
            for answer in stub.Ingest(iter(requests), timeout=30):
                answers.append(answer)
        except grpc.RpcError as error:
            answers.append((error.code().name, error.details()))
    return answers


@pytest.mark.usefixtures("items")
def test_the_wire_tells_pace_and_acknowledges_each_batch(server: ServerProcess) -> None:
    started, *rest = stream(server, [start(load="x"), raw(1), raw(2)])
    assert started.started.load == "x"
    assert started.started.last_batch == 0
    assert started.started.pace.batches_in_flight > 1
    assert started.started.pace.bytes_in_flight >= 16 << 20
    acks = [answer.ack for answer in rest if answer.HasField("ack")]
    assert [(ack.number, ack.inserted, ack.durability) for ack in acks] == [(1, 1, 1), (2, 1, 1)]
    paces = [answer.pace for answer in rest if answer.HasField("pace")]
    assert paces
    assert paces[-1].batch_records > 100
    resumed = stream(server, [start(load="x"), raw(2), raw(3)])
    assert resumed[0].started.last_batch == 2
    assert resumed[0].started.inserted == 2
    assert resumed[0].started.as_of == acks[-1].as_of
    again, new = (answer.ack for answer in resumed if answer.HasField("ack"))
    assert (again.replayed, again.inserted, again.load_inserted) == (True, 0, 2)
    assert (new.replayed, new.inserted, new.load_inserted) == (False, 1, 0)


@pytest.mark.usefixtures("items")
@pytest.mark.parametrize(
    ("requests", "code", "message"),
    [
        ([], "INVALID_ARGUMENT", "start: the first message"),
        ([raw(1)], "INVALID_ARGUMENT", "start: the first message"),
        ([start(), start()], "INVALID_ARGUMENT", "batch: after `start`"),
        ([start(), raw(0)], "INVALID_ARGUMENT", "number from 1 on"),
        ([start(database="other")], "UNIMPLEMENTED", "start: database"),
        ([start(partition="p")], "UNIMPLEMENTED", "start: partition"),
        ([start(mode=77)], "INVALID_ARGUMENT", "start.mode"),
        ([start(durability=9)], "INVALID_ARGUMENT", "start: durability"),
    ],
)
def test_a_stream_that_is_no_load_ends(
    server: ServerProcess, requests: list[pb.IngestRequest], code: str, message: str
) -> None:
    got, text = stream(server, requests)[-1]
    assert got == code
    assert message in text


@pytest.mark.usefixtures("items")
@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (raw(3), "FAILED_PRECONDITION", "batch 3 came, and batch 1 is next"),
        (raw(1, skip=True), "INVALID_ARGUMENT", "skip: allowed without records only"),
        (
            pb.IngestRequest(batch=pb.IngestBatch(number=1)),
            "INVALID_ARGUMENT",
            "records: empty batch",
        ),
    ],
)
def test_a_batch_that_is_refused_does_not_end_the_stream(
    server: ServerProcess, request_: pb.IngestRequest, code: str, message: str
) -> None:
    answers = stream(server, [start(), request_, raw(2), raw(1), raw(2)])
    refusals = [answer.refusal for answer in answers[1:] if answer.HasField("refusal")]
    acks = [answer.ack.number for answer in answers[1:] if answer.HasField("ack")]
    assert len(refusals) == 1
    assert refusals[0].number == 1
    assert grpc.StatusCode[code].value[0] == refusals[0].code
    assert message in refusals[0].message
    assert refusals[0].retry_after_ms == 0
    assert acks == [1, 2]


@pytest.mark.usefixtures("items")
def test_a_group_has_one_refusal_and_numbers_go_on_from_it(server: ServerProcess) -> None:
    wrong = raw(1)
    wrong.batch.columns.keys.CopyFrom(
        types_pb2.KeyList(string_keys=types_pb2.StringList(values=["a"]))
    )
    # The first number again, with records that are refused, and at once one that is too far on.
    requests = [start(), raw(1), wrong, raw(9), raw(2)]
    answers = stream(server, requests)[1:]
    refusals = [answer.refusal for answer in answers if answer.HasField("refusal")]
    acks = [answer.ack.number for answer in answers if answer.HasField("ack")]
    assert [refusal.number for refusal in refusals] == [2]
    assert grpc.StatusCode.INVALID_ARGUMENT.value[0] == refusals[0].code
    assert acks == [1, 2]


@pytest.mark.usefixtures("items")
def test_more_streams_than_are_allowed_are_refused(server: ServerProcess) -> None:
    hold = threading.Event()

    def waits() -> Iterator[pb.IngestRequest]:
        yield start()
        hold.wait(60)

    codes: list[str] = []
    with grpc.insecure_channel(server.address) as channel:
        stub = records_pb2_grpc.RecordServiceStub(channel)
        calls = []
        for _ in range(33):
            call = stub.Ingest(waits(), timeout=60)
            calls.append(call)
            try:
                next(iter(call))
            except grpc.RpcError as error:
                codes.append(error.code().name)
        hold.set()
        for call in calls:
            call.cancel()
    assert codes == ["RESOURCE_EXHAUSTED"]


@pytest.mark.usefixtures("items")
def test_a_stream_that_breaks_off_leaves_whole_batches(server: ServerProcess, db: Client) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub = records_pb2_grpc.RecordServiceStub(channel)
        hold = threading.Event()

        def breaks() -> Iterator[pb.IngestRequest]:
            yield start(load="cut")
            for number in range(1, 200):
                yield raw(number)
            hold.wait(30)

        call = stub.Ingest(breaks(), timeout=60)
        answers = iter(call)
        for _ in range(20):
            next(answers)
        call.cancel()
        hold.set()
    wait_for("the end of the stream", lambda: stream(server, [start(load="cut")]))
    last = stream(server, [start(load="cut")])[0].started.last_batch
    assert db.collection("items").count() >= last > 0
