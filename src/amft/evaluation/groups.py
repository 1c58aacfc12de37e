"""Figures of several problems together, where a task has some: whole routes beside their points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..tasks.base import Grouper, Task
from ..types import Problem


def group_figures(task: Task, problems: Sequence[Problem], rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """A task's own figures of one split, the mean over its samples; empty where the task has none.

    Args:
        task: a `Grouper`, or not.
        problems: all of the split that were answered, in order.
        rows: their score rows, see `answers.answer`; `problem` is the place in `problems`.
    """
    if not isinstance(task, Grouper):
        return {}
    found = []
    for sample in sorted({row["sample"] for row in rows}):
        own = sorted((row for row in rows if row["sample"] == sample), key=lambda row: int(row["problem"]))
        solved = [row["correct"] > 0 for row in own]
        attempts = [int(row.get("metrics", {}).get("attempts", 1)) for row in own]
        found.append(task.group_figures([problems[row["problem"]] for row in own], solved, attempts))
    return {name: _mean([figures[name] for figures in found]) for name in found[0]} if found else {}


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
