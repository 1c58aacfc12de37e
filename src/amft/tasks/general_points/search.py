"""Trial and error on a hand: the way to a target for somebody who does not see it at once.

An operation is tried, what is left is looked at, and where that is hopeless the next operation is tried. Only whole
values from 0 on are kept.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

from .solver import Expr, join, number

MAX_WRONG = 6
"""Wrong operations a trail shows before it hits on a right one."""

SIGHT = 3
"""As many numbers are seen through without trying."""


@dataclass(frozen=True)
class Try:
    """One operation on two numbers of a hand."""

    step: str
    """`8-3=5`."""
    left: tuple[Expr, ...]
    """The result, then the other numbers."""

    def __str__(self) -> str:
        return f"{self.step}:{','.join(str(part.value) for part in self.left)}"

    def leads_to(self, target: int) -> bool:
        return reaches(tuple(sorted(int(part.value) for part in self.left)), target)


def tries(hand: Sequence[Expr]) -> list[Try]:
    """Every operation on two numbers of a hand that gives a whole number, each once."""
    found: dict[str, Try] = {}
    for i, j in combinations(range(len(hand)), 2):
        big, small = (hand[i], hand[j]) if hand[i].value >= hand[j].value else (hand[j], hand[i])
        others = tuple(hand[k] for k in range(len(hand)) if k not in (i, j))
        for sign, value in _whole(int(big.value), int(small.value)):
            step = f"{big.value}{sign}{small.value}={value}"
            result = join("+" if sign in "+-" else "*", big, small, sign in "-/")
            found.setdefault(step, Try(step, (result, *others)))
    return list(found.values())


@lru_cache(maxsize=500_000)
def reaches(numbers: tuple[int, ...], target: int) -> bool:
    """Whether whole values lead from a sorted multiset to a target."""
    if len(numbers) == 1:
        return numbers[0] == target
    for i, j in combinations(range(len(numbers)), 2):
        others = [numbers[k] for k in range(len(numbers)) if k not in (i, j)]
        for _, value in _whole(numbers[j], numbers[i]):
            if reaches(tuple(sorted([*others, value])), target):
                return True
    return False


def trail(numbers: Sequence[int], target: int, rng: random.Random) -> tuple[list[str], Expr] | None:
    """The steps of a search that ends at the target, and its formula; None where only fractions lead there.

    Operations are tried in a drawn order, until one is right or `MAX_WRONG` were wrong; then a right one follows.

    Example:
        >>> trail([1, 2, 12], 24, random.Random(0))[0]
        ['12*2=24', '24*1=24']
    """
    hand = tuple(number(value) for value in numbers)
    steps: list[str] = []
    while len(hand) > 1:
        options = tries(hand)
        right = [option for option in options if option.leads_to(target)]
        if not right:
            return None
        if len(hand) <= SIGHT:
            chosen = right[0]
            steps.append(chosen.step)
        else:
            order = rng.sample(options, len(options))
            first = next(place for place, option in enumerate(order) if option in right)
            chosen = order[first]
            steps += [f"{option}:no" for option in order[: min(first, MAX_WRONG)]]
            steps.append(str(chosen))
        hand = chosen.left
    return (steps, hand[0]) if hand[0].value == target else None


def _whole(big: int, small: int) -> Iterator[tuple[str, int]]:
    yield "+", big + small
    yield "-", big - small
    yield "*", big * small
    if small and big % small == 0:
        yield "/", big // small
