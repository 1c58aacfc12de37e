"""The tasks there are: a literal table."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from pathlib import Path
from typing import Any, cast

from ..errors import TaskError
from ..guests import guest, is_guest_class, load_file
from .base import Task
from .general_points import GeneralPoints, GeneralPointsVL
from .math import MathProblems
from .navigation import Navigation, NavigationVL
from .reasoning_gym import ReasoningGym
from .word_problems import WordProblems

TASK_CLASSES: tuple[type[Task], ...] = (
    GeneralPoints,
    GeneralPointsVL,
    Navigation,
    NavigationVL,
    MathProblems,
    WordProblems,
    ReasoningGym,
)
TASKS: dict[str, type[Task]] = {kind.id: kind for kind in TASK_CLASSES}
_METHODS = ("problems", "prompt", "grade", "demonstrate")


def build_task(name: str, **options: Any) -> Task:
    """The task with this id; the version may be left out.

    Args:
        name: an id of `amft tasks`, or `path/to/file.py:ClassName` for a task of your own.
        options: fields of the task.

    Raises:
        TaskError: no such task, or an option it does not have.
    """
    found = TASKS.get(name) or next((kind for key, kind in TASKS.items() if key.rsplit("-v", 1)[0] == name), None)
    if ".py:" in name:
        found = _load(name)
    if found is None:
        raise TaskError(f"task: {name!r} is not one of {', '.join(TASKS)}{_nearest(name, list(TASKS))}")
    allowed = list(_options(found))
    for option in options:
        if option not in allowed:
            raise TaskError(f"task.{option}: {found.id} takes {', '.join(allowed)}{_nearest(option, allowed)}")
    if not is_guest_class(found):
        return found(**options)
    with guest(f"task {name}", TaskError):
        return found(**options)


def describe_tasks() -> list[dict[str, Any]]:
    """One entry per task: id, datasheet, splits, options with their defaults."""
    return [
        {
            "id": name,
            "summary": (inspect.getdoc(kind) or "").splitlines()[0],
            "datasheet": inspect.getdoc(kind),
            "splits": dict(kind.splits),
            "options": _options(kind),
        }
        for name, kind in TASKS.items()
    ]


def _load(name: str) -> type[Task]:
    file, _, attribute = name.rpartition(":")
    path = Path(file).expanduser()
    if not path.is_file():
        raise TaskError(f"task: no file {file}; write path/to/file.py:ClassName")
    module = load_file(path, f"amft_task_{path.stem}", "task", TaskError)
    kind: Any = getattr(module, attribute, None)
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise TaskError(f"task: {file} has no dataclass {attribute!r}")
    missing = [name for name in ("id", "splits", "test_splits", *_METHODS) if not hasattr(kind, name)]
    if missing:
        raise TaskError(f"task: {file}:{attribute} lacks {', '.join(missing)}; see amft.tasks.base.Task")
    return cast("type[Task]", kind)


def _options(kind: type[Task]) -> dict[str, Any]:
    """Option -> default."""
    assert dataclasses.is_dataclass(kind)
    return {field.name: field.default for field in dataclasses.fields(kind)}


def _nearest(word: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(word, choices, n=1)
    return f"; did you mean {close[0]}?" if close else ""
