"""The soak run counts every seed once and takes no silence for success."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from soak import SEEDS_PER_RUN, counts_of, slices, violations_before


def test_every_seed_is_run_once() -> None:
    for count in (1, SEEDS_PER_RUN, 2 * SEEDS_PER_RUN + 1):
        seeds = [first + i for first, n in slices(7, count) for i in range(n)]
        assert seeds == list(range(7, 7 + count))


def test_the_counts_of_a_run_are_its_line_of_json() -> None:
    line = json.dumps({"seeds": 2, "first_seed": 9, "violations": 1, "seconds": 0.5})
    assert counts_of(["simulate"], 1, line) == {"seeds": 2, "violations": 1}


@pytest.mark.parametrize(("code", "said"), [(-11, "{}"), (2, "{}"), (0, ""), (1, "usage: x")])
def test_a_run_without_counts_is_no_success(code: int, said: str) -> None:
    with pytest.raises(RuntimeError, match=f"simulate: exit code {code}, expected 0 or 1"):
        counts_of(["simulate"], code, said)


def test_a_part_alone_knows_what_the_other_one_found(tmp_path: Path) -> None:
    path = tmp_path / "soak.json"
    assert violations_before(path) == {}
    path.write_text(json.dumps({"figures": {"soak.seeds": {"value": 1}}}))
    assert violations_before(path) == {}
    path.write_text(json.dumps({"figures": {"soak.violations": {"parts": {"simulation": 1}}}}))
    assert violations_before(path) == {"simulation": 1}
