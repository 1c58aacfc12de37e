"""A study on a tiny model: killed and resumed, it ends in the same table as one that was never stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from amft.checkpoints.checkpoint import load_checkpoint
from amft.checkpoints.checkpoint_retention import final_checkpoint
from amft.cli import main
from amft.runs import RunDirectory
from amft.study.file import read_study
from amft.study.plan import plan_runs

STUDY = """
recipe: general_points
settings:
  model: {model}
  task: {{id: general_points-v1, cards: 3, demonstrations: answer}}
  sft_warmup_steps: 1
  lr_warmup_steps: 0
  max_completion_length: 64
  eval: {{steps: 4, problems: 2}}
  checkpoint.steps: 1
budget: {{max_steps: 8, num_prompts: 2, num_generations: 2, num_demos: 2}}
rules: {{amft: amft-scalar, sft: sft}}
baseline: sft
seeds: [0]
metrics: {{splits: [id], problems: 6}}
"""
RULES = ("amft", "sft")


def table(folder: str) -> Any:
    """The study's table but for the seconds."""
    found = json.loads(Path(folder, "table.json").read_text())
    for row in [*found["runs"], *found["costs"]]:
        del row["seconds"]
    return found


def straight(folder: str) -> None:
    """The same runs, one after the other in this process, then the table."""
    for run in plan_runs(read_study("study.yaml"), Path(folder)):
        settings = [word for setting in run.settings for word in ("--set", setting)]
        assert main(["train", run.recipe, *settings, "--output-dir", str(run.path)]) == 0
    whole = {
        run.path: (size(run.path), kept_model(run.path)) for run in plan_runs(read_study("study.yaml"), Path(folder))
    }
    assert main(["compare", "study.yaml", "--output", folder]) == 0
    for path, (before, model) in whole.items():
        assert size(path) < before / 3  # three models and their optimizers were there
        assert kept_model(path) == model


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def kept_model(run: Path) -> bytes:
    return (final_checkpoint(RunDirectory(run)) / "model" / "model.safetensors").read_bytes()


def wait_for(path: Path) -> None:
    end = time.monotonic() + 200
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)


def test_kill_9_of_driver_and_run_changes_nothing(
    tmp_path: Path, tiny_directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(STUDY.format(model=tiny_directory))
    command = [sys.executable, "-m", "amft", "compare", "study.yaml", "--output", "killed", "--jobs", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        runs = tmp_path / "killed" / "runs" / "all"
        wait_for(runs / "amft" / "seed-0" / "checkpoints" / "step-2")
        driver.send_signal(signal.SIGKILL)
        os.kill(int((runs / "amft" / "seed-0.lock").read_text()), signal.SIGKILL)
    assert not (tmp_path / "killed" / "table.json").exists()
    assert main(["compare", "study.yaml", "--output", "killed"]) == 0
    said = capsys.readouterr().err
    assert "all/amft seed 0: finished" in said

    straight("whole")
    assert table("killed") == table("whole")
    for rule in RULES:
        for stream in ("metrics", "scores"):
            one, other = (Path(f, "runs", "all", rule, "seed-0", f"{stream}.jsonl") for f in ("killed", "whole"))
            assert one.read_bytes() == other.read_bytes()

        run = Path("killed", "runs", "all", rule, "seed-0")
        (kept,) = (run / "checkpoints").iterdir()
        assert load_checkpoint(kept)[0] == {}
        assert kept_model(run) == kept_model(Path("whole", "runs", "all", rule, "seed-0"))
    assert main(["report", str(run)]) == 0
    assert main(["eval", str(run), "--split", "id", "--problems", "2"]) == 0

    first = [
        Path("whole", "runs", "all", rule, "seed-0", "metrics.jsonl").read_text().splitlines()[0] for rule in RULES
    ]
    assert first[0] == first[1]  # every rule of a regime and seed warms up the same way

    capsys.readouterr()
    assert main(["compare", "study.yaml", "--output", "whole", "--dry-run"]) == 0
    assert "2 runs: 2 finished; 0 to make" in capsys.readouterr().err
