"""Grading processes: what a judge may cost, and what it may not do."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amft.errors import TaskError
from amft.tasks.grading import Failure, GradingPool, Limits

LIMITS = Limits(workers=2, timeout=1.0, memory_mb=512)


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    pool = GradingPool(LIMITS, ["adversarial_judges"])
    pool.run("adversarial_judges:pid", [()])
    yield pool
    pool.close()


def timed(pool: GradingPool, judge: str, *args: Any) -> tuple[Any, float]:
    start = time.monotonic()
    [result] = pool.run(judge, [args])
    return result, time.monotonic() - start


def test_results_come_in_order(pool: GradingPool) -> None:
    assert pool.run("adversarial_judges:double", [(i,) for i in range(200)]) == [2 * i for i in range(200)]
    assert pool.run("adversarial_judges:double", []) == []


@pytest.mark.parametrize(
    ("judge", "outcome"),
    [
        ("adversarial_judges:sleep", "grader_timeout"),
        ("adversarial_judges:spin", "grader_timeout"),
        ("adversarial_judges:eat", "grader_crash"),
        ("adversarial_judges:die", "grader_crash"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_lost_process_is_replaced_within_the_timeout_and_a_second(
    pool: GradingPool, judge: str, outcome: str
) -> None:
    before = {pool.run("adversarial_judges:pid", [()])[0] for _ in range(20)}
    result, seconds = timed(pool, judge, 0)
    assert isinstance(result, Failure)
    assert result.outcome == outcome
    assert seconds < LIMITS.timeout + 1
    assert pool.run("adversarial_judges:double", [(4,), (5,)]) == [8, 10]
    deadline = time.monotonic() + 10
    while {pool.run("adversarial_judges:pid", [()])[0] for _ in range(20)} <= before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert time.monotonic() < deadline, "no new process came"


def test_memory_that_ran_out_unseen_gives_no_verdict() -> None:
    """A judge that swallows MemoryError and says `wrong` is not believed."""
    pool = GradingPool(Limits(workers=1, timeout=20.0, memory_mb=512), ["adversarial_judges"])
    [result] = pool.run("adversarial_judges:eat_slowly_and_hide_it", [(0,)])
    pool.close()
    assert result == Failure("grader_crash", "the grading process ended with code 70")


def test_a_large_parent_does_not_count_against_its_graders() -> None:
    """The kernel hands a process's peak size on to what it starts."""
    ballast = bytearray(b"x") * (400 << 20)
    pool = GradingPool(LIMITS, ["adversarial_judges"])
    assert pool.run("adversarial_judges:double", [(len(ballast) - len(ballast) + 1,)]) == [2]
    pool.close()


def test_neighbours_of_a_lost_answer_keep_their_verdicts(pool: GradingPool) -> None:
    calls: list[tuple[Any, ...]] = [(i, i in (3, 11)) for i in range(20)]
    results = pool.run("adversarial_judges:double_or_die", calls)
    assert [r for i, r in enumerate(results) if i not in (3, 11)] == [2 * i for i in range(20) if i not in (3, 11)]
    assert [results[i].outcome for i in (3, 11)] == ["grader_crash"] * 2


def test_what_a_judge_raises_is_a_failure_and_keeps_the_process(pool: GradingPool) -> None:
    assert timed(pool, "adversarial_judges:complain", 0)[0] == Failure("grader_crash", "the grader raised ValueError")
    assert timed(pool, "adversarial_judges:leave", 0)[0] == Failure("grader_crash", "the grader raised SystemExit")


@pytest.mark.parametrize("what", ["fork", "system", "spawn", "write", "raw write", "remove", "connect", "kill"])
def test_a_judge_cannot_reach_out(pool: GradingPool, tmp_path: Path, what: str) -> None:
    (tmp_path / "victim").write_text("here")
    result, _ = timed(pool, "adversarial_judges:attempt", what, str(tmp_path / "out"))
    assert result == Failure("grader_crash", "the grader raised PermissionError")
    assert [path.name for path in tmp_path.iterdir()] == ["victim"]
    assert timed(pool, "adversarial_judges:attempt", "read", str(tmp_path / "out"))[0] == "here"


def test_processes_that_cannot_start_are_one_error() -> None:
    pool = GradingPool(LIMITS, ["no_such_module_of_judges"])
    with pytest.raises(TaskError, match="grading processes cannot start"):
        pool.run("adversarial_judges:double", [(1,)])


@pytest.mark.parametrize(
    ("limits", "field"),
    [({"workers": 0}, "workers"), ({"timeout": "5"}, "timeout"), ({"memory_mb": 1}, "memory_mb")],
)
def test_limits_are_checked(limits: dict[str, Any], field: str) -> None:
    with pytest.raises(TaskError, match=rf"task\.{field}: .* is not a number from"):
        Limits(**limits)


SCRIPT = """
from amft.tasks.grading import GradingPool, Limits
print("the script runs")
pool = GradingPool(Limits(workers=1, memory_mb=512), ["adversarial_judges"])
print(pool.run("adversarial_judges:main_file", [()]), pool.run("adversarial_judges:pid", [()]))
"""


def test_a_script_without_a_main_guard_runs_once_and_leaves_no_process(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=60,
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[0] == "the script runs"
    assert lines[1].startswith("[''] [")
    with pytest.raises(ProcessLookupError):
        os.kill(int(lines[1].split("[")[-1].rstrip("]")), 0)
    assert len(lines) == 2
