"""A flipped bit in any file leaves right answers, a clear refusal or DATA_LOSS, nothing else."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from bit_flips import PAGE, Flip, Store, Trial, choose, flips_of, make_store
from damaged import check_damaged
from server_process import ServerProcess, server_binary
from small_load import OPTIONS

EACH = 3


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"), server_binary())


def test_a_few_flips_of_every_kind_of_file(tmp_path: Path, store: Store) -> None:
    seed = random.randrange(2**32)
    every = choose(store.data_dir, 400, seed)
    kinds = sorted({flip.kind for flip in every})
    assert {"segment", "table", "write-ahead log", "manifest", "current", "format"} <= set(kinds)
    wrong = []
    for kind in kinds:
        for i, flip in enumerate([flip for flip in every if flip.kind == kind][:EACH]):
            outcome = Trial(tmp_path / f"{kind}-{i}", store, flip, server_binary()).run()
            wrong += outcome.violations
            assert outcome.kind
    assert not wrong, f"seed {seed}"


def test_a_flip_of_a_segment_file_changes_no_answer(tmp_path: Path, store: Store) -> None:
    name = next(store.data_dir.glob("segments/*.seg")).relative_to(store.data_dir).as_posix()
    outcome = Trial(tmp_path, store, Flip(name, 0, 0), server_binary()).run()
    assert (outcome.kind, outcome.violations) == ("right answers", [])


def test_the_format_file_is_refused_by_name(tmp_path: Path, store: Store) -> None:
    outcome = Trial(tmp_path, store, Flip("FORMAT", 40, 1), server_binary()).run()
    assert (outcome.kind, outcome.violations) == ("refused to start", [])


def test_a_trial_notices_a_record_that_is_missing(tmp_path: Path, store: Store) -> None:
    load = store.load.copy()
    key = next(key for key in load.numbers.keys if load.numbers.oracle.state(key) is None)
    batch = load.numbers.oracle.begin(load.numbers.maker.rows([key]).states())
    load.numbers.oracle.acknowledge(batch)
    flip = next(f for f in flips_of(store.data_dir, random.Random(1)) if f.kind == "identity")
    outcome = Trial(tmp_path, Store(store.data_dir, load), flip, server_binary()).run()
    assert any(f"key {key}: expected" in text for text in outcome.violations)


def test_the_look_at_damaged_records_finds_what_is_wrong_without_damage(
    tmp_path: Path, store: Store
) -> None:
    server = ServerProcess(tmp_path, *OPTIONS)
    shutil.copytree(store.data_dir, server.data_dir)
    server.start()
    try:
        with server.client() as db:
            load = store.load.copy()
            assert check_damaged(db, load.targets) == []
            key = next(key for key in load.words.keys if load.words.oracle.state(key) is not None)
            db.collection("words").delete(keys=[key])
            wrong = check_damaged(db, load.targets)
            assert {(v.kind, v.key) for v in wrong if v.key is not None} == {("lost", key)}
    finally:
        server.kill()


def test_every_page_of_every_file_is_flipped_once_before_any_is_twice(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(2 * PAGE + 1))
    (tmp_path / "b").write_bytes(b"x")
    (tmp_path / "empty").write_bytes(b"")
    flips = choose(tmp_path, 8, 7)
    pages = [(flip.path, flip.byte // PAGE) for flip in flips]
    assert sorted(pages[:4]) == sorted(pages[4:]) == [("a", 0), ("a", 1), ("a", 2), ("b", 0)]
    assert choose(tmp_path, 8, 7) == flips
    assert len(set(choose(tmp_path, 2, 7))) == 2
