"""Hostile reward functions: each run ends in time, with one line and an exit code that is true."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hostile_rewards import HANGS, IMPORTS, ISOLATED, MEDDLES, RAISES, RETURNS, source

from amft.cli import main

pytestmark = pytest.mark.filterwarnings("ignore")  # what guests leave open is theirs

RECIPE = """
model: {model}
data: {{train: rows.jsonl, rewards: ['own.py:reward']}}
max_steps: 2
num_prompts: 2
num_generations: 2
num_demos: 2
max_completion_length: 4
max_bad_steps: 2
reward_timeout: 0.5
eval: {{steps: 0}}
balance: {{rule: fixed, mu: 0.5}}
output_dir: run
threads: 1
"""
FAIL = {**RAISES, **{f"returns {name}": body for name, body in RETURNS.items()}}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_model: Path) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("amft.data.isolated_reward.REWARD_START_SECONDS", 60.0)
    row = {"prompt": [{"role": "user", "content": "3"}], "completion": [{"role": "assistant", "content": "5"}]}
    (tmp_path / "rows.jsonl").write_text((json.dumps({**row, "answer": "5"}) + "\n") * 4)
    (tmp_path / "run.yaml").write_text(RECIPE.format(model=small_model))
    out, environment, limit = sys.stdout, dict(os.environ), sys.getrecursionlimit()
    yield tmp_path
    sys.stdout = out
    os.environ.update(environment)
    sys.setrecursionlimit(limit)
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)


def train(workplace: Path, text: str, capfd: pytest.CaptureFixture[str], *changes: str) -> tuple[int, str]:
    """Exit code and last line of a run, which must take no time and leave nothing strange behind."""
    (workplace / "own.py").write_text(text)
    begun, handlers = time.monotonic(), [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    code = main(["train", "run.yaml", *(word for change in changes for word in ("--set", change))])
    error = capfd.readouterr().err
    assert time.monotonic() - begun < 30
    assert "Traceback" not in error, error
    assert Path.cwd() == workplace
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    found = [line for line in error.splitlines() if line.startswith("amft: error:")]
    assert len(found) == (code != 0), error
    return code, found[0] if found else ""


def test_there_are_enough_of_them() -> None:
    assert len(FAIL) + len(HANGS) + len(MEDDLES) + len(ISOLATED) + len(IMPORTS) >= 60


@pytest.mark.parametrize("name", FAIL)
def test_a_failure_is_named(workplace: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    code, line = train(workplace, source(FAIL[name]), capfd)
    assert code == 2
    assert "reward" in line
    assert len(line) < 700


@pytest.mark.parametrize("name", RAISES)
def test_an_async_failure_is_named(workplace: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    code, line = train(workplace, source(FAIL[name], "async def"), capfd)
    assert code == 2
    assert "reward function 'reward' raised" in line


@pytest.mark.parametrize("name", HANGS)
def test_a_hang_ends(workplace: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    code, line = train(workplace, source(HANGS[name]), capfd)
    assert code == 2
    assert "reward function 'reward' did not return within 0.5 s (reward_timeout)" in line


@pytest.mark.parametrize("name", ["sleep", "spin"])
def test_an_async_hang_ends(workplace: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    body = {"sleep": "import asyncio; await asyncio.sleep(900)", "spin": "import time; time.sleep(3)"}[name]
    code, line = train(workplace, source(body, "async def"), capfd)
    assert code == 2
    assert "did not return within 0.5 s" in line


@pytest.mark.parametrize("name", MEDDLES)
def test_a_meddler_is_put_back(workplace: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert train(workplace, source(MEDDLES[name]), capfd, "reward_timeout=60")[0] == 0
    rows = [json.loads(line) for line in Path("run", "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]


@pytest.mark.parametrize("name", ISOLATED)
def test_an_isolated_one_cannot_hurt_the_run(workplace: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    code, line = train(workplace, source(ISOLATED[name]), capfd, "rewards.isolate=true")
    assert code == 2
    assert "reward" in line


@pytest.mark.parametrize("isolate", ["false", "true"])
@pytest.mark.parametrize("name", IMPORTS)
def test_a_file_that_is_no_reward(
    workplace: Path, name: str, isolate: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amft.data.isolated_reward.REWARD_START_SECONDS", 6.0)
    code, line = train(workplace, IMPORTS[name], capfd, f"rewards.isolate={isolate}")
    assert code == 2
    assert "reward" in line
