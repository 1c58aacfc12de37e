"""The study of SmolLM2 (`make study-llm`): its task, its parts, its runs; nothing here needs the model."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from amft.errors import TaskError
from amft.study.file import read_study
from amft.study.plan import plan_runs
from amft.tasks.base import demonstrated
from amft.tasks.registry import build_task

ROOT = Path(__file__).parents[2]
HERE = ROOT / "recipes" / "smollm2"
TASK = f"{HERE / 'study_task.py'}:StudySums"


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"smollm2_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def share_right(**options: str) -> float:
    task = build_task(TASK, **options)
    shown = demonstrated(task, seed=0, n=800)
    return sum(task.grade(problem, task.demonstrate(problem)).correct for problem in shown) / len(shown)


def test_demonstrations_are_as_good_as_their_regime_says(tmp_path: Path) -> None:
    assert share_right() == 1
    assert share_right(demos="noisy") == pytest.approx(0.4, abs=0.05)
    assert share_right(demos="two-sources") == pytest.approx(0.5, abs=0.05)
    problems = build_task(TASK).problems("train")
    said = [{"key": problem.key, "answers": ["I do not know", "0"]} for problem in problems]
    weak = tmp_path / "weak.jsonl"
    weak.write_text("".join(json.dumps(row) + "\n" for row in said))
    assert share_right(demos="weak", weak=str(weak)) == 0
    with pytest.raises(TaskError, match=r"task\.weak: no file .*none\.jsonl; make it with"):
        build_task(TASK, demos="weak", weak=str(tmp_path / "none.jsonl"))


def test_splits_are_apart_in_either_order_and_large_enough() -> None:
    task = build_task(TASK)
    pairs = {split: {frozenset(p.params["numbers"]) for p in task.problems(split)} for split in task.splits}
    for split, found in pairs.items():
        assert all(not found & others for other, others in pairs.items() if other != split), split
    study = read_study(HERE / "study.yaml")
    for split in study.metrics.splits or ():
        assert len(task.problems(split)) >= (study.metrics.problems or 0)
    assert all(min(pair) >= 100 for pair in pairs["longer"])


def test_the_last_number_of_an_answer_counts() -> None:
    task = build_task(TASK)
    problem = next(problem for problem in task.problems("train"))
    right = task.right_answer(problem)
    said = [right, f"1 + 2 = {right}.", f"{right} or 7", "none", ""]
    assert [task.grade(problem, text).outcome for text in said] == ["correct"] * 2 + ["wrong"] + ["no_number"] * 2


@pytest.mark.parametrize("name", ["study", "study_short"])
def test_the_parts_are_the_study_cut_up_and_then_whole(name: str) -> None:
    study = yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))
    parts = loaded("study").parts(study)
    assert parts[-1] == study
    single = [(seed, regime) for part in parts[:-1] for seed in part["seeds"] for regime in part["regimes"]]
    assert single == [(seed, regime) for seed in study["seeds"] for regime in study["regimes"]]


@pytest.mark.parametrize("name", ["study", "study_short"])
def test_every_run_is_a_valid_recipe(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "weak.jsonl").write_text("")
    study = read_study(f"recipes/smollm2/{name}.yaml")
    runs = plan_runs(study, tmp_path / "out")
    assert len(runs) == len(study.cases) * len(study.arms) * len(study.seeds)


def test_forgetting_is_measured_once_and_leaves_a_run_without_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoTokenizer

    from amft.models.tiny import tiny_model

    nano = ROOT / "src" / "amft" / "models" / "nano_base"
    run = tmp_path / "runs" / "right" / "sft" / "seed-0"
    for place, seed in ((tmp_path / "start", 0), (run / "model", 1)):
        tiny_model("llama", vocab_size=1575, seed=seed).save_pretrained(place)
        AutoTokenizer.from_pretrained(nano).save_pretrained(place)
    (run / "checkpoints" / "step-1").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"model": str(tmp_path / "start")}))
    forgetting = loaded("forgetting")
    forgetting.main(tmp_path)
    found = json.loads((run / "forgetting.json").read_text())
    # Random weights know nothing: about as surprised as by 1575 equally likely tokens.
    assert found["before"] == pytest.approx(1575, rel=0.05)
    assert found["before"] != found["after"]
    assert not (run / "model").exists()
    assert [*(run / "checkpoints").iterdir()] == []
    monkeypatch.setattr(forgetting, "measure", lambda *_: pytest.fail("measured twice"))
    forgetting.main(tmp_path)
    assert capsys.readouterr().out.count("right        sft") == 2
