"""A finished run goes on: `amft train --resume RUN --set max_steps=N`, and what else may change on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from amft.cli import main

RECIPE = """
model: {model}
task: {{id: general_points-v1, cards: 3, demonstrations: answer}}
output_dir: run
max_steps: 2
num_prompts: 2
num_generations: 2
num_demos: 2
max_completion_length: 64
learning_rate: 1e-3
eval: {{steps: 1, problems: 2, test_splits: [id], test_problems: 4}}
checkpoint: {{steps: 1}}
balance: {{rule: amft, meta_skip: 0}}
threads: 1
"""
DATA = "data: {train: rows.jsonl, test: test.jsonl, rewards: [reward.py:short]}"


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_directory: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    text = RECIPE.format(model=tiny_directory)
    Path("task.yaml").write_text(text)
    Path("own.yaml").write_text("\n".join(DATA if line.startswith("task") else line for line in text.splitlines()))
    rows = [{"prompt": f"{i} and {i}", "completion": f"{i}"} for i in range(24)]
    for name, part in (("rows", rows[:20]), ("test", rows[20:])):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    Path("reward.py").write_text("def short(completions, **columns):\n    return [-len(c) / 10 for c in completions]\n")
    return tmp_path


def metrics(run: str) -> list[str]:
    return Path(run, "metrics.jsonl").read_text().splitlines()


@pytest.mark.usefixtures("workplace")
def test_a_longer_run_is_the_run_that_was_long_from_the_start() -> None:
    """With own rows and a constant learning rate nothing depends on where the end is."""
    assert main(["train", "own.yaml"]) == 0
    short = Path("run/model/model.safetensors").read_bytes()
    assert main(["train", "--resume", "run", "--set", "max_steps=4"]) == 0
    assert main(["train", "own.yaml", "--output-dir", "long", "--set", "max_steps=4"]) == 0
    assert metrics("run") == metrics("long")
    weights = Path("run/model/model.safetensors").read_bytes()
    assert weights == Path("long/model/model.safetensors").read_bytes() != short
    assert Path("run/scores.jsonl").read_bytes() == Path("long/scores.jsonl").read_bytes()
    assert json.loads(Path("run/config.json").read_text())["max_steps"] == 4
    events = [json.loads(line) for line in Path("run/events.jsonl").read_text().splitlines()]
    (said,) = [event["message"] for event in events if event["kind"] == "accepted"]
    assert said.endswith("max_steps (2 before, 4 now)")


@pytest.mark.usefixtures("workplace")
def test_a_run_on_a_task_goes_on_too(capsys: pytest.CaptureFixture[str]) -> None:
    wide = ["--set", "num_prompts=32", "--set", "num_demos=32"]  # of fewer problems than 64 all are compared
    assert main(["train", "task.yaml", *wide]) == 0
    before = metrics("run")
    capsys.readouterr()
    words = ["train", "--resume", "run", "--set", "max_steps=3", "--set", "checkpoint.steps=0"]
    assert main([*words, "--set", "sample_steps=1"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["recipe", "run"]
    assert metrics("run")[:2] == before
    assert len(metrics("run")) == 3


@pytest.mark.usefixtures("workplace")
def test_what_may_not_change_is_named_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "own.yaml"]) == 0
    config = Path("run/config.json").read_bytes()
    for setting, message in {
        "learning_rate=1e-4": "learning_rate was 0.001, is 0.0001",
        "eval.steps=2": "eval.steps was 1, is 2",
        "max_steps=1": "max_steps: run has done 2 steps already; give at least 2, not 1",
    }.items():
        assert main(["train", "--resume", "run", "--set", setting]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len([line for line in error.splitlines() if line.startswith("amft: error:")]) == 1
    assert Path("run/config.json").read_bytes() == config
    assert main(["train", "run"]) == 2
    assert "run: already exists; continue it with --resume" in capsys.readouterr().err


def test_a_run_from_python_says_where_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text('{"max_steps": 2}')
    assert main(["train", "--resume", str(tmp_path)]) == 2
    assert "this run was begun from Python" in capsys.readouterr().err
