"""Figures of whole routes, from the grades of their points.

A rail does not depend on the model, so one set of answers to all points gives both kinds of figures: teacher-forced
(every point counts) and rolled (a route ends at the first point that is not solved within the tries).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ...types import Grade, Message, Problem
from ..base import Task, TriesTask

Policy = Callable[[list[Message]], str]
"""A model: a conversation in, its next message out."""

ACTION_KINDS = ("turn", "forward", "stop")


def walk(task: Task, rail: Sequence[Problem], answer: Policy) -> list[list[Grade]]:
    """Every point of a route, answered until it is right or the tries are used up: the grades of its answers."""
    return [_solve(task, problem, answer) for problem in rail]


def _solve(task: Task, problem: Problem, answer: Policy) -> list[Grade]:
    messages, answers = list(task.prompt(problem)), [""]
    answers[0] = answer(messages)
    while isinstance(task, TriesTask) and (said := task.feedback(problem, answers)) is not None:
        messages += [{"role": "assistant", "content": answers[-1]}, {"role": "user", "content": said}]
        answers.append(answer(messages))
    return [task.grade(problem, text) for text in answers]


def route_report(rails: Sequence[Sequence[Problem]], grades: Sequence[Sequence[Sequence[Grade]]]) -> dict[str, Any]:
    """Figures of routes.

    Args:
        rails: whole routes, as from `Navigation.rails`.
        grades: for each route, for each point, the grades of its answers in order (see `walk`).

    Returns:
        `routes`, `points`; `route_success`: share of routes solved at every point; `rolled`: right answers over all
        answers until the route ends, wrong tries counted; `teacher_forced`: share of points solved within the tries,
        also by kind (`turn`, with the first one, `forward`, `stop`); `outcomes`: of all answers, teacher-forced.
    """
    solved = [[any(grade.correct for grade in point) for point in rail] for rail in grades]
    answers = [[len(point) for point in rail] for rail in grades]
    return {
        "routes": len(rails),
        "points": sum(map(len, rails)),
        **route_figures(rails, solved, answers),
        "outcomes": dict(Counter(grade.outcome for rail in grades for point in rail for grade in point)),
    }


def route_figures(
    rails: Sequence[Sequence[Problem]], solved: Sequence[Sequence[bool]], answers: Sequence[Sequence[int]]
) -> dict[str, float]:
    """The shares of `route_report` from what is known of each point: whether it was solved, in how many answers."""
    reached = [
        point for row, counts in zip(solved, answers, strict=True) for point in _reached(list(zip(row, counts)), row)
    ]
    tried = sum(count for _, count in reached)
    kinds = [_kind(problem) for rail in rails for problem in rail]
    flat = [hit for row in solved for hit in row]
    hits = {kind: [hit for k, hit in zip(kinds, flat, strict=True) if k == kind] for kind in ACTION_KINDS}
    return {
        "route_success": _mean([all(row) for row in solved]),
        "rolled": sum(hit for hit, _ in reached) / tried if tried else float("nan"),
        "teacher_forced": _mean(flat),
        **{f"teacher_forced_{kind}": _mean(hits[kind]) for kind in ACTION_KINDS},
    }


def whole_routes(problems: Sequence[Problem]) -> list[range]:
    """The places of each whole route in a row of problems; one that was cut off is left out."""
    ends = [place for place, problem in enumerate(problems) if problem.params["path"][-1] == "stop"]
    starts = [end - len(problems[end].params["path"]) + 1 for end in ends]
    return [range(start, end + 1) for start, end in zip(starts, ends, strict=True)]


def _reached(rail: Sequence[tuple[bool, int]], solved: Sequence[bool]) -> Sequence[tuple[bool, int]]:
    return rail[: solved.index(False) + 1] if False in solved else rail


def _kind(problem: Problem) -> str:
    kind: str = problem.params["path"][-1]
    return "turn" if kind == "start" else kind


def _mean(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits) if hits else float("nan")
