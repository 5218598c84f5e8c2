"""Nothing acknowledged is lost and nothing half done appears, whenever the server dies."""

from __future__ import annotations

import dataclasses
import json
import os
import random
from pathlib import Path

import pytest
from harness import Harness
from scenes import failpoint_names

ROUNDS = int(os.environ.get("AZIMUTH_CRASH_ROUNDS", "20"))


def test_the_list_of_failpoints_is_read_from_its_header() -> None:
    names = failpoint_names()
    assert {"commit.before_log", "truncate.after_catalog", "recover.mid_rows"} <= set(names)


def test_kill_at_any_moment_breaks_no_promise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("AZIMUTH_CRASH_SEED", random.randrange(2**32)))
    harness = Harness(tmp_path, seed)
    try:
        for _ in range(ROUNDS):
            if harness.round():
                break
    finally:
        harness.close()
    summary = harness.summary
    print(json.dumps(dataclasses.asdict(summary)))
    kept = f"the data directory is {harness.server.data_dir}, its log:\n{harness.server.log()}"
    assert not summary.violations, "\n".join([*summary.violations[:20], kept])
    assert summary.rounds == ROUNDS
    assert summary.acknowledged_batches > ROUNDS
    assert summary.records_checked > 0
    assert not summary.failpoints_missed


def test_the_harness_notices_a_write_that_nobody_told_it_of(tmp_path: Path) -> None:
    harness = Harness(tmp_path, 1)
    try:
        assert harness.round() == []
        target = harness.targets[0]
        with harness.server.client() as db:
            found = db.collection(target.name).query(limit=1000)
            gone = next(record for record in found if record.expires_at is None)
            db.collection(target.name).delete(keys=[gone.key])
        wrong = harness.check_everything()
        assert [(violation.kind, violation.key) for violation in wrong] == [("lost", gone.key)]
    finally:
        harness.close()
