"""The suite as a whole, on few rows: it must not rot between two measurements."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path += [
    str(Path(__file__).parents[2] / folder) for folder in ("bench/lib", "tests/integration")
]

from server_process import server_binary
from sets import SearchSet

RUN = Path(__file__).with_name("run.py")
SECTIONS = ("figures", "curves", "contract", "grpc", "databases", "systems")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    build = Path(server_binary()).parents[1]
    environment = {**os.environ, "AZIMUTH_BENCH_DIR": str(folder)}
    environment.pop("AZIMUTH_PEERS_PYTHON", None)
    command = [sys.executable, str(RUN), "--quick", "--build", str(build), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_every_part_runs_and_the_page_has_its_figures(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    marks = (f"<!-- begin {name} -->\n<!-- end {name} -->" for name in SECTIONS)
    page.write_text("# Performance\n\n" + "\n\n".join(marks) + "\n\nThe end.\n")
    out = tmp_path / "search.json"
    done = run(
        *(tmp_path, "--part", "gen128,build,contract,grpc,peers,report", "--set", "gen128"),
        *("--databases", "", "--out", str(out), "--docs", str(tmp_path)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(out.read_text())
    names = {
        *(f"qps_ratio_hnswlib_at_{recall}" for recall in ("0.95", "0.99")),
        *(f"grpc_batch_ratio_hnswlib_2cores_at_{recall}" for recall in ("0.95", "0.99")),
        *("grpc_unary_ratio_hnswlib_2cores_at_0.99", "grpc_batch_share_of_inprocess"),
        *("build_ratio_hnswlib", "resident_ratio_hnswlib", "recall_asked_minus_got_max"),
        "p99_over_p50_at_half_load",
    }
    figures = content["figures"]
    assert {f"search.gen128.{name}" for name in names} <= figures.keys()
    assert "search.grpc_server_overhead_us" in figures
    assert figures["search.gen128.resident_ratio_hnswlib"]["value"] > 0
    assert content["systems"]["hnswlib"]["flags"] == "-O3 -march=native"
    for at in (content["grpc"]["gen128"][recall] for recall in ("0.95", "0.99")):
        # What came through gRPC is what was found in one process.
        assert at["recall_through_grpc"] == pytest.approx(
            {"unary": at["recall"], "batch": at["recall"]}, abs=0.02
        )
    text = page.read_text()
    assert "Not measured yet" not in text
    assert "| `search.gen128.build_ratio_hnswlib` |" in text
    assert text.endswith("The end.\n")
    assert (tmp_path / "search_gen128.png").stat().st_size > 1000
    assert not list(tmp_path.glob("bench_search_*"))


def test_a_set_that_is_not_there_is_skipped_loudly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZIMUTH_DATASETS", str(tmp_path / "none"))
    done = run(tmp_path, "--part", "words")
    assert done.returncode == 0, done.stderr
    assert "SKIPPED: words needs words in the folder AZIMUTH_DATASETS" in done.stdout


@pytest.mark.parametrize("option", [["--part", "wordz"], ["--set", "gen129"], ["--databases", "x"]])
def test_a_wrong_name_says_which_are_right(tmp_path: Path, option: list[str]) -> None:
    done = run(tmp_path, *option)
    assert done.returncode == 2
    assert f"'{option[1]}': allowed are " in done.stderr


def test_recall_is_that_of_true_distances(tmp_path: Path) -> None:
    np.save(tmp_path / "base.npy", np.array([[0], [1], [2], [2], [9]], np.float32))
    np.save(tmp_path / "queries.npy", np.array([[0], [2]], np.float32))
    np.save(tmp_path / "truth.npy", np.array([[0.0, 1.0], [0.0, 0.0]]))
    chosen = SearchSet("a", "l2", "", tmp_path, 5, 1)
    assert chosen.recalls(np.array([[0, 1], [2, 3]])).tolist() == [1, 1]
    assert chosen.recalls(np.array([[0, 4], [1, 2]])).tolist() == [0.5, 0.5]
    # A row counts once, however often it is named, and nothing counts as nothing.
    assert chosen.recalls(np.array([[0, 0], [3, -1]])).tolist() == [0.5, 0.5]
    assert chosen.recalls(np.array([[0], [3]])).tolist() == [1, 1]
