"""The arithmetic behind a question: a kind, its numbers, the steps to the answer. No words here.

chain      s, c1, c2, ...       s + c1 + c2 + ...            has s, buys c1, loses -c2
groups     n, m, c1, ...        n * m + c1 + ...             n boxes of m, buys c1
compare    s, d                 s + (s + d)                  one has s, the other d more
share      t, n                 t / n                        t shared equally by n
equation   a, b, c              (c - b) / a                  a x + b = c
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

PROGRAM_KINDS = ("chain", "groups", "compare", "share", "equation")
LONG_KINDS = ("chain", "groups")

MOST = 999
"""No number in a question or on the way to its answer is larger."""

SHORT, LONG = range(1, 4), range(4, 7)
"""Steps of an ordinary and of a long problem."""

PART_FRACTIONS = 0.2
"""Share of divisions that may leave a fraction."""


@dataclass(frozen=True)
class Program:
    """One problem without its words.

    >>> program = Program("groups", (3, 4, 5, -2))
    >>> [str(step) for step in program.steps], program.answer, program.key
    (['3*4=12', '12+5=17', '17-2=15'], Fraction(15, 1), 'groups 3 4 5 -2')
    """

    kind: str
    numbers: tuple[int, ...]

    @property
    def steps(self) -> list[Operation]:
        """The operations in order; the last result is the answer."""
        return list(_STEPS[self.kind](*self.numbers))

    @property
    def answer(self) -> Fraction:
        return self.steps[-1].result

    @property
    def key(self) -> str:
        """Equal for problems that are the same sum: 3 boxes of 4 and 4 boxes of 3."""
        first = sorted(self.numbers[:2]) if self.kind == "groups" else self.numbers[:2]
        return " ".join([self.kind, *map(str, first), *map(str, self.numbers[2:])])


@dataclass(frozen=True)
class Operation:
    """One operation on two numbers."""

    left: Fraction
    sign: str
    right: int

    @property
    def result(self) -> Fraction:
        if self.sign == "/":
            return self.left / self.right
        return {"+": self.left + self.right, "-": self.left - self.right, "*": self.left * self.right}[self.sign]

    def __str__(self) -> str:
        return f"{self.left}{self.sign}{self.right}={self.result}"


def _change(value: Fraction, by: int) -> Operation:
    return Operation(value, "+" if by > 0 else "-", abs(by))


def _chain(start: int, *changes: int) -> Iterator[Operation]:
    value = Fraction(start)
    for by in changes:
        step = _change(value, by)
        yield step
        value = step.result


def _groups(n: int, m: int, *changes: int) -> Iterator[Operation]:
    yield Operation(Fraction(n), "*", m)
    yield from _chain(n * m, *changes)


def _compare(one: int, more: int) -> Iterator[Operation]:
    yield _change(Fraction(one), more)
    yield _change(Fraction(one + more), one)


def _share(total: int, n: int) -> Iterator[Operation]:
    yield Operation(Fraction(total), "/", n)


def _equation(a: int, b: int, c: int) -> Iterator[Operation]:
    first = _change(Fraction(c), -b)
    yield first
    yield Operation(first.result, "/", a)


_STEPS: Mapping[str, Callable[..., Iterator[Operation]]] = {
    "chain": _chain, "groups": _groups, "compare": _compare, "share": _share, "equation": _equation,
}  # fmt: skip


def draw_program(rng: random.Random, kind: str, numbers: range, lengths: range) -> Program:
    """One problem.

    Args:
        rng: of all draws.
        kind: one of `PROGRAM_KINDS`.
        numbers: the numbers a story starts from and changes by; all results stay within `MOST`.
        lengths: how many steps a chain may have, and a problem of groups.
    """
    while True:
        program = Program(kind, _DRAWS[kind](rng, numbers, rng.choice(lengths)))
        values = [value for step in program.steps for value in (step.left, step.result)]
        if all(0 < value <= MOST for value in values) and max(map(abs, program.numbers)) <= MOST:
            return program


def _changes(rng: random.Random, numbers: range, n: int) -> list[int]:
    return [rng.choice((1, -1)) * rng.choice(numbers) for _ in range(n)]


def _draw_chain(rng: random.Random, numbers: range, steps: int) -> tuple[int, ...]:
    return (rng.choice(numbers), *_changes(rng, numbers, steps))


def _factor(rng: random.Random, numbers: range, n: int) -> int:
    """A number of which n-fold is about as large as `numbers`."""
    return rng.randint(max(2, -(-numbers.start // n)), max(12, numbers.stop // n))


def _draw_groups(rng: random.Random, numbers: range, steps: int) -> tuple[int, ...]:
    n = rng.randint(2, 9)
    return (n, _factor(rng, numbers, n), *_changes(rng, numbers, steps - 1))


def _draw_compare(rng: random.Random, numbers: range, _: int) -> tuple[int, ...]:
    return (rng.choice(numbers), rng.choice(numbers))


def _quotient(rng: random.Random, numbers: range) -> tuple[int, int]:
    """A number and a divisor of it; sometimes no divisor."""
    n = rng.randint(2, 9)
    total = _factor(rng, numbers, n) * n
    return (total + rng.randint(1, n - 1) if rng.random() < PART_FRACTIONS else total), n


def _draw_share(rng: random.Random, numbers: range, _: int) -> tuple[int, ...]:
    return _quotient(rng, numbers)


def _draw_equation(rng: random.Random, numbers: range, _: int) -> tuple[int, ...]:
    total, a = _quotient(rng, numbers)
    b = rng.choice((1, -1)) * rng.choice(numbers)
    return (a, b, total + b)


_DRAWS: Mapping[str, Callable[[random.Random, range, int], tuple[int, ...]]] = {
    "chain": _draw_chain, "groups": _draw_groups, "compare": _draw_compare, "share": _draw_share,
    "equation": _draw_equation,
}  # fmt: skip
