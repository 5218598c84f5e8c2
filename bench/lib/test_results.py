"""The result files of benchmarks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from results import Results, meets


def test_a_run_replaces_its_figures_and_keeps_all_others(tmp_path: Path) -> None:
    path = tmp_path / "storage.json"
    first = Results(path)
    first.put("a", 1.0, "s", "run a")
    first.put("b", 2.0, "s", "run b", target="<= 1", parts={"c": 3})
    first.save()
    second = Results(path)
    second.put("a", 5.0, "s", "run a again")
    second.save()
    content = json.loads(path.read_text())
    assert content["figures"]["a"]["value"] == 5.0
    assert content["figures"]["b"]["value"] == 2.0
    assert content["figures"]["b"]["met"] is False
    assert content["figures"]["b"]["parts"] == {"c": 3}
    assert content["commands"] == ["run a again", "run b"]
    assert content["machine"]["cores"] >= 1
    assert [file.name for file in tmp_path.iterdir()] == ["storage.json"]


def test_notes_are_kept_beside_the_figures(tmp_path: Path) -> None:
    path = tmp_path / "search.json"
    first = Results(path)
    first.note("curves", "b", "run b", {"points": [1, 2]})
    first.note("curves", "a", "run a", {"points": [3]})
    first.save()
    second = Results(path)
    second.note("curves", "a", "run a again", {"points": [4]})
    second.save()
    content = json.loads(path.read_text())
    assert content["suite"] == "search"
    assert list(content["curves"]) == ["a", "b"]
    assert content["curves"]["a"]["points"] == [4]
    assert content["curves"]["b"]["command"] == "run b"


def test_figures_of_another_machine_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "storage.json"
    results = Results(path)
    results.put("a", 1.0, "s", "run a")
    results.save()
    content = json.loads(path.read_text())
    content["machine"]["cores"] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"storage\.json: its figures are of the machine"):
        Results(path)


def test_a_target_is_met_up_to_its_bound() -> None:
    assert meets(8, ">= 8")
    assert not meets(7.9, ">= 8")
    assert meets(-0.002, "<= 0.01")
    assert not meets(0.02, "<= 0.01")
    with pytest.raises(ValueError, match="expected '>= NUMBER'"):
        meets(1, "about 1")
