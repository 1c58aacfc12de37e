"""`amft train` under torchrun: one voice, and a killed rank that torchrun replaces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from amft.cli import main

RECIPE = """
model: {model}
data: {{train: train.jsonl, demonstrations: train.jsonl, rewards: [rewards.py:odd]}}
output_dir: run
max_steps: 4
num_prompts: 3
num_generations: 2
num_demos: 3
max_completion_length: 8
learning_rate: 1e-3
eval:
  steps: 0
checkpoint:
  steps: 1
balance: {{rule: amft, meta_skip: 1}}
sample_steps: 1
threads: 1
dtype: float64
"""
REWARDS = """
import os, signal
calls = 0
def odd(completion_ids, **columns):
    global calls
    calls += 1
    if os.environ.get("RANK") == "1" and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0" and calls == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return [sum(token % 2 for token in ids) / len(ids) for ids in completion_ids]
"""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_directory: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"{n} + {n * n} =", "completion": f" {n + n * n}"} for n in range(1, 31)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "rewards.py").write_text(REWARDS)
    (tmp_path / "own.yaml").write_text(RECIPE.format(model=tiny_directory))
    return tmp_path


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Two ranks on this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=400, check=False, env=environment)


def metrics(run: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "phase"} for row in rows]


def test_a_killed_rank_is_replaced_and_the_run_ends_as_if_nothing_had_happened(workplace: Path) -> None:
    done = torchrun("--max-restarts", "1", "-m", "amft", "train", "own.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    spoken = [line for line in done.stderr.splitlines() if line.startswith("amft: error")]
    assert len(spoken) == 1
    assert spoken[0].startswith("amft: error: rank 0 of 2 lost contact with another rank")
    assert done.stdout.count("report: run/report.html") == 1
    assert done.stdout.count("recipe    own.yaml") == 2  # once for each start
    events = (workplace / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in events] == [1, 2, 3, 4]

    assert main(["train", "own.yaml", "--output-dir", "alone"]) == 0
    for row, other in zip(metrics(workplace / "run"), metrics(workplace / "alone"), strict=True):
        assert row == pytest.approx(other, rel=1e-6, abs=1e-9)
