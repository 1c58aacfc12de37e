"""recipes/loop.py, the algorithm by hand, gives the numbers of the library."""

import ast
import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from amft.settings.config import AMFTConfig
from amft.tasks.registry import build_task
from amft.training.trainer import AMFTTrainer

RECIPES = Path(__file__).parents[2] / "recipes"
META_SKIP = 2
SHARED = {
    "max_steps": 6,
    "num_prompts": 3,
    "num_generations": 4,
    "num_demos": 6,
    "max_completion_length": 96,
    "temperature": 0.9,
    "learning_rate": 2e-3,
    "max_grad_norm": 0.3,
    "dtype": "float64",
}


class Dense:
    """GeneralPoints with a reward that a random model does not always miss: the share of lower-case letters."""

    def __init__(self):
        self.task = build_task("general_points")

    def __getattr__(self, name):
        return getattr(self.task, name)

    def grade(self, problem, answer):
        found = self.task.grade(problem, answer)
        return dataclasses.replace(found, reward=sum(letter.islower() for letter in answer) / max(1, len(answer)))


def recipe(name):
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", RECIPES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def library_rows(base, directory, seed):
    off = {"eval": {"steps": 0, "test_splits": []}, "checkpoint": {"steps": 0}, "sample_steps": 0}
    balance = {"rule": "amft-scalar", "meta_skip": META_SKIP}
    config = AMFTConfig(**SHARED, **off, balance=balance, output_dir=str(directory), seed=seed)
    AMFTTrainer(str(base), config, task=Dense()).train()
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_loop_agrees_with_the_library(tiny_base, tmp_path):
    loop = recipe("loop")
    rows = list(loop.train(tiny_base, Dense(), loop.Settings(**SHARED, meta_skip=META_SKIP, seed=3)))
    expected = library_rows(tiny_base, tmp_path / "run", seed=3)
    assert len(rows) == len(expected) == 6
    for ours, theirs in zip(rows, expected, strict=True):
        assert ours["reward"] == pytest.approx(theirs["reward"], rel=1e-6)
        for name in ("mix/mu", "entropy", "policy_loss", "sft/loss", "grad_norm"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-5), name
        # The norms of transformers round to float32; AdamW's young Jacobian magnifies that where gradients are tiny.
        assert (ours["mix/meta_grad"] is None) == ("mix/meta_grad" not in theirs)
        if ours["mix/meta_grad"] is not None:
            assert ours["mix/meta_grad"] == pytest.approx(theirs["mix/meta_grad"], rel=1e-4)
    # What is compared is not trivial: mu is measured and moves, and the clipping binds.
    assert [row["mix/meta_grad"] is None for row in rows] == [True] * 3 + [False] * 3
    assert len({row["mix/mu"] for row in rows}) == 6
    assert max(row["grad_norm"] for row in rows) > SHARED["max_grad_norm"]


def test_recipes_are_short_and_loop_imports_no_part_of_amft_but_the_tasks():
    lines = {name: (RECIPES / f"{name}.py").read_text().splitlines() for name in ("loop", "basic")}
    assert len(lines["loop"]) <= 260
    assert len(lines["basic"]) <= 50
    imported = set()
    for node in ast.walk(ast.parse("\n".join(lines["loop"]))):
        if isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
        if isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    ours = {name for name in imported if name.partition(".")[0] == "amft"}
    assert ours == {"amft.tasks"}
    others = {name.partition(".")[0] for name in imported - ours}
    assert others <= sys.stdlib_module_names | {"torch", "transformers", "tqdm"}


def run(script, *arguments):
    command = [sys.executable, str(RECIPES / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_loop_from_the_command_line(tiny_base):
    done = run("loop.py", tiny_base, "--max-steps", 2, "--num-prompts", 2, "--num-generations", 2, "--num-demos", 2)
    assert done.returncode == 0, done.stderr
    assert sum("mix/mu 0." in line for line in (done.stdout + done.stderr).splitlines()) == 2


def test_basic_from_the_command_line(tiny_base, tmp_path):
    tiny = {"max_steps": 2, "num_prompts": 2, "num_generations": 2, "num_demos": 2, "max_completion_length": 256}
    tiny |= {"sft_warmup_steps": 1, "eval": {"test_problems": 4, "problems": 4}, "output_dir": str(tmp_path / "run")}
    settings = [f"{name}={json.dumps(value)}" for name, value in tiny.items()]
    done = run("basic.py", "--model", tiny_base, *settings)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[:3]] == ["id", "rule_ood", "seen"]
    report = Path(done.stdout.splitlines()[-1].removeprefix("report: "))
    assert report.is_file()
