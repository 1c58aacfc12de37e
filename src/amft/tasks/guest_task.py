"""A task of one's own behind the protocol: what it raises is one line, and what it returns is what it should be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from ..errors import TaskError
from ..guests import Hosted, guest, is_guest
from ..types import Grade, Problem
from .base import Task


def hosted(task: Task) -> Task:
    """The task itself if it ships with the package, else a `GuestTask` around it."""
    if not is_guest(task):  # so is a `GuestTask`, which is ours
        return task
    with guest(f"task {type(task).__name__}", TaskError):
        names = {name for name in dir(task) if not name.startswith("_")} - {"wrapped"}
    # Since Python 3.12 `isinstance` of a protocol looks for names in the class and never asks `__getattr__`, so this
    # proxy's class has the names that the task has.
    return cast(Task, type(GuestTask.__name__, (GuestTask,), {name: _forwarded(name) for name in names})(task))


def _forwarded(name: str) -> property:
    return property(lambda task: GuestTask.__getattr__(task, name))


class GuestTask(Hosted):
    """Hands every call on to the task, checks what comes back, and has all else that the task has."""

    def __getattr__(self, name: str) -> Any:
        with guest(self._who(name), TaskError):
            try:
                value = getattr(self.wrapped, name)
            except AttributeError:  # what it may lack decides what kind of task it is
                value = _NOTHING
        if value is _NOTHING:
            raise AttributeError(name)
        return self._hosted(name, value) if name in _PROMISED else value

    def _who(self, name: str) -> str:
        return f"task {type(self.wrapped).__name__}.{name}"

    def _hosted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        promise, words = _PROMISED[name]

        def call(*args: Any, **kwargs: Any) -> Any:
            who = self._who(name)
            with guest(who, TaskError):
                found = method(*args, **kwargs)
                if not promise(found):
                    raise TaskError(f"{who} returned {type(found).__name__} {str(found)[:60]!r}; return {words}")
            return found

        return call


_NOTHING = object()


def _is_conversation(found: Any) -> bool:
    return (
        isinstance(found, list)
        and bool(found)
        and all(
            isinstance(message, Mapping)
            and isinstance(message.get("role"), str)
            and isinstance(message.get("content"), str | list)
            for message in found
        )
    )


def _is_grade(found: Any) -> bool:
    return (
        isinstance(found, Grade)
        and isinstance(found.outcome, str)
        and isinstance(found.correct, bool)
        and isinstance(found.info, Mapping)
        and isinstance(found.info.get("metrics", {}), Mapping)
        and all(isinstance(value, int | float) for value in found.info.get("metrics", {}).values())
    )


def _all(kind: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda found: isinstance(found, Sequence) and not isinstance(found, str) and all(map(kind, found))


def _is_problem(found: Any) -> bool:
    return isinstance(found, Problem) and isinstance(found.key, str)


_PROBLEMS = (_all(_is_problem), "a list of amft.types.Problem")
_GRADE = (_is_grade, "an amft.types.Grade")
_PROMISED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "problems": _PROBLEMS,
    "demonstrated": _PROBLEMS,
    "prompt": (_is_conversation, 'a list of messages like {"role": "user", "content": "text"}'),
    "grade": _GRADE,
    "grade_episode": _GRADE,
    "grade_many": (_all(_is_grade), "one amft.types.Grade per answer"),
    "right_answer": (lambda found: isinstance(found, str), "text"),
    "demonstrate": (lambda found: isinstance(found, str), "text"),
    "feedback": (lambda found: found is None or isinstance(found, str), "text, or None at the end"),
    "mistakes": (_all(lambda one: isinstance(one, str)), "a list of texts"),
    "group_figures": (lambda found: isinstance(found, Mapping), "names with numbers"),
}
"""Method -> what it returns."""
