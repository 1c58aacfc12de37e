"""Trial and error on a hand: the way to a target for somebody who does not see it at once.

An operation is tried, what is left is looked at, and where that is hopeless the next operation is tried. Only whole
values from 0 on are kept.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations

from .solver import Expr, combine, number

MAX_WRONG = 6
"""Attempts that fail before the one that does not."""

SEEN, OVERSIGHT = 0.7, 0.2
"""How often a hopeless operation is seen to be so at once, and how often one that leads to the target is missed."""

MAX_RESULT = 999
"""The largest value of a failed attempt."""

SIGHT = 3
"""As many numbers are seen through without trying."""


@dataclass(frozen=True)
class Try:
    """One operation on two numbers of a hand."""

    step: str
    """`8-3=5`."""
    sign: str
    of: tuple[Expr, Expr]
    """The larger one first."""
    others: tuple[Expr, ...]
    values: tuple[int, ...]
    """Of `left`."""

    @cached_property
    def left(self) -> tuple[Expr, ...]:
        """The result, then the other numbers. Few of all tries are followed, so it is made when it is asked for."""
        return (combine("+" if self.sign in "+-" else "*", *self.of, self.sign in "-/"), *self.others)

    def __str__(self) -> str:
        return f"{self.step}:{','.join(map(str, self.values))}"

    def leads_to(self, target: int) -> bool:
        return reaches(tuple(sorted(self.values)), target)


def search_tries(hand: Sequence[Expr]) -> list[Try]:
    """Every operation on two numbers of a hand that gives a whole number, each once."""
    found: dict[str, Try] = {}
    values = [int(part.value) for part in hand]
    for i, j in combinations(range(len(hand)), 2):
        big, small = (i, j) if values[i] >= values[j] else (j, i)
        rest = [k for k in range(len(hand)) if k not in (i, j)]
        others, known = tuple(hand[k] for k in rest), [values[k] for k in rest]
        for sign, value in _whole(values[big], values[small]):
            step = f"{values[big]}{sign}{values[small]}={value}"
            found.setdefault(step, Try(step, sign, (hand[big], hand[small]), others, (value, *known)))
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

    The first operation is drawn, from there on they are tried in order, around. An attempt is given up at sight, or
    when it has missed the target.

    Example:
        >>> trail([1, 2, 12], 24, random.Random(0))[0]
        ['12*2=24', '24*1=24']
    """
    return _trail(tuple(number(value) for value in numbers), target, rng)


def _trail(hand: tuple[Expr, ...], target: int, rng: random.Random) -> tuple[list[str], Expr] | None:
    if len(hand) == 1:
        return ([], hand[0]) if hand[0].value == target else None
    options = search_tries(hand)
    right = [option for option in options if option.leads_to(target)]
    if not right:
        return None
    missed, chosen = ([], right[0]) if len(hand) <= SIGHT else _attempts(options, right, rng)
    steps = [step for option in missed for step in _miss(option, target, rng)]
    steps.append(chosen.step if len(hand) <= SIGHT else str(chosen))
    rest = _trail(chosen.left, target, rng)
    assert rest
    return steps + rest[0], rest[1]


def _attempts(options: list[Try], right: list[Try], rng: random.Random) -> tuple[list[Try], Try]:
    """Options in order from a drawn one on, up to a right one: the first, or now and then the second that comes."""
    while True:
        start = rng.randrange(len(options))
        row = (options[start:] + options[:start])[: MAX_WRONG + 1]
        places = [place for place, option in enumerate(row) if option in right]
        if places:
            place = places[1] if len(places) > 1 and rng.random() < OVERSIGHT else places[0]
            return row[:place], row[place]


def _miss(option: Try, target: int, rng: random.Random) -> list[str]:
    """An attempt that fails: given up at sight, or after operations that lead elsewhere."""
    if not option.leads_to(target) and rng.random() < SEEN:
        return [f"{option}:no"]
    while True:
        steps, left = [str(option)], option.left
        while len(left) > 1:
            chosen = rng.choice([option for option in search_tries(left) if option.values[0] <= MAX_RESULT])
            steps.append(chosen.step)
            left = chosen.left
        if left[0].value != target:
            return [*steps[:-1], f"{steps[-1]}:no"]


def _whole(big: int, small: int) -> Iterator[tuple[str, int]]:
    yield "+", big + small
    yield "-", big - small
    yield "*", big * small
    if small and big % small == 0:
        yield "/", big // small
