"""CATALOGUE.md has a line for every entry, and its lines and the tests agree."""

from __future__ import annotations

import importlib
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

HERE = Path(__file__).parent
ENTRIES = range(1, 121)
ROW = re.compile(r"^\| *(\d+) *\|([^|]*)\|([^|]*)\|([^|]*)\|$", re.M)


class Line(NamedTuple):
    entry: int
    text: str
    tests: frozenset[str]  # file.py::function
    remark: str


def lines() -> list[Line]:
    text = (HERE / "CATALOGUE.md").read_text(encoding="utf-8")
    return [
        Line(int(entry), what.strip(), frozenset(re.findall(r"`([^`]+)`", tests)), remark.strip())
        for entry, what, tests, remark in ROW.findall(text)
    ]


def entries_of(mark: Any) -> Iterator[int]:
    """The entries of one mark of a function; a table has them with its cases."""
    if mark.name == "bad_input":
        yield from mark.args
    if mark.name == "parametrize":
        for case in mark.args[1]:
            for of_case in getattr(case, "marks", ()):
                yield from entries_of(of_case)


def marked_tests() -> dict[int, set[str]]:
    """The tests of each entry, by their marks."""
    found: dict[int, set[str]] = defaultdict(set)
    for path in sorted(HERE.glob("test_bad_*.py")):
        module = importlib.import_module(path.stem)
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if not name.startswith("test_"):
                continue
            entries = {n for mark in getattr(function, "pytestmark", ()) for n in entries_of(mark)}
            assert entries, f"{path.name}::{name} has no pytest.mark.bad_input"
            for entry in entries:
                found[entry].add(f"{path.name}::{name}")
    return found


def test_every_entry_has_one_line_in_order() -> None:
    assert [line.entry for line in lines()] == list(ENTRIES)


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_line_names_exactly_the_tests_that_are_marked(entry: int) -> None:
    (line,) = [line for line in lines() if line.entry == entry]
    assert line.text
    assert line.tests == marked_tests().get(entry, set())


def test_a_line_without_tests_says_why() -> None:
    for line in lines():
        assert line.tests or len(line.remark) > 20, f"entry {line.entry} has no tests and no reason"


def test_marks_name_entries_that_exist() -> None:
    assert set(marked_tests()) <= set(ENTRIES)


def test_there_are_at_least_300_cases() -> None:
    cases = 0
    for path in HERE.glob("test_bad_*.py"):
        module = importlib.import_module(path.stem)
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("test_"):
                tables = [m for m in getattr(function, "pytestmark", ()) if m.name == "parametrize"]
                cases += sum(len(list(mark.args[1])) for mark in tables) or 1
    assert cases >= 300
