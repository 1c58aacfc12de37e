"""How completions are scored: TRL's reward functions, or a task's grader, behind one protocol. No torch.

A score is one number per completion, or an abstention (NaN here; None from a reward function). Nothing is broadcast and
no failure is swallowed. What is NaN, infinite or too large to compute with is infinity here: a run skips such a step.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import ConfigError, RewardError
from ..guests import load_file
from ..tasks.base import Task, grade_all
from ..types import ABSTENTIONS, Answer, Grade, RewardFunction, Row
from .reward_calls import LARGEST, call_functions, reward_number

NOT_COLUMNS = {"prompt", "completion", "completion_ids"}


@dataclass(frozen=True)
class RewardBatch:
    """One entry per completion in every list."""

    rewards: list[float]
    """NaN where every reward function abstained."""
    parts: dict[str, list[float]]
    """Reward function -> its unweighted values, NaN where it abstained."""
    outcomes: list[str] | None = None
    """Words of the task's outcome list; None for reward functions."""
    correct: list[bool] | None = None
    metrics: list[Mapping[str, float]] | None = None
    """What a task measures besides success, and `attempts` where it has several tries; None for reward functions."""

    @property
    def abstained(self) -> int:
        """Completions without a reward."""
        return sum(map(math.isnan, self.rewards))


def joined_rewards(several: Sequence[RewardBatch]) -> RewardBatch:
    """All entries of one or more, in order."""

    def joined(parts: Sequence[list[Any] | None]) -> Any:
        known = [part for part in parts if part is not None]
        return [value for part in known for value in part] if len(known) == len(parts) else None

    return RewardBatch(
        joined([scores.rewards for scores in several]),
        {name: joined([scores.parts[name] for scores in several]) for name in several[0].parts},
        joined([scores.outcomes for scores in several]),
        joined([scores.correct for scores in several]),
        metrics=joined([scores.metrics for scores in several]),
    )


class Scorer(Protocol):
    """What the trainer asks for rewards."""

    def score(
        self, rows: Sequence[Row], texts: Sequence[Answer], completion_ids: Sequence[Sequence[int]]
    ) -> RewardBatch:
        """Score completion i, `texts[i]`, as an answer to `rows[i]`; a row is repeated for each of its completions.

        Where the task has several tries, `texts[i]` may be the list of an episode's answers.
        """
        ...


class TaskReward:
    """A task's grader as a `Scorer`; each row carries its `Problem` in the column `problem`."""

    def __init__(self, task: Task):
        self.task = task

    def score(
        self,
        rows: Sequence[Row],
        texts: Sequence[Answer],
        completion_ids: Sequence[Sequence[int]],  # noqa: ARG002
    ) -> RewardBatch:
        """See `Scorer`; an outcome among `types.ABSTENTIONS` has the reward NaN.

        Raises:
            RewardError: a reward is no number.
        """
        grades = grade_all(self.task, [row["problem"] for row in rows], texts)
        rewards = [
            math.nan
            if grade.outcome in ABSTENTIONS
            else reward_number(grade.reward, f"the grade of {grade.outcome!r}", number)
            for number, grade in enumerate(grades, 1)
        ]
        outcomes = [grade.outcome for grade in grades]
        correct = [grade.correct for grade in grades]
        return RewardBatch(
            rewards, {"task": list(rewards)}, outcomes, correct, metrics=[_metrics(grade) for grade in grades]
        )


class FunctionReward:
    """TRL's reward functions as a `Scorer`.

    Args:
        functions: called as `f(prompts=..., completions=..., completion_ids=..., **columns)`; may be `async def`.
        weights: one per function; default all 1.

    Raises:
        ConfigError: no function, or not one weight per function.
    """

    def __init__(self, functions: Sequence[RewardFunction], weights: Sequence[float] | None = None):
        if not functions:
            raise ConfigError("reward_funcs: none given; give at least one function or a task")
        self.functions = list(functions)
        self.weights = [1.0] * len(functions) if weights is None else list(weights)
        if len(self.weights) != len(self.functions):
            raise ConfigError(f"reward_weights: {len(self.weights)} for {len(functions)} functions; give one each")

    def score(
        self, rows: Sequence[Row], texts: Sequence[Answer], completion_ids: Sequence[Sequence[int]]
    ) -> RewardBatch:
        """See `Scorer`; the columns are the rows' own, without prompt and completion, None where a row lacks one."""
        prompts = [row["prompt"] for row in rows]
        names = dict.fromkeys(name for row in rows for name in row if name not in NOT_COLUMNS)
        return score_completions(
            self.functions,
            self.weights,
            prompts=prompts,
            completions=[_completion(prompt, text) for prompt, text in zip(prompts, texts, strict=True)],
            completion_ids=[list(ids) for ids in completion_ids],
            columns={name: [row.get(name) for row in rows] for name in names},
        )


def score_completions(
    reward_funcs: Sequence[RewardFunction],
    weights: Sequence[float],
    *,
    prompts: Sequence[Any],
    completions: Sequence[Any],
    completion_ids: Sequence[Sequence[int]],
    columns: Mapping[str, Sequence[Any]],
) -> RewardBatch:
    """Call every function; reward = sum of weight * value over those that did not abstain, as TRL's `nansum`.

    Args:
        reward_funcs: K functions.
        weights: [K].
        prompts, completions, completion_ids: [N] each; completions of conversations are lists of one message.
        columns: name -> [N], handed to the functions as keywords.

    Raises:
        RewardError: a function raised, exited or hung, or did not return one number or None per completion.
    """
    given = {"prompts": prompts, "completions": completions, "completion_ids": completion_ids}
    if clash := given.keys() & columns.keys():
        raise RewardError(f"dataset column {min(clash)!r} has the name of a reward argument; rename the column")
    parts = call_functions(reward_funcs, {**given, **columns}, len(completions))
    return RewardBatch([_weighted_sum(weights, row) for row in zip(*parts.values(), strict=True)], parts)


def _weighted_sum(weights: Sequence[float], row: Sequence[float]) -> float:
    """NaN where all abstained, infinity where a value is infinite or the sum too large."""
    given = [(weight, value) for weight, value in zip(weights, row, strict=True) if not math.isnan(value)]
    if not given:
        return math.nan
    if any(math.isinf(value) for _, value in given):
        return math.inf
    total = sum(weight * value for weight, value in given)
    return total if abs(total) <= LARGEST else math.inf


def load_reward(reference: str) -> RewardFunction:
    """The function behind `path/to/file.py:function`. The file's code runs.

    Raises:
        RewardError: no such file or function, or the file cannot be imported.
    """
    file, colon, name = reference.rpartition(":")
    path = os.path.expanduser(file)
    if not colon or not name.isidentifier():
        raise RewardError(f"reward {reference!r}: write it as path/to/file.py:function")
    if not Path(path).is_file():
        raise RewardError(f"reward {reference!r}: no file {path}")
    module = f"amft_reward_{hashlib.sha256(str(Path(path).resolve()).encode()).hexdigest()[:16]}"
    loaded = load_file(Path(path), module, f"reward {reference!r}", RewardError)
    function = getattr(loaded, name, None)
    if function is None:
        raise RewardError(f"reward {reference!r}: {path} has no function {name}")
    if not callable(function):
        raise RewardError(f"reward {reference!r}: {name} is a {type(function).__name__}, not a function")
    return function


def _metrics(grade: Grade) -> Mapping[str, float]:
    found = {str(name): float(value) for name, value in grade.info.get("metrics", {}).items()}
    return found | ({"attempts": float(grade.info["attempts"])} if "attempts" in grade.info else {})


def _completion(prompt: Any, text: Answer) -> Any:
    return text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
