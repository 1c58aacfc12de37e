"""A task of one's own behind the package's hands: it is of the same kinds as the task itself."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import pytest

from amft.errors import TaskError
from amft.tasks.base import Demonstrator, KnownAnswer, Task, TriesTask
from amft.tasks.general_points.task import GeneralPoints
from amft.tasks.guest_task import GuestTask, hosted


@dataclass(frozen=True)
class Mine(GeneralPoints):
    """A task of somebody else's, by its module."""

    wrapped: int = 7
    counted: int = 0

    def right_answer(self, problem):
        return "24"

    @property
    def broken(self):
        raise ValueError("no such luck")


@pytest.mark.parametrize("kind", [Task, TriesTask, KnownAnswer, Demonstrator])
def test_it_is_of_the_kinds_of_the_task(kind):
    task = Mine()
    assert isinstance(hosted(task), kind) == isinstance(task, kind)
    assert isinstance(hosted(task), GuestTask)


def test_its_names_are_found_without_asking_the_task():
    # Python 3.12 and later look at a class this way when they check a protocol.
    found = hosted(Mine())
    for name in ("problems", "prompt", "grade", "right_answer", "max_attempts"):
        assert inspect.getattr_static(found, name, None) is not None, name
    with pytest.raises(AttributeError):
        inspect.getattr_static(found, "demonstrated")


def test_everything_is_handed_on_and_checked():
    task, found = Mine(counted=3), hosted(Mine(counted=3))
    assert (found.counted, found.id) == (3, task.id)
    assert found.wrapped == task  # ours, not the task's own field of that name
    assert found.problems("train", seed=0, n=2) == task.problems("train", seed=0, n=2)
    assert hosted(found) is found
    assert not hasattr(found, "missing")
    with pytest.raises(TaskError, match="no such luck"):
        _ = found.broken


def test_two_tasks_do_not_share_their_names():
    plain = hosted(type("Plain", (), {"prompt": lambda self, problem: []})())
    assert inspect.getattr_static(plain, "right_answer", None) is None
    assert inspect.getattr_static(hosted(Mine()), "right_answer", None) is not None
