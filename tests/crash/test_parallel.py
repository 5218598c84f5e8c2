"""The shares of several processes make up the whole, and no silence is taken for success."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from parallel import join, run_script, share, summary_of


def test_shares_add_up() -> None:
    assert [share(7, 3, i) for i in range(3)] == [3, 2, 2]
    assert [share(1, 2, i) for i in range(2)] == [1, 0]


def test_summaries_are_joined_by_the_nature_of_their_numbers() -> None:
    first = {"seed": 9, "rounds": 2, "hit": {"a": 1}, "seconds": 3.0, "violations": ["x"]}
    second = {"seed": 8, "rounds": 3, "hit": {"a": 1, "b": 2}, "seconds": 2.0, "violations": []}
    assert join([first, second]) == {
        "seed": 8,
        "rounds": 5,
        "hit": {"a": 2, "b": 2},
        "seconds": 3.0,
        "violations": ["x"],
    }


def test_a_summary_is_found_among_other_lines() -> None:
    assert summary_of('a\n{\n  "a": 1\n}\nb\n{\n  "a": {\n    "b": 2\n  }\n}\nkept: /x\n') == {
        "a": {"b": 2}
    }
    assert summary_of("round 1\n") is None


def test_a_script_without_a_summary_is_no_success(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    said: list[str] = []
    script.write_text("print('round 1'); print('{'); print('}')")
    assert run_script([sys.executable, str(script)], said.append) == {}
    assert said == ["round 1"]
    for text in ("print('round 1')", "print('{'); print('}'); raise SystemExit(2)"):
        script.write_text(text)
        with pytest.raises(RuntimeError, match="expected 0 or 1 and a summary"):
            run_script([sys.executable, str(script)], said.append)
