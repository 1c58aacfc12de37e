"""The studies of benchmarks/tasks: every run of them is a valid recipe, and every rule has the same budget."""

from pathlib import Path

import pytest

from amft.study.file import read_study
from amft.study.plan import plan, start_run

ROOT = Path(__file__).parents[2]
STUDIES = sorted(path for path in (ROOT / "benchmarks" / "tasks").glob("vision_*.yaml") if "_run" not in path.stem)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_can_be_planned(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    study = read_study(path)
    runs = plan(study, tmp_path / "runs")
    assert len(runs) == len(study.arms) * len(study.seeds)
    assert {run.rule for run in runs} == {"sft", "rl", "amft"}
    first = start_run(study, tmp_path / "runs")
    assert first is not None
    assert first.load().balance["rule"] == "sft"
    # All rules begin with the model of `start`.
    assert {run.load().model for run in runs} == {str(tmp_path / "runs" / "start")}
    text = path.read_text(encoding="utf-8")
    assert f"amft compare benchmarks/tasks/{path.name}" in text
