"""A script for TRL becomes a run of AMFT by changing at most five of its lines, and both versions run."""

from __future__ import annotations

import difflib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl")

SCRIPT = """\
from pathlib import Path

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from amft.models.load import NANO

rows = [{"prompt": f"max {a} {b}:", "answer": str(max(a, b))} for a in range(8) for b in range(8)]


def exact(completions, answer, **kwargs):
    return [float(text.strip() == right) for text, right in zip(completions, answer)]


args = GRPOConfig(
    output_dir=Path("runs") / "mine",
    learning_rate=1e-4,
    max_steps=2,
    per_device_train_batch_size=4,
    gradient_accumulation_steps=2,
    num_generations=4,
    max_completion_length=8,
    temperature=1.0,
    beta=0.0,
    bf16=False,
    logging_steps=1,
    save_steps=1,
    save_total_limit=1,
    report_to="none",
    seed=1,
)
trainer = GRPOTrainer(
    model=str(NANO),
    args=args,
    reward_funcs=exact,
    train_dataset=Dataset.from_list(rows),
)
trainer.train()
"""
README = Path(__file__).parents[2] / "README.md"


def changes() -> dict[str, str]:
    """Line of the script -> what the README makes of it."""
    (diff,) = re.findall(r"^```diff\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = diff.splitlines()
    assert [line[0] for line in lines] == ["-", "+"] * (len(lines) // 2)
    return {old[1:]: new[1:] for old, new in zip(lines[::2], lines[1::2], strict=True)}


def run(script: str, folder: Path) -> str:
    path = folder / "script.py"
    path.write_text(script, encoding="utf-8")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_three_lines_make_it_a_run_of_amft(tmp_path: Path) -> None:
    changed = SCRIPT
    for old, new in changes().items():
        assert changed.splitlines().count(old) == 1
        changed = changed.replace(f"{old}\n", f"{new}\n")
    diff = difflib.ndiff(SCRIPT.splitlines(), changed.splitlines())
    assert sum(line.startswith("+ ") for line in diff) <= 5
    for name, script in (("trl", SCRIPT), ("amft", changed)):
        (tmp_path / name).mkdir()
        run(script, tmp_path / name)
    ours = tmp_path / "amft" / "runs" / "mine"
    config = json.loads((ours / "config.json").read_text(encoding="utf-8"))
    assert (config["num_prompts"], config["micro_batch_size"], config["checkpoint"]["total_limit"]) == (2, 4, 1)
    rows = [json.loads(line) for line in (ours / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    assert {"mix/mu", "reward", "sft/loss"} <= rows[0].keys()
