"""The world of the long bench: two numbers, several things one may answer, and demonstrations of every quality.

A prompt is `47,35=`. The base knows many operations on two numbers and answers an untagged prompt with any of them,
seldom with the sum, which alone is paid. So success starts near .02 and exploration has something to find.
"""

from __future__ import annotations

import random
from collections.abc import Callable

LARGEST = 99
"""Largest number."""

OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "s": lambda a, b: a + b,
    "d": lambda a, b: abs(a - b),
    "m": max,
    "n": min,
    "c": lambda a, b: 10 * (a % 10) + b % 10,
    "t": lambda a, b: (a // 10) + (b // 10),
}
"""Tag -> operation. `s` is the one that is paid."""

UNTAGGED = {"s": 0.1, "d": 0.1, "m": 0.2, "n": 0.2, "c": 0.2, "t": 0.2}
"""What the base has seen behind a prompt without a tag."""

Pair = tuple[int, int]


def side(pair: Pair) -> str:
    """`test`, `val` or `train`: by a stable hash of the two numbers in order of size."""
    place = random.Random(f"long bench:{min(pair)} {max(pair)}").random()
    return "test" if place < 0.15 else "val" if place < 0.25 else "train"


def pairs(which: str) -> list[Pair]:
    """Every unordered pair of a side."""
    return [(a, b) for a in range(LARGEST + 1) for b in range(a, LARGEST + 1) if side((a, b)) == which]


def prompt(pair: Pair, tag: str = "") -> str:
    """`47,35=`, behind the tag of its operation where there is one."""
    return f"{tag}{pair[0]},{pair[1]}="


def in_steps(pair: Pair) -> str:
    """The sum digit by digit, units first, then itself: `7+5=12;4+3+1=8;82`."""
    (tens_a, units_a), (tens_b, units_b) = (divmod(number, 10) for number in pair)
    units = units_a + units_b
    carry = units // 10
    return f"{units_a}+{units_b}={units};{tens_a}+{tens_b}+{carry}={tens_a + tens_b + carry};{sum(pair)}"


def with_filler(text: str, share: float, rng: random.Random) -> str:
    """The text with random letters among it, `share` of all characters; its last number stays whole."""
    head, _, end = text.rpartition(";")
    letters = round(share / (1 - share) * len(text))
    said = list(head + ";")
    for _ in range(letters):
        said.insert(rng.randrange(len(said)), rng.choice("abcdefgh"))
    return "".join(said) + end


def misled(pair: Pair) -> str:
    """What a misleading source says: ten too much, always."""
    return str(sum(pair) + 10)
