"""Exact solver: every way to reach a target from a hand, over fractions, with as few brackets as possible.

Subset dynamic programming: `reach[subset]` maps a value to the expressions that give it. Only values >= 0 are
kept: an expression with a negative intermediate can be rewritten, sign by sign, as one without, so nothing
reachable is lost. Expressions are kept in a normal form (sums and products flattened, operands sorted), so
`3+5` and `5+3` are one solution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import combinations
from operator import attrgetter
from typing import TypeAlias

Numbers: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Expr:
    """A number, a sum (`plus` minus `minus`) or a product (`plus` over `minus`), flattened and sorted."""

    kind: str
    """`n`, `+` or `*`."""
    value: Fraction
    plus: tuple[Expr, ...] = ()
    minus: tuple[Expr, ...] = ()

    @cached_property
    def sort_key(self) -> tuple[Fraction, str]:
        return (-self.value, self._text)

    def __str__(self) -> str:
        return self._text

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.kind, self.plus, self.minus) if self.plus else self.value)

    @cached_property
    def _text(self) -> str:
        if self.kind == "n":
            return str(self.value)
        first, second = ("+", "-") if self.kind == "+" else ("*", "/")
        parts = [f"({part})" if self.kind == "*" and part.kind == "+" else str(part) for part in self.plus + self.minus]
        signs = [first] * len(self.plus) + [second] * len(self.minus)
        return parts[0] + "".join(sign + part for sign, part in zip(signs[1:], parts[1:], strict=True))


def number(value: int) -> Expr:
    """A number by itself."""
    return Expr("n", Fraction(value))


def combine(kind: str, a: Expr, b: Expr, invert: bool) -> Expr:
    """`a (kind) b`, or with `invert` `a - b` / `a / b`, flattened into normal form."""
    plus, minus = (a.plus, a.minus) if a.kind == kind else ((a,), ())
    b_plus, b_minus = (b.plus, b.minus) if b.kind == kind else ((b,), ())
    if invert:
        b_plus, b_minus = b_minus, b_plus
    if kind == "+":
        value = a.value - b.value if invert else a.value + b.value
    else:
        value = a.value / b.value if invert else a.value * b.value
    key = attrgetter("sort_key")
    return Expr(kind, value, tuple(sorted(plus + b_plus, key=key)), tuple(sorted(minus + b_minus, key=key)))


def _values(a: Fraction, b: Fraction) -> list[Fraction]:
    """Non-negative results of one operation on two values."""
    out = [a + b, abs(a - b), a * b]
    if b:
        out.append(a / b)
    if a:
        out.append(b / a)
    return out


def _halves(numbers: Numbers) -> list[tuple[Numbers, Numbers]]:
    """Each way to part a multiset in two, once."""
    places = range(len(numbers))
    seen = set()
    for size in range(1, len(numbers) // 2 + 1):
        for chosen in combinations(places, size):
            left = tuple(numbers[i] for i in chosen)
            right = tuple(numbers[i] for i in places if i not in chosen)
            seen.add((left, right) if (len(left), left) <= (len(right), right) else (right, left))
    return sorted(seen)


@lru_cache(maxsize=100_000)
def reachable(numbers: Numbers) -> frozenset[Fraction]:
    """All non-negative values that use each number of a sorted multiset exactly once."""
    if len(numbers) == 1:
        return frozenset([Fraction(numbers[0])])
    out: set[Fraction] = set()
    for left, right in _halves(numbers):
        for a in reachable(left):
            for b in reachable(right):
                out.update(_values(a, b))
    return frozenset(out)


@lru_cache(maxsize=100_000)
def solvable(numbers: Numbers, target: int) -> bool:
    """Whether a sorted multiset of numbers reaches the target.

    Meets in the middle: the last operation joins two halves, so only one value of the larger half is looked up.
    """
    goal = Fraction(target)
    if len(numbers) == 1:
        return Fraction(numbers[0]) == goal
    for left, right in _halves(numbers):
        other = reachable(right)
        for a in reachable(left):
            needs = [goal - a, goal + a, a - goal]
            if a:
                needs += [goal / a, goal * a]
                if goal:
                    needs.append(a / goal)
            elif not goal:
                return True
            if any(need in other for need in needs if need >= 0):
                return True
    return False


@lru_cache(maxsize=2_000)
def expressions(numbers: Numbers) -> dict[Fraction, frozenset[Expr]]:
    """Every value of a sorted multiset, with all the expressions in normal form that give it."""
    if len(numbers) == 1:
        return {Fraction(numbers[0]): frozenset([Expr("n", Fraction(numbers[0]))])}
    found: dict[Fraction, set[Expr]] = {}
    for left, right in _halves(numbers):
        for a_set in expressions(left).values():
            for b_set in expressions(right).values():
                for a in a_set:
                    for b in b_set:
                        for e in _combine(a, b):
                            found.setdefault(e.value, set()).add(e)
    return {value: frozenset(group) for value, group in found.items()}


def _combine(a: Expr, b: Expr) -> list[Expr]:
    big, small = (a, b) if a.value >= b.value else (b, a)
    out = [combine("+", a, b, False), combine("+", big, small, True), combine("*", a, b, False)]
    if b.value:
        out.append(combine("*", a, b, True))
    if a.value:
        out.append(combine("*", b, a, True))
    return out


@lru_cache(maxsize=20_000)
def _solutions(numbers: Numbers, target: int) -> tuple[Expr, ...]:
    goal = Fraction(target)
    found: set[Expr] = set()
    for left, right in _halves(numbers):
        table = expressions(right)
        for a_value, a_set in expressions(left).items():
            needs = {goal - a_value, goal + a_value, a_value - goal}
            if a_value:
                needs |= {goal / a_value, goal * a_value}
            if goal:
                needs.add(a_value / goal)
            if not a_value and not goal:
                needs |= set(table)
            for b_set in (table[need] for need in needs if need in table):
                found.update(e for a in a_set for b in b_set for e in _combine(a, b) if e.value == goal)
    if len(numbers) == 1 and Fraction(numbers[0]) == goal:
        found.add(Expr("n", goal))
    return tuple(sorted(found, key=lambda e: (difficulty(e), str(e))))


def solutions(numbers: Sequence[int], target: int = 24) -> tuple[Expr, ...]:
    """Every solution in normal form, the simplest first.

    Args:
        numbers: positive integers, each to be used exactly once.
        target: the value to reach.

    Example:
        >>> [str(e) for e in solutions([3, 3, 8, 8])]
        ['8/(3-8/3)']
    """
    return _solutions(tuple(sorted(numbers)), target)


def difficulty(e: Expr) -> tuple[int, int, Fraction]:
    """How hard an expression is for a person: fractions first, then divisions and brackets, then big numbers."""
    nodes = list(_nodes(e))
    fractions = sum(node.value.denominator != 1 for node in nodes)
    divisions = sum(len(node.minus) for node in nodes if node.kind == "*")
    return (fractions, divisions, max(node.value for node in nodes))


def _nodes(e: Expr) -> list[Expr]:
    return [e] + [inner for part in e.plus + e.minus for inner in _nodes(part)]


def steps(e: Expr) -> list[str]:
    """The expression as binary steps, inner ones first.

    Example:
        >>> steps(solutions([2, 6, 8, 10])[0])[-1].endswith("=24")
        True
    """
    out: list[str] = []

    def run(node: Expr) -> Fraction:
        if node.kind == "n":
            return node.value
        signs = "+-" if node.kind == "+" else "*/"
        values = [(signs[0], run(part)) for part in node.plus] + [(signs[1], run(part)) for part in node.minus]
        total = values[0][1]
        for sign, value in values[1:]:
            result = _apply(sign, total, value)
            out.append(f"{_number(total)}{sign}{_number(value)}={result}")
            total = result
        return total

    run(e)
    return out


def _apply(sign: str, a: Fraction, b: Fraction) -> Fraction:
    return {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else a}[sign]


def _number(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else f"({value})"
