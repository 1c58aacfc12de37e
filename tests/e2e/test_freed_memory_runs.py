"""Where freed memory goes changes no number of a run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_a_run_is_the_same_to_the_byte(tiny_directory: Path, tmp_path: Path) -> None:
    found = []
    for choice in ("", "plain"):
        run = tmp_path / f"run-{choice}"
        settings = [f"model={tiny_directory}", "max_steps=3", "sft_warmup_steps=1", "lr_warmup_steps=0"]
        settings += ["num_prompts=2", "num_generations=2", "num_demos=4", "max_completion_length=128"]
        settings += ["eval.steps=0", "eval.test_splits=[]", "dtype=bfloat16", "threads=1", "micro_batch_tokens=500"]
        settings += ["task={id: general_points-v1, cards: 3, demonstrations: answer}"]
        command = [sys.executable, "-m", "amft", "train", "general_points", "--output-dir", str(run)]
        for setting in settings:
            command += ["--set", setting]
        done = subprocess.run(command, env=os.environ | {"AMFT_MALLOC": choice}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.append((run / "metrics.jsonl").read_bytes())
    assert found[0] == found[1]
    assert found[0].count(b"\n") == 3
