"""The studies of benchmarks/tasks: every run of them is a valid recipe, and every rule has the same budget."""

from pathlib import Path

import pytest

from amft.study.file import read_study
from amft.study.plan import plan_runs, start_run

ROOT = Path(__file__).parents[2]
STUDIES = sorted(path for path in (ROOT / "benchmarks" / "tasks").glob("*.yaml") if "_run" not in path.stem)
BUDGET = {"max_steps", "num_prompts", "num_generations", "num_demos", "learning_rate", "max_completion_length"}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_can_be_planned(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    study = read_study(path)
    runs = plan_runs(study, tmp_path / "runs")
    assert len(runs) == len(study.arms) * len(study.seeds)
    assert {run.rule for run in runs} - {"fixed-0.7"} == {"sft", "rl", "amft", "amft-scalar"}
    recipes = [run.load() for run in runs]
    assert len({recipe.model_dump_json(include=BUDGET) for recipe in recipes}) == 1
    assert len({recipe.model for recipe in recipes}) == 1
    text = path.read_text(encoding="utf-8")
    assert f"amft compare benchmarks/tasks/{path.name}" in text
    assert f"benchmarks/tasks/{path.stem}_run.yaml" in text


@pytest.mark.parametrize("path", [path for path in STUDIES if "vision" in path.stem], ids=lambda path: path.stem)
def test_pictures_begin_with_a_model_that_sees(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    study = read_study(path)
    first = start_run(study, tmp_path / "runs")
    assert first is not None
    assert first.load().balance["rule"] == "sft"
    assert {run.load().model for run in plan_runs(study, tmp_path / "runs")} == {str(tmp_path / "runs" / "start")}
