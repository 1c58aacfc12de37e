"""Which hands are trained on and which are not.

A hand belongs to one side for good, whatever the rule of the prompt: its side is a stable hash of its pips, the
multiset of values with J, Q, K as 10. So `10 J 3 8` and `Q K 3 8` (the same sum) are on one side. With another
face rule a hand is trained on only if the multiset of the values it then has is on the training side as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from .rules import LARGE, ORDINAL, TEN, FaceRule, hands, has_face
from .search import reaches
from .solver import solvable

_SHARES = (("test", 20), ("val", 8), ("meta", 7), ("train", 65))
"""Percent of the hash space for each side."""


def side_of_numbers(values: Sequence[int]) -> str:
    """The side of a multiset of values, by a stable hash."""
    text = ",".join(map(str, sorted(values)))
    place = int.from_bytes(hashlib.sha256(f"general_points:{text}".encode()).digest()[:8], "big") % 100
    for side, share in _SHARES:
        if place < share:
            return side
        place -= share
    raise AssertionError("shares add up to 100")


def side(cards: Sequence[str], rule: FaceRule = TEN) -> str | None:
    """The side of a hand under a rule; None when its pips and its values fall on different sides."""
    pips = side_of_numbers(TEN.values(cards))
    values = rule.values(cards)
    if max(values) > 10:
        return pips
    return pips if side_of_numbers(values) == pips else None


@lru_cache(maxsize=256)
def hands_of(
    name: str, rule: FaceRule, size: int, target: int, face_needed: bool = False
) -> tuple[tuple[str, ...], ...]:
    """All hands of a side that a rule makes solvable, in rank order."""
    some = (hand for hand in hands(size) if not face_needed or has_face(hand))
    return tuple(_solvable(name, rule, some, target))


@lru_cache(maxsize=64)
def large_hands_of(name: str, rule: FaceRule, size: int, target: int) -> tuple[tuple[str, ...], ...]:
    """All hands of a side that hold one number from 14 to 19 and that a rule makes solvable."""
    some = ((*hand, number) for number in LARGE for hand in hands(size - 1))
    return tuple(_solvable(name, rule, some, target))


def _solvable(name: str, rule: FaceRule, some: Iterable[tuple[str, ...]], target: int) -> Iterator[tuple[str, ...]]:
    for hand in some:
        if side(hand, rule) == name:
            values = tuple(sorted(rule.values(hand)))
            if reaches(values, target) or solvable(values, target):  # fractions only where whole numbers do not do
                yield hand


@lru_cache(maxsize=4)
def held_out_values(size: int = 4) -> frozenset[tuple[int, ...]]:
    """Every multiset of values that a held-out prompt can show, solvable or not, under both reported rules.

    Whoever makes other training data (the nano base's recipe) leaves these multisets out, for every target.
    """
    out = set()
    for hand in hands(size):
        for rule in (TEN, ORDINAL):
            if side(hand, rule) != "train":
                out.add(tuple(sorted(rule.values(hand))))
    return frozenset(out)


def key(values: Sequence[int]) -> str:
    """Cluster key of a problem: its values in order, `3 8 10 10`. Hands with the same values are the same sum."""
    return " ".join(map(str, sorted(values)))
