"""Fifteen thousand hostile answers to the tasks: nothing runs, nothing hangs, nothing wrong is paid."""

from __future__ import annotations

import pytest

from amft.tasks.adversarial_answers import check_adversarial
from amft.tasks.check import SECONDS
from amft.tasks.registry import build_task

ANSWERS = {"general_points": 6000, "navigation": 4000, "word_problems": 3000, "reasoning_gym": 1500, "math": 600}
"""Of each task; those of mathematics wait for a judge in another process."""


def test_there_are_fifteen_thousand() -> None:
    assert sum(ANSWERS.values()) >= 15_000


@pytest.mark.parametrize("name", ANSWERS)
def test_hostile_answers_do_nothing(name: str) -> None:
    if name == "reasoning_gym":
        pytest.importorskip("reasoning_gym")
    if name == "math":
        pytest.importorskip("math_verify")
    task = build_task(name)
    problems = task.problems(task.test_splits[0], seed=7, n=60)
    check_adversarial(task, problems, answers=ANSWERS[name], seconds=getattr(task, "grading_seconds", SECONDS))
