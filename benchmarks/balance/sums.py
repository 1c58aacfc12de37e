"""The task of the balance bench: sums, with demonstrations that are as bad as the regime wants them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from amft.errors import TaskError
from amft.types import Grade, Message, Problem

LARGEST = 49
"""Largest number that is trained on."""
DEMOS = ("expert", "few", "noisy", "misleading", "easier")
REWARDS = ("right", "sparse", "dense")
WRONG, PAID, FEW = 0.6, 0.05, 64
"""Share of noisy demonstrations that are wrong, share of problems a sparse reward pays for, and what few means."""


@dataclass(frozen=True)
class Sums:
    """Add two numbers of up to two digits (text, one answer).

    State: two numbers from 0 to 49, in the split `large` up to 59. Prompt: `Add 47 and 35.`, in the split `wording`
    `What is 47 plus 35?` Answer: the sum, digits only. Outcomes: correct, wrong, no_number.
    Rewards, option `reward`: `right` 1 or 0; `sparse` the same, but for 19 problems of 20 always 0; `dense` the share
    of right digits, from the units on, 0 for a sum of another length.
    Demonstrations, option `demos`: `expert`; `few` 64 of them; `noisy` 60 % wrong sums; `misleading` always ten too
    much; `easier` right, but of single digits. Whether an answer is correct never depends on these options.
    Splits: by a stable hash of the two numbers in order of size, so that `3 and 40` and `40 and 3` are on one side.
    Metrics: success, clustered by that pair. Demonstrations are wrong by design: this is no task for training anything.
    History: v1 (2026-11).
    """

    id: ClassVar[str] = "balance_sums-v1"
    splits: ClassVar[Mapping[str, str]] = {
        "train": "65 % of the pairs up to 49",
        "meta": "pairs for the held-out utility",
        "val": "pairs for model selection",
        "id": "test pairs up to 49",
        "wording": "the same pairs, asked in words that are never trained on",
        "large": "test pairs with a number from 50 to 59",
    }
    test_splits: ClassVar[tuple[str, ...]] = ("id", "wording", "large")

    demos: str = "expert"
    reward: str = "right"

    def __post_init__(self) -> None:
        for name, allowed in (("demos", DEMOS), ("reward", REWARDS)):
            if getattr(self, name) not in allowed:
                raise TaskError(f"task.{name}: {getattr(self, name)!r} is not one of {', '.join(allowed)}")

    def problems(self, split: str, *, seed: int = 0, n: int | None = None) -> list[Problem]:
        """`n` problems (None: every pair once), pairs used evenly, their order drawn."""
        if split not in self.splits:
            raise TaskError(f"split {split!r} is not one of {', '.join(self.splits)}")
        return _drawn(split, _pairs(split), f"{split}:{seed}", n)

    def demonstrated(self, *, seed: int, n: int) -> list[Problem]:
        """Problems of the demonstrations: those of `train`, or 64 of them, or single digits."""
        if self.demos == "few":
            return self.problems("train", seed=seed, n=FEW)
        if self.demos == "easier":
            return _drawn("train", [pair for pair in _pairs("train") if max(pair) < 10], f"easier:{seed}", n)
        return self.problems("train", seed=seed, n=n)

    def prompt(self, problem: Problem) -> list[Message]:
        a, b = problem.params["numbers"]
        question = f"What is {a} plus {b}?" if problem.split == "wording" else f"Add {a} and {b}."
        return [{"role": "user", "content": question}]

    def grade(self, problem: Problem, answer: str) -> Grade:
        given, right = answer.strip()[:8], str(sum(problem.params["numbers"]))
        if not (given.isascii() and given.isdigit()):
            return Grade("no_number", 0.0, False)
        correct = given == right
        return Grade("correct" if correct else "wrong", self._reward(problem, given, right), correct)

    def right_answer(self, problem: Problem) -> str:
        """The sum, whatever the demonstrations are like."""
        return str(sum(problem.params["numbers"]))

    def demonstrate(self, problem: Problem) -> str:
        right = sum(problem.params["numbers"])
        rng = random.Random(f"demonstration:{problem.params['numbers']}")
        if self.demos == "misleading":
            return str(right + 10)
        if self.demos == "noisy" and rng.random() < WRONG:
            return str(rng.choice([other for other in range(2 * LARGEST + 1) if other != right]))
        return str(right)

    def _reward(self, problem: Problem, given: str, right: str) -> float:
        if self.reward == "dense":
            return _digits(given, right)
        if self.reward == "sparse" and random.Random(f"paid:{problem.key}").random() >= PAID:
            return 0.0
        return float(given == right)


def _digits(given: str, right: str) -> float:
    """Share of right digits, counted from the units and up to the first wrong one."""
    if len(given) != len(right):
        return 0.0
    places = [mine == theirs for mine, theirs in zip(reversed(given), reversed(right), strict=True)]
    return (places.index(False) if False in places else len(places)) / len(places)


def _side(pair: tuple[int, int]) -> str:
    place = random.Random(f"balance_sums:{pair}").random()
    return "test" if place < 0.2 else "val" if place < 0.27 else "meta" if place < 0.35 else "train"


def _pairs(split: str) -> list[tuple[int, int]]:
    """Every pair of a split, the smaller number first."""
    side = "test" if split in Sums.test_splits else split
    largest = LARGEST + 10 if split == "large" else LARGEST
    pairs = [(a, b) for a in range(largest + 1) for b in range(a, largest + 1)]
    return [pair for pair in pairs if (split != "large" or pair[1] > LARGEST) and _side(pair) == side]


def _drawn(split: str, pairs: Sequence[tuple[int, int]], name: str, n: int | None) -> list[Problem]:
    rng = random.Random(f"balance_sums:{name}")
    queue: list[tuple[int, int]] = []
    out = []
    for _ in range(len(pairs) if n is None else n):
        if not queue:
            queue = rng.sample(list(pairs), len(pairs))
        pair = queue.pop()
        params = {"numbers": rng.sample(pair, 2)}
        out.append(Problem(task=Sums.id, split=split, key=f"{pair[0]} {pair[1]}", params=params))
    return out
