#!/usr/bin/env python3
"""Adds up what a test run left behind and judges it.

Reads CTest's JUnit file, the XML files of the GoogleTest binaries and pytest's JUnit files, lists
each failure and each skip, and ends with the line `N passed, N failed, N skipped`. The status is 0
only when nothing failed, every skip is expected, and at least one test ran.
"""

from __future__ import annotations

import argparse
import fnmatch
import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Totals:
    """The outcome of every test, by id; details are one line each."""

    passed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def line(self) -> str:
        """The closing line."""
        return f"{len(self.passed)} passed, {len(self.failed)} failed, {len(self.skipped)} skipped"


def one_line(text: str | None, limit: int = 200) -> str:
    """Joins a message into one line of at most `limit` characters."""
    joined = " ".join((text or "").split())
    return joined if len(joined) <= limit else joined[: limit - 3] + "..."


def add_case(totals: Totals, name: str, case: ET.Element) -> None:
    """Files one JUnit test case under passed, failed or skipped."""
    for tag in ("failure", "error"):
        found = case.find(tag)
        if found is not None:
            text = found.get("message") or found.text or "no message; see its output above"
            totals.failed[name] = one_line(text)
            return
    found = case.find("skipped")
    if found is not None:
        # GoogleTest puts the place on the first line and the reason below it.
        text = found.get("message") or found.text or "no reason given"
        totals.skipped[name] = one_line(text)
    else:
        totals.passed.append(name)


def read_gtest(totals: Totals, binary: str, path: Path) -> int:
    """Adds the cases of one GoogleTest binary and returns how many of them failed."""
    before = len(totals.failed)
    for case in ET.parse(path).getroot().iter("testcase"):
        name = f"{binary}:{case.get('classname')}.{case.get('name')}"
        if case.get("status") == "notrun":
            if "DISABLED_" in name:
                totals.skipped[name] = "disabled"
            continue
        add_case(totals, name, case)
    return len(totals.failed) - before


def read_ctest(totals: Totals, path: Path, gtest_dir: Path) -> None:
    """Adds CTest's entries: a GoogleTest binary counts by its cases, all else as one test.

    A binary that failed although no case of it did (a crash writes no XML at all, a leak is found
    after the last case) is one failure more.
    """
    for case in ET.parse(path).getroot().iter("testcase"):
        name = case.get("name") or "?"
        cases = gtest_dir / f"{name}.xml"
        if not cases.is_file():
            add_case(totals, name, case)
            continue
        failed = read_gtest(totals, name, cases)
        if case.find("failure") is not None and failed == 0:
            totals.failed[name] = "every case passed but the binary ended with an error"


def read_pytest(totals: Totals, suite: str, status: int, path: Path) -> None:
    """Adds one pytest run; a bad end status with no failed test in the file is a failure."""
    before = len(totals.failed)
    if path.is_file():
        for case in ET.parse(path).getroot().iter("testcase"):
            add_case(totals, f"{case.get('classname')}::{case.get('name')}", case)
    if status != 0 and len(totals.failed) == before:
        totals.failed[suite] = f"pytest ended with status {status} and named no failed test"


def read_expected(path: Path) -> dict[str, str]:
    """Reads `PATTERN # REASON` lines; a pattern without a reason is an error."""
    expected = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        pattern, mark, reason = line.partition(" # ")
        if not mark or not reason.strip():
            raise ValueError(f"{path}:{number}: no reason: write 'PATTERN # REASON'")
        expected[pattern.strip()] = reason.strip()
    return expected


def judge(totals: Totals, expected: dict[str, str], forbid_skip: list[str]) -> list[str]:
    """Returns why the run is bad, one sentence each; empty when it is good."""
    faults = []
    if totals.failed:
        faults.append(f"{len(totals.failed)} failed")
    if not totals.passed and not totals.failed:
        faults.append("no test ran")
    for name in totals.skipped:
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in expected):
            faults.append(f"{name} was skipped and tests/expected_skips.txt does not name it")
        elif any(re.search(pattern, name, re.IGNORECASE) for pattern in forbid_skip):
            faults.append(f"{name} was skipped, which this run forbids")
    return faults


def parse(argv: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ctest", type=Path, help="CTest's JUnit file")
    parser.add_argument("--gtest", type=Path, default=Path(), help="folder of <binary>.xml")
    parser.add_argument(
        "--pytest",
        nargs=3,
        action="append",
        default=[],
        metavar=("SUITE", "STATUS", "FILE"),
        help="a pytest run: its name, its end status, its JUnit file",
    )
    parser.add_argument("--expected-skips", type=Path, required=True)
    parser.add_argument(
        "--forbid-skip",
        action="append",
        default=[],
        metavar="REGEX",
        help="fail when a test whose id matches (in any case) was skipped",
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Prints the summary and returns the exit status."""
    args = parse(argv)
    totals = Totals()
    if args.ctest:
        if args.ctest.is_file():
            read_ctest(totals, args.ctest, args.gtest)
        else:
            totals.failed["ctest"] = f"wrote no {args.ctest}"
    for suite, status, path in args.pytest:
        read_pytest(totals, suite, int(status), Path(path))
    faults = judge(totals, read_expected(args.expected_skips), args.forbid_skip)
    for name, reason in sorted(totals.skipped.items()):
        print(f"skipped: {name}: {reason}")
    for name, reason in sorted(totals.failed.items()):
        print(f"failed: {name}: {reason}")
    for fault in faults:
        print(f"fault: {fault}")
    print(totals.line())
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
