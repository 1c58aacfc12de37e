"""Whole runs, killed at random moments and resumed: they end as if nothing had happened (scenario B3)."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny_runs import build

KILLS, RUNS, EVERY = 6, 10, 2
"""Kills of each run; runs; steps between two checkpoints."""
RULES = ["amft", "gac", "luffy", "hpt", "relift", "sft-then-rl", "chord-mu", "fixed", "prefix-rft", "srft"]
FAST = {"relift": {"size": 3}, "gac": {"every": 2}}
SETTINGS = {
    "max_steps": 16, "checkpoint": {"steps": EVERY, "total_limit": 3, "keep_best": True}, "sft_warmup_steps": 2,
    "eval": {"steps": 3, "test_splits": []}, "steps_per_generation": 2, "num_iterations": 2, "sample_steps": 1,
}  # fmt: skip


def start(directory: Path, rule: str) -> int:
    """A process that makes the run, or goes on with it; its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        out = os.open(directory.parent / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(out, 1)
        os.dup2(out, 2)
        resume = (directory / "config.json").exists()
        build(directory, {"rule": rule, **FAST.get(rule, {})}, **SETTINGS).train(resume=resume)
        code = 0
    finally:
        os._exit(code)


def last_step(directory: Path) -> int:
    """Steps in metrics.jsonl; a torn last line is none."""
    path = directory / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def newest(directory: Path) -> int:
    found = [int(path.name.removeprefix("step-")) for path in (directory / "checkpoints").glob("step-*")]
    return max(found, default=0)


@pytest.fixture(scope="module")
def seconds(tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long a run takes here."""
    begun = time.monotonic()
    assert os.waitpid(start(tmp_path_factory.mktemp("timed") / "run", "amft"), 0)[1] == 0
    return time.monotonic() - begun


@pytest.mark.parametrize("number", range(RUNS))
def test_a_run_killed_six_times_ends_as_if_never(number: int, seconds: float, tmp_path: Path) -> None:
    rule, draw = RULES[number], random.Random(number)
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert os.waitpid(start(straight, rule), 0)[1] == 0
    done = kills = 0
    while kills < KILLS:
        child = start(killed, rule)
        time.sleep(draw.uniform(0.05, 0.9) * seconds)
        os.kill(child, signal.SIGKILL)  # to no effect on one that has ended and is not waited for
        status = os.waitpid(child, 0)[1]
        if status == 0:
            shutil.rmtree(killed)
            done = 0
            continue
        assert os.WTERMSIG(status) == signal.SIGKILL
        kills += 1
        assert newest(killed) >= max(done, (last_step(killed) - 1) // EVERY * EVERY - EVERY)
        done = newest(killed)
    assert os.waitpid(start(killed, rule), 0)[1] == 0
    for name in ("metrics.jsonl", "samples.jsonl", "scores.jsonl", "checkpoints/step-16/model/model.safetensors"):
        assert (killed / name).exists() == (straight / name).exists()
        if (straight / name).exists():
            assert (killed / name).read_bytes() == (straight / name).read_bytes(), name
    assert {path.name for path in killed.iterdir()} == {path.name for path in straight.iterdir()} | {"events.jsonl"}
    assert not list(killed.rglob(".*"))
    assert (killed / "run.lock").read_bytes() == b""
    assert all(json.loads(line)["step"] <= 16 for line in (killed / "events.jsonl").read_text().splitlines())
