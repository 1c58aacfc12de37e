"""Proof that a task keeps its contract (`tasks/base.py`): everything is tried, on every split."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import random
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

from ..errors import TaskError
from ..types import Grade, Message, Problem
from .adversarial_answers import check_adversarial
from .base import Reviser, Task, TriesTask, tries

TRAINING_SPLITS = ("train", "meta", "val")
"""Splits that no test split may share a key with."""


SECONDS = 2.0
"""Longest that one grade may take, unless the task says otherwise."""


def check_task(
    task: Task, *, problems: int = 1000, adversarial: int = 1000, seconds: float | None = None
) -> list[dict[str, Any]]:
    """Try everything that `tasks/base.py` promises.

    Problems, prompts (pictures too) and grades are functions of their arguments and survive JSON; the expert is always
    right, an empty, a halved and (where the task has a method `spoil(problem) -> str`) a spoilt demonstration never;
    splits share no keys; episodes end when they should; adversarial answers do nothing and take no time.

    Args:
        task: any task.
        problems: drawn from each split.
        adversarial: adversarial answers graded in each split.
        seconds: longest that grading one adversarial answer may take; None: the task's `grading_seconds`, or `SECONDS`.

    Returns:
        One row per split: `split`, `problems` tried, `keys` in the split, `digest` of its prompts and experts.

    Raises:
        TaskError: one line that names the task, the split, the problem and the promise that is broken.
    """
    check_declared_splits(task)
    longest = getattr(task, "grading_seconds", SECONDS) if seconds is None else seconds
    rows = []
    for split in task.splits:
        drawn = task.problems(split, seed=1, n=problems)
        _require(len(drawn) == problems, task, split, f"{len(drawn)} problems were drawn, not {problems}")
        _require(drawn == task.problems(split, seed=1, n=problems), task, split, "one seed gave different problems")
        digest = hashlib.sha256()
        state = random.getstate()
        for problem in drawn:
            _require(problem.split == split, task, split, "a problem of another split")
            digest.update(_check_problem(task, problem).encode())
        _require(random.getstate() == state, task, split, "the global random numbers were used")
        check_adversarial(task, drawn[: min(20, problems)], answers=adversarial, seconds=longest)
        keys = {problem.key for problem in task.problems(split)}
        rows.append({"split": split, "problems": problems, "keys": len(keys), "digest": digest.hexdigest()[:16]})
    return rows


def check_declared_splits(task: Task) -> None:
    """No key is in two training splits, nor in a training and a test split (`seen_splits` excepted).

    Raises:
        TaskError: names both splits and a key.
    """
    seen = set(getattr(task, "seen_splits", ()))
    keys = {split: {problem.key for problem in task.problems(split)} for split in task.splits if split not in seen}
    for one, other in combinations(keys, 2):
        shared = keys[one] & keys[other]
        if shared and {one, other} & set(TRAINING_SPLITS):
            raise TaskError(f"{task.id}: splits {one} and {other} share the key {min(shared)!r}")


def _check_problem(task: Task, problem: Problem) -> str:
    """All promises about one problem; a text that identifies its prompt and its expert."""
    where = (task, problem.split)
    back = Problem(**json.loads(json.dumps(dataclasses.asdict(problem))))
    _require(back == problem, *where, f"problem {problem.key!r} changes in JSON")
    shown = describe_prompt(task.prompt(problem))
    _require(shown == describe_prompt(task.prompt(back)), *where, f"the prompt of {problem.key!r} is not deterministic")
    expert = task.demonstrate(problem)
    _require(expert == task.demonstrate(back), *where, f"the expert of {problem.key!r} is not deterministic")
    grade = task.grade(problem, expert)
    _require(grade == task.grade(back, expert), *where, f"the grade of {problem.key!r} is not deterministic")
    _require(grade.correct, *where, f"the expert of {problem.key!r} is graded {grade.outcome}")
    _require(math.isfinite(grade.reward), *where, f"the expert of {problem.key!r} has reward {grade.reward}")
    for wrong in _spoilt(task, problem, expert):
        graded = task.grade(problem, wrong)
        _require(not graded.correct, *where, f"{wrong[:80]!r} is graded as correct for {problem.key!r}")
        _require(graded.reward < grade.reward, *where, f"{wrong[:80]!r} is paid like the expert of {problem.key!r}")
    if isinstance(task, TriesTask):
        _check_episode(task, problem, expert, grade)
    return f"{shown}\n{expert}\n"


def _check_episode(task: TriesTask, problem: Problem, expert: str, grade: Grade) -> None:
    def require(kept: bool, promise: str) -> None:
        _require(kept, task, problem.split, f"{promise} ({problem.key!r})")

    most = tries(task)
    require(task.feedback(problem, [expert]) is None, "a right answer does not end the episode")
    alone = task.grade_episode(problem, [expert])
    require((alone.outcome, alone.correct, alone.reward) == (grade.outcome, True, grade.reward), "one try is not one")
    wrong = ["" for _ in range(most)]
    for given in range(1, most):
        said = task.feedback(problem, wrong[:given])
        require(bool(said), f"there is no feedback after {given} of {most} wrong answers")
        require(said == task.feedback(problem, wrong[:given]), "feedback is not deterministic")
    require(task.feedback(problem, wrong) is None, f"{most} wrong answers do not end the episode")
    require(not task.grade_episode(problem, wrong).correct, "an episode of wrong answers is graded as correct")
    if most > 1:
        require(task.grade_episode(problem, ["", expert]).correct, "an episode that ends well is not correct")
    shown = task.mistakes(problem) if isinstance(task, Reviser) else []
    require(len(shown) < most, "a demonstration has more mistakes than tries")
    require(not any(task.grade(problem, wrong).correct for wrong in shown), "a mistake is graded as correct")
    require(not shown or task.grade_episode(problem, [*shown, expert]).correct, "a revised episode is not correct")


def _spoilt(task: Task, problem: Problem, expert: str) -> Iterator[str]:
    yield ""
    yield expert[: len(expert) // 2]
    spoil = getattr(task, "spoil", None)
    if spoil is not None:
        yield spoil(problem)


def describe_prompt(messages: Sequence[Message]) -> str:
    """A prompt as text, with a digest of the pixels in place of a picture.

    Raises:
        TaskError: it is not a conversation of the kind that `types.Message` describes.
    """
    out = []
    for place, message in enumerate(messages):
        content = message.get("content") or ()
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not content or message.get("role") not in ("system", "user", "assistant"):
            raise TaskError(f"message {place + 1} of a prompt needs a role and a content")
        images = [part["image"] for part in parts if part.get("type") == "image"]
        if len(images) > (place == 0):
            raise TaskError(f"message {place + 1} of a prompt has {len(images)} images; one may stand in the first")
        for part in parts:
            out.append(f"{message['role']}: {part['text'] if part['type'] == 'text' else _digest(part['image'])}")
    return "\n".join(out)


def _digest(image: Any) -> str:
    return f"<image {image.mode} {image.width}x{image.height} {hashlib.sha256(image.tobytes()).hexdigest()}>"


def _require(kept: bool, task: Task, split: str, promise: str) -> None:
    if not kept:
        raise TaskError(f"{task.id}, split {split}: {promise}")
