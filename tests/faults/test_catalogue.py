"""CATALOGUE.md has a line for every fault, and its lines and the tests agree."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FAULTS = range(1, 53)
ROW = re.compile(r"^\| *(\d+) *\|([^|]*)\|([^|]*)\|([^|]*)\|$", re.M)
# Faults of what the product does not have; each line says so. Nothing else may lack tests.
NOT_SERVED = {51}


class Line(NamedTuple):
    fault: int
    text: str
    tests: frozenset[str]  # path::function, or path::Suite.Name
    remark: str


def lines() -> list[Line]:
    text = (HERE / "CATALOGUE.md").read_text(encoding="utf-8")
    return [
        Line(int(fault), what.strip(), frozenset(re.findall(r"`([^`]+)`", tests)), remark.strip())
        for fault, what, tests, remark in ROW.findall(text)
    ]


def line_of(fault: int) -> Line:
    (line,) = [line for line in lines() if line.fault == fault]
    return line


def faults_of(mark: Any) -> Iterator[int]:
    """The faults of one mark of a function; a table has them with its cases."""
    if mark.name == "fault":
        yield from mark.args
    if mark.name == "parametrize":
        for case in mark.args[1]:
            for of_case in getattr(case, "marks", ()):
                yield from faults_of(of_case)


def marked_tests() -> dict[int, set[str]]:
    """The tests of this folder for each fault, by their marks."""
    found: dict[int, set[str]] = defaultdict(set)
    for path in sorted(HERE.glob("test_process_*.py")):
        module = importlib.import_module(path.stem)
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("test_"):
                for mark in getattr(function, "pytestmark", ()):
                    for fault in faults_of(mark):
                        found[fault].add(f"{path.relative_to(ROOT)}::{name}")
    return found


def names_in(path: Path) -> set[str]:
    """The names of all tests in a file of Python or C++."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
        return {node.name for node in functions if node.name.startswith("test_")}
    return {".".join(names) for names in re.findall(r"^TEST(?:_F)?\((\w+), (\w+)\)", text, re.M)}


def test_every_fault_has_one_line_in_order() -> None:
    assert [line.fault for line in lines()] == list(FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_line_names_tests_that_exist(fault: int) -> None:
    line = line_of(fault)
    assert line.text
    for test in line.tests:
        name, _, function = test.partition("::")
        path = ROOT / name
        assert path.is_file(), test
        assert function in names_in(path), test


@pytest.mark.parametrize("fault", FAULTS)
def test_a_line_names_all_tests_that_are_marked(fault: int) -> None:
    marked = marked_tests()[fault]
    named = {test for test in line_of(fault).tests if test.startswith("tests/faults/test_process_")}
    assert named == marked


def test_only_faults_of_what_is_not_served_have_no_tests() -> None:
    assert {line.fault for line in lines() if not line.tests} == NOT_SERVED
    for line in lines():
        assert line.tests or len(line.remark) > 20, f"fault {line.fault}: no tests and no reason"


def test_marks_name_faults_that_exist() -> None:
    assert set(marked_tests()) <= set(FAULTS)
