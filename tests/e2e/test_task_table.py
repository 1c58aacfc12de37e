"""`benchmarks/tasks/table.py`, on a study of one step."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "tasks" / "table.py"
STUDY = """
recipe: general_points
settings: {task.cards: 3, sft_warmup_steps: 0, lr_warmup_steps: 0, eval.steps: 1, eval.problems: 2, checkpoint.steps: 1}
budget: {max_steps: 1, num_prompts: 1, num_generations: 2, num_demos: 2}
rules: {sft: sft, rl: rl, amft: amft, amft-scalar: amft-scalar}
baseline: sft
seeds: [0]
metrics: {splits: [id, rule_ood], problems: 4, headline: id, ood: rule_ood}
"""


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("task_table", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_runs_what_is_missing_and_prints_a_row_per_split(tmp_path):
    (tmp_path / "tiny.yaml").write_text(STUDY, encoding="utf-8")
    command = [sys.executable, str(SCRIPT), "tiny.yaml", "--jobs", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    head, line, *found = done.stdout.strip().splitlines()
    assert head == "| tiny | before | `sft` | `rl` | `fixed-0.7` | `amft-scalar` | `amft` |"
    assert set(line) == {"|", "-"}
    assert [row.split(" | ")[0] for row in found] == ["| `id`", "| `rule_ood`"]
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.stdout == done.stdout


def test_a_row_by_hand(script):
    score = {"split": "id", "rule": "sft", "value": 0.5, "low": 0.4, "high": 0.625}
    others = [
        {"split": "id", "rule": rule, "value": 0.25, "low": None, "high": None}
        for rule in ("rl", "amft-scalar", "amft")
    ]
    runs = [{"base": {"id": 0.1}}, {"base": {"id": 0.2}}]
    assert list(script.rows({"runs": runs, "scores": [score, *others]})) == [
        ["`id`", "15.0", "50.0 [40.0, 62.5]", "25.0", "-", "25.0", "25.0"]  # a study without the constant
    ]


def test_every_study_has_the_four_rules_and_pictures_have_a_model(script, monkeypatch):
    from amft.study.file import read_study

    monkeypatch.chdir(ROOT)
    for path in script.STUDIES:
        study = read_study(path)
        assert {*script.RULES} - {*study.arms} <= {"fixed-0.7"}
        assert ("vision" in path.stem) == (path.stem in script.MODELS)
    assert {*script.MODELS} <= {path.stem for path in script.STUDIES}
