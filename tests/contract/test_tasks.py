"""Every registered task against its protocol; more tries, where a task has them, as well."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from amft.tasks.base import Task, TriesTask
from amft.tasks.check import check_task
from amft.tasks.registry import TASKS, build_task

SECTIONS = ("State", "Prompt", "Answer", "Outcomes", "Splits", "Metrics", "Differences", "History")


def options(name: str, folder: Path) -> dict[str, Any]:
    """What a task cannot be built without."""
    if name == "reasoning_gym-v1":
        if importlib.util.find_spec("reasoning_gym") is None:
            pytest.skip("reasoning-gym is not installed")
        return {"size": 200, "workers": 1, "timeout": 4.0}
    if name != "math-v1":
        return {}
    rows = [{"prompt": f"{i}+{i}?", "answer": 2 * i, "demonstration": f"\\boxed{{{2 * i}}}"} for i in range(10, 300)]
    amc = [{"problem": f"{i}*{i}?", "answer": i * i} for i in range(10, 30)]
    for file, lines in (("train", rows), ("amc", amc)):
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {
        "path": str(folder / "train.jsonl"), "dataset": "plain", "tests": {"amc": str(folder / "amc.jsonl")},
        "timeout": 1.0, "workers": 1,
    }  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_a_task_keeps_its_promises(name: str, tmp_path: Path) -> None:
    task = build_task(name, **options(name, tmp_path))
    assert isinstance(task, Task)
    rows = check_task(task, problems=12, adversarial=40)
    assert [row["split"] for row in rows] == list(task.splits)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_keeps_its_promises_with_three_tries(name: str) -> None:
    if "max_attempts" not in {field.name for field in dataclasses.fields(TASKS[name])}:  # type: ignore[arg-type]
        return
    task = build_task(name, max_attempts=3)
    assert isinstance(task, TriesTask)
    check_task(task, problems=3, adversarial=20)


@pytest.mark.parametrize("name", TASKS)
def test_a_datasheet_has_all_its_sections(name: str) -> None:
    sheet = inspect.getdoc(TASKS[name]) or ""  # since Python 3.13 docstrings come without their indent
    assert [section for section in SECTIONS if f"\n{section}" not in sheet] == []
    assert name.split("-")[-1] in sheet.split("History")[-1]
