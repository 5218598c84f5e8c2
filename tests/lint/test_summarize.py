"""Tests of summarize.py over small hand-written result files."""

from __future__ import annotations

from pathlib import Path

import pytest
import summarize

GTEST = """<testsuites><testsuite name="Thing">
<testcase name="Works" status="run" result="completed" classname="Thing" />
<testcase name="Breaks" status="run" result="completed" classname="Thing">
  <failure message="a.cc:3&#x0A;Expected 1" type=""><![CDATA[a.cc:3]]></failure></testcase>
<testcase name="NeedsData" status="run" result="skipped" classname="Thing">
  <skipped message="a.cc:9&#x0A;AZIMUTH_DATASETS is not set" /></testcase>
<testcase name="Filtered" status="notrun" result="suppressed" classname="Thing" />
<testcase name="DISABLED_Off" status="notrun" result="suppressed" classname="Thing" />
</testsuite></testsuites>"""


def ctest(*cases: str) -> str:
    return f"<testsuite>{''.join(cases)}</testsuite>"


def ctest_case(name: str, ok: bool = True) -> str:
    inner = "" if ok else '<failure message="Failed"/>'
    return f'<testcase name="{name}" status="{"run" if ok else "fail"}">{inner}</testcase>'


def pytest_file(*cases: str) -> str:
    return f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>"


PASSING = '<testcase classname="tests.a" name="test_ok"/>'
SKIPPING = '<testcase classname="tests.a" name="test_s"><skipped message="no data"/></testcase>'


class Run:
    """A folder of result files, and the command over it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys
        self.args: list[str] = []
        self.expect("")

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    def expect(self, text: str) -> None:
        self.write("expected_skips.txt", text)

    def ctest(self, text: str) -> None:
        self.args += ["--ctest", self.write("ctest.xml", text)]
        self.args += ["--gtest", str(self.folder / "gtest")]

    def pytest(self, text: str, status: int = 0) -> None:
        self.args += ["--pytest", "suite", str(status), self.write("pytest.xml", text)]

    def main(self, *more: str) -> tuple[int, list[str]]:
        status = summarize.main(
            [*self.args, "--expected-skips", str(self.folder / "expected_skips.txt"), *more]
        )
        return status, self.capsys.readouterr().out.splitlines()


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(tmp_path, capsys)


def test_counts_single_gtest_cases_not_binaries(run: Run) -> None:
    run.write("gtest/thing_tests.xml", GTEST)
    run.ctest(ctest(ctest_case("thing_tests", ok=False), ctest_case("plain")))
    status, out = run.main()
    assert out[-1] == "2 passed, 1 failed, 2 skipped"
    assert status == 1
    assert "failed: thing_tests:Thing.Breaks: a.cc:3 Expected 1" in out
    assert "skipped: thing_tests:Thing.NeedsData: a.cc:9 AZIMUTH_DATASETS is not set" in out
    assert "skipped: thing_tests:Thing.DISABLED_Off: disabled" in out


def test_binary_that_crashed_before_writing_its_file_is_one_failure(run: Run) -> None:
    run.ctest(ctest(ctest_case("crashed", ok=False), ctest_case("plain")))
    status, out = run.main()
    assert (status, out[-1]) == (1, "1 passed, 1 failed, 0 skipped")


def test_binary_that_failed_after_its_last_case_is_one_failure(run: Run) -> None:
    good = '<testsuites><testsuite><testcase name="A" status="run" classname="T"/>'
    run.write("gtest/leaky.xml", good + "</testsuite></testsuites>")
    run.ctest(ctest(ctest_case("leaky", ok=False)))
    status, out = run.main()
    assert (status, out[-1]) == (1, "1 passed, 1 failed, 0 skipped")


def test_missing_ctest_file_is_a_failure(run: Run) -> None:
    run.args += ["--ctest", str(run.folder / "nowhere.xml")]
    run.pytest(pytest_file(PASSING))
    status, out = run.main()
    assert (status, out[-1]) == (1, "1 passed, 1 failed, 0 skipped")


def test_all_passed_is_status_zero(run: Run) -> None:
    run.pytest(pytest_file(PASSING))
    assert run.main() == (0, ["1 passed, 0 failed, 0 skipped"])


def test_no_tests_at_all_is_a_fault(run: Run) -> None:
    status, out = run.main()
    assert (status, out) == (1, ["fault: no test ran", "0 passed, 0 failed, 0 skipped"])


def test_bad_status_of_pytest_without_a_failed_test_is_a_failure(run: Run) -> None:
    run.pytest(pytest_file(PASSING), status=3)
    status, out = run.main()
    assert (status, out[-1]) == (1, "1 passed, 1 failed, 0 skipped")


def test_error_in_a_fixture_is_a_failure(run: Run) -> None:
    case = '<testcase classname="a" name="b"><error message="boom"/></testcase>'
    run.pytest(pytest_file(PASSING, case), status=1)
    status, out = run.main()
    assert (status, out[-1]) == (1, "1 passed, 1 failed, 0 skipped")


def test_skip_that_is_not_named_is_a_fault(run: Run) -> None:
    run.expect("tests.b::* # another one\n")
    run.pytest(pytest_file(PASSING, SKIPPING))
    status, out = run.main()
    assert status == 1
    assert any(line.startswith("fault: tests.a::test_s was skipped") for line in out)


def test_named_skip_is_listed_and_good(run: Run) -> None:
    run.expect("# comment\n\ntests.a::test_* # needs data\n")
    run.pytest(pytest_file(PASSING, SKIPPING))
    assert run.main() == (
        0,
        ["skipped: tests.a::test_s: no data", "1 passed, 0 failed, 1 skipped"],
    )


def test_forbidden_skip_is_a_fault_though_named(run: Run) -> None:
    run.expect("* # all\n")
    run.pytest(pytest_file(PASSING, SKIPPING.replace("test_s", "test_FashionMnist")))
    assert run.main("--forbid-skip", "arxiv")[0] == 0
    assert run.main("--forbid-skip", "fashion_?mnist")[0] == 1


def test_expected_skip_without_a_reason_is_an_error(run: Run) -> None:
    run.expect("tests.a::*\n")
    run.pytest(pytest_file(PASSING))
    with pytest.raises(ValueError, match=r"expected_skips\.txt:1: no reason"):
        run.main()
