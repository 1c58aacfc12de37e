"""Rewards, rules and tasks of one's own that misbehave, in whole runs of the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from amft.cli import main

RECIPE = """
model: {model}
data: {{train: rows.jsonl, rewards: ['own.py:reward']}}
max_steps: 6
num_prompts: 2
num_generations: 2
num_demos: 2
max_completion_length: 8
learning_rate: 1e-3
eval: {{steps: 0}}
checkpoint: {{steps: 1}}
balance: {{rule: fixed, mu: 0.5}}
output_dir: run
threads: 1
"""
ROW = {
    "prompt": [{"role": "user", "content": "3"}],
    "completion": [{"role": "assistant", "content": "5"}],
    "answer": 1,
}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_directory: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text((json.dumps(ROW) + "\n") * 4)
    (tmp_path / "r.yaml").write_text(RECIPE.format(model=tiny_directory))
    return tmp_path


def own(workplace: Path, text: str) -> None:
    (workplace / "own.py").write_text("calls = 0\n" + text)


def lines(name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path("run", name).read_text().splitlines()]


COUNTS = """
def reward(completions, **columns):
    global calls
    calls += 1
    {then}
    return [float(len(c[0]["content"])) for c in completions]
"""


def test_a_reward_that_is_not_finite_costs_its_step_and_nothing_else(workplace: Path) -> None:
    own(workplace, COUNTS.format(then="if calls == 3: return [float('nan')] + [1e308] * (len(completions) - 1)"))
    assert main(["train", "r.yaml"]) == 0
    rows = lines("metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert ["reward" in row for row in rows] == [True, True, False, True, True, True]
    (event,) = [row for row in lines("events.jsonl") if row["kind"] == "non-finite"]
    assert event["step"] == 3
    assert "reward gave completion 1 a reward that is NaN" in str(event["message"])
    bundle = json.loads(Path("run", "incidents", "step-3.json").read_text())
    assert bundle["values"] == {"reward": "inf"}
    assert bundle["rewards"] == ["inf"] * 4
    assert len(bundle["texts"]) == len(bundle["prompts"]) == 4
    assert list(bundle["parts"]) == ["reward"]


def test_the_parameters_of_such_a_step_do_not_move(workplace: Path) -> None:
    own(workplace, COUNTS.format(then="if calls == 3: return [float('inf')] * len(completions)"))
    assert main(["train", "r.yaml", "--set", "max_steps=3", "--set", "checkpoint.total_limit=9"]) == 0
    weights = [Path("run", "checkpoints", f"step-{i}", "model", "model.safetensors").read_bytes() for i in (1, 2, 3)]
    assert weights[0] != weights[1]
    assert weights[1] == weights[2]


def test_too_many_of_them_in_a_row_end_the_run(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own(workplace, COUNTS.format(then="if calls > 1: return [-float('inf')] * len(completions)"))
    assert main(["train", "r.yaml", "--set", "max_bad_steps=3"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("amft: error: step 4: reward inf; 3 such steps in a row (max_bad_steps)")
    assert "and at the reward function" in error


@pytest.mark.parametrize("rule", ["amft-scalar", "hpt"])
def test_a_bad_reward_at_the_very_beginning_delays_what_is_measured_then(workplace: Path, rule: str) -> None:
    own(workplace, COUNTS.format(then="if calls == 1: return [float('nan')] * len(completions)"))
    assert main(["train", "r.yaml", "--set", f"balance={rule}", "--set", "max_steps=4"]) == 0
    assert [row["step"] for row in lines("metrics.jsonl")] == [1, 2, 3, 4]
    if rule == "amft-scalar":
        assert ["entropy_target" in row for row in lines("metrics.jsonl")] == [False, True, True, True]


def test_an_isolated_reward_gives_the_same_run_to_the_byte(workplace: Path) -> None:
    own(workplace, COUNTS.format(then="pass"))
    assert main(["train", "r.yaml"]) == 0
    assert main(["train", "r.yaml", "--set", "rewards.isolate=true", "--output-dir", "apart"]) == 0
    assert Path("run", "metrics.jsonl").read_bytes() == Path("apart", "metrics.jsonl").read_bytes()


def start(*changes: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "amft", "train", "r.yaml", *changes]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path) -> None:
    end = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)


SLEEPS = "if calls == 3: open('asleep', 'w').close(); import time; time.sleep(600)"


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_sigterm_ends_a_run_whose_reward_sleeps_and_resume_ends_as_if_never_stopped(workplace: Path, kind: str) -> None:
    text = COUNTS.replace("def", kind, 1)
    own(workplace, text.format(then=SLEEPS))
    with start() as process:
        wait_for(workplace / "asleep")
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
    assert time.monotonic() - begun < 30
    assert process.returncode == 143
    last = error.splitlines()[-1]
    assert "SIGTERM came while reward function 'reward' was still at work" in last
    assert last.endswith("amft train r.yaml --resume")
    assert "Traceback" not in error
    own(workplace, text.format(then="pass"))
    assert main(["train", "r.yaml", "--resume", "--accept-changes", "rewards"]) == 0
    assert main(["train", "r.yaml", "--output-dir", "straight"]) == 0
    assert Path("run", "metrics.jsonl").read_bytes() == Path("straight", "metrics.jsonl").read_bytes()


def test_max_seconds_acts_in_the_middle_of_a_sleeping_reward(workplace: Path) -> None:
    own(workplace, COUNTS.format(then=SLEEPS))
    with start("--set", "max_seconds=2") as process:
        _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "max_seconds is over while reward function 'reward' was still at work" in error.splitlines()[-1]


STUBBORN = """
import time
def reward(**columns):
    while True:
        try:
            time.sleep(600)
        except BaseException:
            pass
"""


@pytest.mark.parametrize("told", [True, False])
def test_a_reward_that_swallows_every_signal_ends_with_the_process(workplace: Path, told: bool) -> None:
    own(workplace, STUBBORN.replace("while", "open('asleep', 'w').close()\n    while", 1))
    with start("--set", f"reward_timeout={600 if told else 1}") as process:
        wait_for(workplace / "asleep")
        if told:
            process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
    assert process.returncode == (143 if told else 2)
    assert error.splitlines()[-1].startswith("amft: error: reward function 'reward' cannot be stopped")


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_an_exit_of_a_reward_is_no_success(workplace: Path, kind: str) -> None:
    own(workplace, f"import sys\n{kind} reward(**columns):\n    sys.exit(0)\n")
    with start() as process:
        _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert error.splitlines()[-1] == "amft: error: reward function 'reward' raised SystemExit: 0 at own.py:4"


def test_a_reward_that_moves_away_leaves_the_run_where_it_is(workplace: Path) -> None:
    own(workplace, COUNTS.format(then="import os; os.makedirs('else', exist_ok=True); os.chdir('else')"))
    assert main(["train", "r.yaml"]) == 0
    assert os.getcwd() == str(workplace)
    assert Path("run", "report.html").is_file()


RULE = """
from dataclasses import dataclass
from typing import ClassVar
from amft.balance.base import NOTHING
from amft.balance.weights import Weights
@dataclass(frozen=True)
class Rule:
    requirements: ClassVar = NOTHING
    def init(self): return {{}}
    def update(self, state, signals): {then}
"""


@pytest.mark.parametrize(
    ("then", "said"),
    [
        ("raise ValueError('no')", "Rule.update raised ValueError: no at rule.py:10"),
        ("raise SystemExit(0)", "Rule.update raised SystemExit: 0"),
        ("return 0.5", "update must return (Weights, state, metrics)"),
        ("return Weights(rl='a', sft=1.0), {}, {}", "must give numbers as weights"),
        ("return Weights.convex(float('nan')), {}, {}", "weights that are not finite"),
        ("return Weights.convex(0.5), {'a': object()}, {}", "a state and metrics that are JSON"),
        ("return Weights.convex(0.5), {}, {'mix/a': {1}}", "a state and metrics that are JSON"),
    ],
)
def test_a_rule_of_ones_own_fails_on_one_line(
    workplace: Path, capsys: pytest.CaptureFixture[str], then: str, said: str
) -> None:
    own(workplace, COUNTS.format(then="pass"))
    (workplace / "rule.py").write_text(RULE.format(then=then))
    assert main(["train", "r.yaml", "--set", "balance={rule: 'rule.py:Rule'}"]) == 2
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.splitlines() if line.startswith("amft: error:")]
    assert said in line
    assert "runs code own.py:reward, rule.py:Rule (in this process, with your rights)" in captured.out


TASK = """
from dataclasses import dataclass
from typing import ClassVar
from amft.types import Grade, Problem
@dataclass(frozen=True)
class Mine:
    id: ClassVar = "mine-v1"
    splits: ClassVar = dict.fromkeys(["train", "meta", "val", "id"], "")
    test_splits: ClassVar = ("id",)
    def problems(self, split, *, seed=0, n=None):
        {problems}
        return [Problem("mine-v1", split, f"{{split}} {{i}}") for i in range(min(n or 4, 4))]
    def prompt(self, problem): {prompt}
    def grade(self, problem, answer): {grade}
    def demonstrate(self, problem): return "5"
"""
TASK_PARTS = {
    "problems": "pass",
    "prompt": "return [{'role': 'user', 'content': problem.key}]",
    "grade": "return Grade('wrong', 0.0, False)",
}


def test_a_task_of_ones_own_runs(workplace: Path) -> None:
    (workplace / "task.py").write_text(TASK.format(**TASK_PARTS))
    assert main(["train", "r.yaml", "--set", "data=null", "--set", "task='task.py:Mine'"]) == 0


@pytest.mark.parametrize(
    ("part", "text", "said"),
    [
        ("problems", "raise SystemExit(0)", "task Mine.problems raised SystemExit: 0 at task.py:11"),
        ("problems", "return 7", "task Mine.problems returned int '7'; return a list of amft.types.Problem"),
        ("prompt", "return 'text'", "task Mine.prompt returned str 'text'; return a list of messages"),
        ("grade", "return 1.0", "task Mine.grade returned float '1.0'; return an amft.types.Grade"),
        ("grade", "1 / 0", "task Mine.grade raised ZeroDivisionError: division by zero at task.py:14"),
        ("grade", "return Grade('right', 'much', True)", "returned str 'much'; return a finite number"),
    ],
)
def test_a_task_of_ones_own_fails_on_one_line(
    workplace: Path, capsys: pytest.CaptureFixture[str], part: str, text: str, said: str
) -> None:
    (workplace / "task.py").write_text(TASK.format(**{**TASK_PARTS, part: text}))
    assert main(["train", "r.yaml", "--set", "data=null", "--set", "task='task.py:Mine'"]) == 2
    error = capsys.readouterr().err
    assert said in error.splitlines()[-1]
    assert "Traceback" not in error


def test_a_plan_runs_no_code_of_a_recipe(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("own.py", "rule.py", "task.py"):
        (workplace / name).write_text("open('executed', 'w')\n")
    rule = ["--set", "balance={rule: 'rule.py:Rule', demo_mixer: 'rule.py:Mix'}"]
    assert main(["plan", "r.yaml", "--model-config", "config.json", *rule]) == 2  # no such file
    capsys.readouterr()
    nano = ["--set", "model=nano"]
    assert main(["plan", "r.yaml", *nano, *rule]) == 0
    assert "rule.py:Rule, rule.py:Mix: a plan runs no code of yours" in capsys.readouterr().err
    assert main(["plan", "r.yaml", *nano, "--set", "data=null", "--set", "task='task.py:Mine'"]) == 0
    assert not (workplace / "executed").exists()
