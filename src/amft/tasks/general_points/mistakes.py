"""Wrong answers as a learner writes them: right numbers, right arithmetic, another value than the target."""

from __future__ import annotations

import random
from collections.abc import Sequence

from .prompts import expert_formula
from .solver import expressions

NEAREST = 8
"""A mistake reaches one of so many whole values around the target."""


def wrong_value(cards: Sequence[str], numbers: Sequence[int], target: int, style: str, rng: random.Random) -> str:
    """An expert's answer to another target; `judge_formula` finds nothing wrong with it but its value.

    Args:
        cards: the hand as shown.
        numbers: what the cards count.
        target: the value that is missed.
        style: of the answer, a key of `prompts.FORMULA_KEYS`.
        rng: picks the value and the way to it.
    """
    ways = expressions(tuple(sorted(numbers)))
    values = sorted(
        (value for value in ways if value.denominator == 1 and value != target),
        key=lambda value: (abs(value - target), value),
    )
    value = rng.choice(values[:NEAREST])
    return expert_formula(cards, numbers, rng.choice(sorted(ways[value], key=str)), style)
