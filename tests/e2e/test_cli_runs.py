"""Every command on real runs of a tiny model: train, stop, resume, report, doctor, eval."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from amft.cli import main

RECIPE = """
model: {model}
task: {{id: general_points-v1, cards: 3, demonstrations: answer}}
output_dir: run
max_steps: 3
num_prompts: 2
num_generations: 2
num_demos: 2
max_completion_length: 64
learning_rate: 1e-3
eval:
  steps: 2
  problems: 2
  test_splits: [id, seen]
  test_problems: 4
checkpoint:
  steps: 1
balance: {{rule: amft, meta_skip: 0}}
threads: 1
"""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_directory: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(RECIPE.format(model=tiny_directory))
    return tmp_path


def read(*path: str) -> bytes:
    return Path(*path).read_bytes()


def test_a_run_is_trained_reported_diagnosed_and_evaluated(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "tiny.yaml"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^id +\d+\.\d % \[.*\] +\d+\.\d % \[.*\] +4 +4$", printed, re.MULTILINE)
    assert printed.splitlines()[-1] == "report: run/report.html"
    config = json.loads(read("run", "config.json"))
    assert config["task"] == {"id": "general_points-v1", "cards": 3, "demonstrations": "answer"}
    assert config["learning_rate"] == 1e-3

    assert main(["report", "run"]) == 0
    assert capsys.readouterr().out == "run/report.html\n"
    assert main(["doctor", "run", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert main(["doctor", "run"]) == 0
    text = capsys.readouterr().out
    assert findings
    assert all(f"{finding['level']}: {finding['title']}" in text for finding in findings)

    question = ["eval", "run", "--task", "general_points-v1", "--split", "id", "--problems", "3", "--samples", "2"]
    assert main([*question, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["split"], row["n"], row["clusters"]) for row in rows] == [("id", 6, 3)]
    assert main(question) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[0] == "split"
    assert main(["eval", "run", "--split", "seen", "--problems", "1", "--set", "target=10", "--json"]) == 0
    assert [row["split"] for row in json.loads(capsys.readouterr().out)] == ["seen"]
    assert sorted(path.name for path in workplace.iterdir()) == ["run", "tiny.yaml"]


@pytest.mark.usefixtures("workplace")
def test_an_occupied_run_directory_is_refused_and_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run").mkdir()
    Path("run", "thesis.txt").write_text("mine")
    assert main(["train", "tiny.yaml"]) == 2
    error = capsys.readouterr().err
    assert error == ("amft: error: run: already exists; continue it with --resume or choose another output_dir\n")
    assert [path.name for path in Path("run").iterdir()] == ["thesis.txt"]


@pytest.mark.usefixtures("workplace")
def test_resume_needs_a_run_of_the_same_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "tiny.yaml", "--resume"]) == 2
    assert capsys.readouterr().err.startswith("amft: error: run: not a run directory")
    assert main(["train", "tiny.yaml"]) == 0
    capsys.readouterr()
    assert main(["train", "tiny.yaml", "--resume", "--set", "learning_rate=1e-2"]) == 2
    error = capsys.readouterr().err
    assert "learning_rate was 0.001, is 0.01" in error
    assert error.count("\n") == 1


def stop(workplace: Path, number: signal.Signals) -> tuple[int, list[str]]:
    """Start a run of 12 steps, signal it after its first checkpoint; exit code and stderr."""
    command = [str(Path(sys.executable).with_name("amft")), "train", "tiny.yaml", "--set", "max_steps=12"]
    with subprocess.Popen(command, cwd=workplace, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(workplace / "run" / "checkpoints" / "step-1")
        process.send_signal(number)
        _, error = process.communicate(timeout=120)
    return process.returncode, error.splitlines()


def test_an_interrupted_run_says_how_to_resume_and_ends_as_if_never_stopped(workplace: Path) -> None:
    code, error = stop(workplace, signal.SIGINT)
    assert code == 130
    assert error[-2:] == [
        "amft: stopped by SIGINT; the run is saved. Continue with:",
        "  amft train tiny.yaml --set max_steps=12 --resume",
    ]
    assert not any("Traceback" in line for line in error)
    assert main(["train", "tiny.yaml", "--set", "max_steps=12", "--resume"]) == 0
    assert main(["train", "tiny.yaml", "--set", "max_steps=12", "--output-dir", "straight"]) == 0
    assert read("run", "metrics.jsonl") == read("straight", "metrics.jsonl")
    assert read("run", "scores.jsonl") == read("straight", "scores.jsonl")


def test_a_terminated_run_is_saved_and_exits_143(workplace: Path) -> None:
    code, error = stop(workplace, signal.SIGTERM)
    assert code == 143
    assert error[-2] == "amft: stopped by SIGTERM; the run is saved. Continue with:"


def test_a_second_process_on_a_live_run_is_refused_and_harms_nothing(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(Path(sys.executable).with_name("amft")), "train", "tiny.yaml", "--set", "max_steps=30"]
    with subprocess.Popen(command, cwd=workplace, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(workplace / "run" / "checkpoints" / "step-1")
        for more in ([], ["--resume"]):
            assert main(["train", "tiny.yaml", "--set", "max_steps=30", *more]) == 2
            error = capsys.readouterr().err
            wanted = f"another process is writing this run (process {process.pid} on" if more else "already exists"
            assert wanted in error
            assert error.count("amft: error") == 1
        assert process.wait(timeout=240) == 0
    assert main(["train", "tiny.yaml", "--set", "max_steps=30", "--output-dir", "straight"]) == 0
    assert read("run", "metrics.jsonl") == read("straight", "metrics.jsonl")
    assert read("run", "scores.jsonl") == read("straight", "scores.jsonl")


def wait_for(path: Path) -> None:
    end = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)


def test_own_data_with_a_reward_file_is_trained(
    workplace: Path, tiny_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"question": f"{n}+1=", "answer": str(n + 1)} for n in range(12)]
    (workplace / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (workplace / "test.jsonl").write_text(json.dumps({"question": "90+1=", "answer": "91"}) + "\n")
    (workplace / "rewards.py").write_text(
        "def right(prompts, completions, answer, **columns):\n"
        "    return [float(c.strip() == a) for c, a in zip(completions, answer)]\n"
    )
    recipe = RECIPE.replace("task: {{id: general_points-v1, cards: 3, demonstrations: answer}}\n", "").replace(
        "  test_splits: [id, seen]\n", ""
    )
    (workplace / "own.yaml").write_text(
        recipe.format(model=tiny_directory) + "data:\n  train: train.jsonl\n  demonstrations: demos.jsonl\n"
        "  test: test.jsonl\n  rewards: [rewards.py:right]\n  columns: {prompt: question}\n"
    )
    assert main(["train", "own.yaml"]) == 2
    assert "demos.jsonl" in capsys.readouterr().err
    demos = [{"question": row["question"], "completion": row["answer"]} for row in rows]
    (workplace / "demos.jsonl").write_text("".join(json.dumps(row) + "\n" for row in demos))
    assert main(["train", "own.yaml"]) == 0
    assert "held-out success" in capsys.readouterr().out
