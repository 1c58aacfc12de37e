"""Out of memory, for real: a child process whose address space is too small for what it is told to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_runs import build

from amft.errors import DeviceMemoryError
from amft.training.out_of_memory import MEMORY_STAGES, memory_named

RECIPE = """
model: nano
task: general_points-v1
balance: {balance}
max_steps: 2
num_prompts: {prompts}
num_generations: 8
num_demos: {demos}
max_completion_length: {length}
micro_batch_size: 4096
eval: {{steps: 0, test_splits: []}}
output_dir: run
threads: 1
"""
LIMITED = """
import resource, sys
from amft.cli import main
import torch, transformers, amft.training.trainer
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + (700 << 20),) * 2)
sys.exit(main(["train", "r.yaml"]))
"""


@pytest.mark.parametrize(
    ("balance", "prompts", "demos", "length", "said"),
    [
        ("sft", 1, 4096, 256, "in a forward or backward pass: change micro_batch_size (4096)"),
        ("rl", 512, 1, 1000, "while sampling: change num_prompts (512), num_generations (8), max_completion_length"),
    ],
)
def test_the_line_says_where_and_what_to_change(
    tmp_path: Path, balance: str, prompts: int, demos: int, length: int, said: str
) -> None:
    text = RECIPE.format(balance=balance, prompts=prompts, demos=demos, length=length)
    (tmp_path / "r.yaml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    lines = [line for line in done.stderr.splitlines() if line and "it/s" not in line and "step/s" not in line]
    assert done.returncode == 2, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert lines[-1].startswith(f"amft: error: out of memory {said}"), lines[-3:]
    assert "amft plan counts" in lines[-1]
    assert not list(tmp_path.glob("run/checkpoints/step-*"))


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried"), RuntimeError("can't allocate memory")]
)
def test_every_way_of_saying_it_is_understood(tmp_path: Path, error: Exception) -> None:
    config = build(tmp_path / "run", "rl").config
    said = r"while preparing the run: change num_prompts \(2\)"
    with pytest.raises(DeviceMemoryError, match=said) as caught, memory_named(config):
        raise error
    assert caught.value.__cause__ is error


def test_another_error_keeps_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_named(build(tmp_path / "run", "rl").config):
        raise RuntimeError("shapes do not match")


def test_every_setting_it_names_exists(tmp_path: Path) -> None:
    from amft.training.out_of_memory import _value

    config = build(tmp_path / "run", "rl").config
    for _, settings in MEMORY_STAGES.values():
        assert all(_value(config, name) is not None for name in settings)
