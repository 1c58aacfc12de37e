"""The task: problems of one reasoning-gym dataset, scored by the dataset itself, in processes that can be killed."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, ClassVar

from ...errors import TaskError
from ...extras import require_extra
from ...types import Grade, Message, Problem, abstain
from ..grading import Failure, GradingPool, Limits

_SHARES = {"id": range(10), "val": range(10, 15), "meta": range(15, 20), "train": range(20, 100)}
"""Split -> which hundredths of the questions, by their hash."""

_MAX_TEXT = 16_384
"""Characters at the end of an answer that are read."""

_ASK = "Give the final answer between <answer> and </answer>."

_CHUNK = 25
"""Problems made in one call of a process."""

_JUDGE = f"{__package__}.judge"


@dataclass(frozen=True)
class ReasoningGym:
    """Problems of one dataset of reasoning-gym, a library of a hundred generators (text, one answer).

    State: dataset, its options, a seed and an index; the library makes the problem from them.
    Prompt: one user message, the library's question and a line that asks for `<answer>...</answer>`.
    Answer: what stands in the last such tag. There are no worked steps: the expert writes the tag alone.
    Outcomes and rewards: the library's score from 0 to 1: correct (1), partial (between), wrong_answer (0);
    no_answer 0; grader_timeout and grader_crash abstain: no reward, counted.
    Splits: `size` problems, told apart by a hash of the question; `harder`, with other options, if those are given.
    Problems without an answer that the library itself scores 1, or that score nonsense 1, are left out.
    Metrics: success = share of answers scored 1; intervals are clustered by question.
    Differences from the library: scoring and making run in processes with caps on time and memory; held-out splits.
    History: v1 (2026-11), reasoning-gym 0.1.25.
    """

    id: ClassVar[str] = "reasoning_gym-v1"
    splits: ClassVar[Mapping[str, str]] = {
        "train": "80 % of the questions",
        "meta": "5 % of them, for the held-out utility",
        "val": "5 % of them, for model selection",
        "id": "10 % of them, never trained on",
        "harder": "questions made with the options `harder`, none of them in the other splits",
    }
    test_splits: ClassVar[tuple[str, ...]] = ("id", "harder")

    dataset: str = "chain_sum"
    """Name in reasoning-gym, for example `countdown`."""
    options: Mapping[str, Any] | None = None
    """The dataset's own options, for example `{max_terms: 3}`."""
    harder: Mapping[str, Any] | None = None
    """Options of the split `harder`; null: there is no such split."""
    size: int = 2000
    """Problems made; fewer questions where some are equal."""
    workers: int = 2
    """Processes that make and score."""
    timeout: float = 10.0
    """Seconds until the scoring of an answer, or the making of 25 problems, is given up."""
    memory_mb: int = 4096
    """Address space of a process, in MiB."""

    def __post_init__(self) -> None:
        require_extra(self.id, "reasoning-gym", "pebble", "reasoning_gym")
        _check(
            type(self.size) is int and 100 <= self.size <= 1_000_000, "size: give a whole number from 100 to 1000000"
        )
        for name in ("options", "harder"):
            given = getattr(self, name)
            _check(given is None or isinstance(given, Mapping), f"{name}: give a mapping of the dataset's options")
        _ = self._limits
        if self.harder is None:
            there = {name: text for name, text in type(self).splits.items() if name != "harder"}
            object.__setattr__(self, "splits", there)
            object.__setattr__(self, "test_splits", ("id",))

    @property
    def _limits(self) -> Limits:
        return Limits(self.workers, self.timeout, self.memory_mb)

    @property
    def grading_seconds(self) -> float:
        """Longest that one grade may take."""
        return self._limits.seconds

    def problems(self, split: str, *, seed: int = 0, n: int | None = None) -> list[Problem]:
        """`n` problems (None: every question once), shuffled and used evenly."""
        _check(split in self.splits, f"split {split!r} is not one of {', '.join(self.splits)}")
        pool = self._pools[split]
        _check(bool(pool), f"size: {self.size} problems of {self.dataset} leave none for split {split}; give more")
        rng = random.Random(f"reasoning_gym:{self.dataset}:{split}:{seed}")
        queue: list[Problem] = []
        out = []
        for _ in range(len(pool) if n is None else n):
            queue = queue or rng.sample(pool, len(pool))
            out.append(queue.pop())
        return out

    def prompt(self, problem: Problem) -> list[Message]:
        return [{"role": "user", "content": f"{problem.params['question']}\n\n{_ASK}"}]

    def grade(self, problem: Problem, answer: str) -> Grade:
        return self.grade_many([problem], [answer])[0]

    def grade_many(self, problems: Sequence[Problem], answers: Sequence[str]) -> list[Grade]:
        """One grade per answer, scored in parallel."""
        given = [tagged(answer) for answer in answers]
        asked = [i for i, answer in enumerate(given) if answer is not None]
        grades = [Grade("no_answer", 0.0, False) for _ in answers]
        calls = []
        for i in asked:
            params = problems[i].params
            calls.append((params["dataset"], params["options"], params["seed"], params["index"], given[i]))
        if calls:
            for i, found in zip(asked, self._pool.run(f"{_JUDGE}:score", calls), strict=True):
                grades[i] = _grade(found)
        return grades

    def demonstrate(self, problem: Problem) -> str:
        """The library's answer."""
        return f"<answer>{problem.params['answer']}</answer>"

    @property
    def _pool(self) -> GradingPool:
        return _pool(self._limits)

    @cached_property
    def _pools(self) -> dict[str, list[Problem]]:
        """Split -> its problems, one per question."""
        found = self._make(self.options or {}, 0)
        pools = {
            split: [self._problem(split, key, row) for key, row in found.items() if int(key, 16) % 100 in share]
            for split, share in _SHARES.items()
        }
        if self.harder is not None:
            extra = self._make({**(self.options or {}), **self.harder}, 1)
            pools["harder"] = [self._problem("harder", key, row) for key, row in extra.items() if key not in found]
        return pools

    def _make(self, options: Mapping[str, Any], seed: int) -> dict[str, dict[str, Any]]:
        known = self._pool.run(f"{_JUDGE}:names", [()])[0]
        _check(
            isinstance(known, Failure) or self.dataset in known,
            f"dataset: {self.dataset!r} is not one of reasoning-gym's ({', '.join(known if known else [])})",
        )
        text = json.dumps(dict(options), sort_keys=True)
        starts = range(0, self.size, _CHUNK)
        calls = [(self.dataset, text, seed, start, min(start + _CHUNK, self.size)) for start in starts]
        out: dict[str, dict[str, Any]] = {}
        for rows in self._pool.run(f"{_JUDGE}:make", calls):
            if isinstance(rows, Failure):
                raise TaskError(f"task.options: reasoning-gym cannot make {self.dataset} with {text} ({rows.why})")
            for row in rows:
                key = hashlib.sha256(row["question"].encode()).hexdigest()[:16]
                out.setdefault(key, {**row, "dataset": self.dataset, "options": text, "seed": seed})
        return out

    def _problem(self, split: str, key: str, row: Mapping[str, Any]) -> Problem:
        return Problem(task=self.id, split=split, key=key, params=row)


def tagged(text: str) -> str | None:
    """What stands in the last `<answer>` tag, or None."""
    opened = [found.end() for found in re.finditer("<answer>", text[-_MAX_TEXT:])]
    if not opened:
        return None
    body, closed, _ = text[-_MAX_TEXT:][opened[-1] :].partition("</answer>")
    return body.strip() if closed else None


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise TaskError(f"task.{message}")


@cache
def _pool(limits: Limits) -> GradingPool:
    return GradingPool(limits, [_JUDGE])


def _grade(found: float | Failure) -> Grade:
    if isinstance(found, Failure):
        return abstain(found.outcome, found.why)
    outcome = "correct" if found >= 1.0 else "partial" if found > 0.0 else "wrong_answer"
    return Grade(outcome, found, outcome == "correct")
