"""Fifteen thousand hostile answers to the tasks: nothing runs, nothing hangs, nothing wrong is paid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from amft.tasks.adversarial_answers import check_adversarial
from amft.tasks.check import SECONDS
from amft.tasks.registry import build_task

ANSWERS = {"general_points": 8000, "navigation": 4000, "word_problems": 3000, "reasoning_gym": 1500, "math": 600}
"""Of each task; those of mathematics wait for a judge in another process."""


def test_there_are_fifteen_thousand() -> None:
    assert sum(ANSWERS.values()) - ANSWERS["reasoning_gym"] >= 15_000  # whose library may be missing


@pytest.mark.parametrize("name", ANSWERS)
def test_hostile_answers_do_nothing(name: str, tmp_path: Path) -> None:
    if name == "reasoning_gym":
        pytest.importorskip("reasoning_gym")
    if name == "math":
        pytest.importorskip("math_verify")
    rows = [
        {"prompt": f"What is {i}+{i}?", "answer": str(2 * i), "demonstration": f"\\boxed{{{2 * i}}}"}
        for i in range(300)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = build_task(name, **({"path": str(tmp_path / "rows.jsonl"), "dataset": "plain"} if name == "math" else {}))
    problems = task.problems("val" if name == "math" else task.test_splits[0], seed=7, n=20)
    check_adversarial(task, problems, answers=ANSWERS[name], seconds=getattr(task, "grading_seconds", SECONDS))
