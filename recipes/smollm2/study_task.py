"""Two-digit sums for the study of a real language model: demonstrations of four kinds, and longer numbers at the end.

    python recipes/smollm2/study_task.py smollm2 weak.jsonl

lets the model answer every training problem several times and writes what it said, right or wrong: the weak teacher.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

from amft.errors import TaskError
from amft.types import Grade, Message, Problem

DEMOS = ("right", "noisy", "weak", "two-sources")
WRONG = 0.6
"""Share of wrong demonstrations among noisy ones."""
SAMPLES, TEMPERATURE = 4, 0.7
"""Answers of the weak teacher to each problem, and how they are drawn."""


@dataclass(frozen=True)
class StudySums:
    """Add two numbers (text, one answer).

    State: two numbers from 10 to 99, in the split `longer` from 100 to 999. Prompt: `What is 47 plus 35? Reply with the
    number only.` Answer: text; its last number counts. Outcomes: correct, wrong, no_number. Reward: 1 or 0.
    Demonstrations, option `demos`: `right`; `noisy`, 60 % of them another sum; `weak`, the answers of a weak teacher
    from the file `weak`, right or wrong; `two-sources`, of which one is right and one answers with ten too much, and
    nothing says which is which. Splits: a stable hash of the two numbers.
    Demonstrations are wrong by design: this is no task for training anything. History: v1 (2026-11).
    """

    id: ClassVar[str] = "smollm2_sums-v1"
    splits: ClassVar[Mapping[str, str]] = {
        "train": "two digits",
        "meta": "two digits, for the held-out utility",
        "val": "two digits, for model selection",
        "id": "two digits, test",
        "longer": "three digits, test",
    }
    test_splits: ClassVar[tuple[str, ...]] = ("id", "longer")

    demos: str = "right"
    weak: str = "weak.jsonl"
    """What the weak teacher said; read for `demos: weak` alone."""

    def __post_init__(self) -> None:
        if self.demos not in DEMOS:
            raise TaskError(f"task.demos: {self.demos!r} is not one of {', '.join(DEMOS)}")
        if self.demos == "weak" and not Path(self.weak).is_file():
            raise TaskError(f"task.weak: no file {self.weak}; make it with `python {Path(__file__).name} MODEL FILE`")

    def problems(self, split: str, *, seed: int = 0, n: int | None = None) -> list[Problem]:
        """`n` problems in a drawn order; all of them, then from the start again."""
        if split not in self.splits:
            raise TaskError(f"split {split!r} is not one of {', '.join(self.splits)}")
        pairs = list(_pairs(split))
        random.Random(f"smollm2 sums:{split}:{seed}").shuffle(pairs)
        chosen = [pairs[i % len(pairs)] for i in range(len(pairs) if n is None else n)]
        return [Problem(self.id, split, f"{a} {b}", {"numbers": [a, b]}) for a, b in chosen]

    def prompt(self, problem: Problem) -> list[Message]:
        a, b = problem.params["numbers"]
        return [{"role": "user", "content": f"What is {a} plus {b}? Reply with the number only."}]

    def grade(self, problem: Problem, answer: str) -> Grade:
        said = re.findall(r"[0-9]{1,12}", answer[:2000])
        if not said:
            return Grade("no_number", 0.0, False)
        correct = said[-1] == self.right_answer(problem)
        return Grade("correct" if correct else "wrong", float(correct), correct)

    def right_answer(self, problem: Problem) -> str:
        """The sum."""
        return str(sum(problem.params["numbers"]))

    def demonstrate(self, problem: Problem) -> str:
        right, rng = self.right_answer(problem), random.Random(f"demonstration:{problem.key}")
        if self.demos == "noisy" and rng.random() < WRONG:
            return rng.choice([other for other in map(str, range(20, 199)) if other != right])
        if self.demos == "two-sources" and rng.random() < 0.5:
            return str(int(right) + 10)
        if self.demos == "weak" and problem.split == "train":
            return rng.choice(_said(self.weak)[problem.key])
        return right


@cache
def _pairs(split: str) -> tuple[tuple[int, int], ...]:
    if split == "longer":
        rng = random.Random("smollm2 sums: longer")
        return tuple((rng.randrange(100, 1000), rng.randrange(100, 1000)) for _ in range(200))
    every = [(a, b) for a in range(10, 100) for b in range(10, 100)]
    return tuple(pair for pair in every if _side(pair) == split)


def _side(pair: tuple[int, int]) -> str:
    place = random.Random(f"smollm2 sums:{min(pair)} {max(pair)}").random()
    bounds = {"train": 0.1, "id": 0.125, "val": 0.135, "meta": 0.15}
    return next((name for name, bound in bounds.items() if place < bound), "unused")


@cache
def _said(path: str) -> dict[str, list[str]]:
    rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return {row["key"]: row["answers"] for row in rows}


def ask(model: str, problems: Sequence[Problem], task: StudySums) -> list[list[str]]:
    """`SAMPLES` drawn answers to every problem."""
    from amft.data.rewards import TaskReward
    from amft.evaluation.saved_model import Asking, answer_splits
    from amft.types import Sampling

    rows = [{"prompt": task.prompt(problem), "problem": problem} for problem in problems]
    asking = Asking(Sampling(SAMPLES, max_new_tokens=16, temperature=TEMPERATURE))
    found = answer_splits(model, {"train": rows}, TaskReward(task), asking)
    right = sum(row["correct"] for row in found) / len(found)
    print(f"{len(found)} answers, {right:.1%} right")
    said: list[list[str]] = [[] for _ in problems]
    for row in found:
        said[row["problem"]].append(row["answer"])
    return said


def main(model: str, path: Path) -> None:
    task = StudySums()
    problems = task.problems("train")
    answers = ask(model, problems, task)
    rows = [{"key": problem.key, "answers": said} for problem, said in zip(problems, answers, strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
