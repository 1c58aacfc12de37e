"""The exact solver against known totals, a brute force of its own shape, and formal identities."""

import ast
import itertools
import random
from fractions import Fraction

import pytest

from amft.tasks.general_points.rules import ORDINAL, PIPS, TEN, hands, has_face
from amft.tasks.general_points.solver import difficulty, reachable, solutions, solvable, steps

PRIME = 2**61 - 1


def values_of(rule, ranks=None):
    return [tuple(sorted(rule.values(hand))) for hand in (hands(4, ranks) if ranks else hands(4))]


def apply(sign, a, b):
    """One operation; None passes through, and so does a division by zero."""
    if a is None or b is None or (sign == "/" and b == 0):
        return None
    return {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "/": lambda: a / b}[sign]()


class Residue:
    """An integer modulo PRIME with field division: a stand-in for the symbol of a number."""

    def __init__(self, n):
        self.n = n % PRIME

    def __eq__(self, other):
        return self.n == (other.n if isinstance(other, Residue) else other % PRIME)

    def __hash__(self):
        return hash(self.n)

    def __add__(self, other):
        return Residue(self.n + other.n)

    def __sub__(self, other):
        return Residue(self.n - other.n)

    def __mul__(self, other):
        return Residue(self.n * other.n)

    def __truediv__(self, other):
        return Residue(self.n * pow(other.n, -1, PRIME))


SYMBOL = {n: Residue(random.Random(n).randrange(PRIME)) for n in range(1, 14)}
"""A random point: expressions equal there are, but for a chance of 1e-17, equal as rational functions."""

SIGNS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


def read(text, leaf):
    """Evaluate a formula with `leaf` for its numbers; the test's own evaluator, over Python's grammar."""

    def walk(node):
        if isinstance(node, ast.BinOp):
            return apply(SIGNS[type(node.op)], walk(node.left), walk(node.right))
        assert isinstance(node, ast.Constant)
        assert type(node.value) is int
        return leaf(node.value)

    return walk(ast.parse(text, mode="eval").body)


def brute(a, b, c, d, signs):
    """The values of the five bracketings of four operands in order."""
    p, q, r = signs
    yield apply(r, apply(q, apply(p, a, b), c), d)
    yield apply(r, apply(p, a, apply(q, b, c)), d)
    yield apply(q, apply(p, a, b), apply(r, c, d))
    yield apply(p, a, apply(r, apply(q, b, c), d))
    yield apply(p, a, apply(q, b, apply(r, c, d)))


def brute_force(numbers, target=24):
    """All values in reach, and the solutions of `target` as points of their rational functions."""
    values, found = set(), set()
    for order in set(itertools.permutations(numbers)):
        leaves = [Fraction(n) for n in order]
        symbols = [SYMBOL[n] for n in order]
        for signs in itertools.product("+-*/", repeat=3):
            results = list(brute(*leaves, signs))
            values.update(results)
            if target in results:
                formal = list(brute(*symbols, signs))
                found.update(formal[i] for i, value in enumerate(results) if value == target)
    return values - {None}, found


SAMPLE = [(3, 3, 8, 8), (1, 5, 5, 5), (6, 6, 6, 6), (1, 1, 1, 1), (1, 2, 3, 4)]
SAMPLE += random.Random(7).sample(list(itertools.combinations_with_replacement(range(1, 14), 4)), 13)


@pytest.mark.parametrize("numbers", SAMPLE, ids=str)
def test_solver_agrees_with_brute_force(numbers):
    values, found = brute_force(numbers)
    assert reachable(numbers) == {abs(value) for value in values}
    assert {read(str(e), SYMBOL.__getitem__) for e in solutions(numbers)} == found
    assert solvable(numbers, 24) == bool(found)


def test_totals_of_the_literature():
    pips, ordinal = values_of(TEN, PIPS), values_of(ORDINAL)
    assert (sum(solvable(v, 24) for v in pips), len(pips)) == (566, 715)
    assert (sum(solvable(v, 24) for v in ordinal), len(ordinal)) == (1362, 1820)


def test_totals_of_the_task():
    assert sum(solvable(v, 24) for v in values_of(TEN)) == 1236
    faces = [tuple(sorted(ORDINAL.values(hand))) for hand in hands(4) if has_face(hand)]
    assert sum(solvable(v, 24) for v in faces) == 796


def whole_reach(numbers, memo):
    """Values in reach through whole numbers only, negative ones included."""
    if numbers not in memo:
        out = set(numbers) if len(numbers) == 1 else set()
        for size in range(1, len(numbers)):
            for places in itertools.combinations(range(len(numbers)), size):
                left = tuple(numbers[i] for i in places)
                right = tuple(n for i, n in enumerate(numbers) if i not in places)
                for a in whole_reach(left, memo):
                    for b in whole_reach(right, memo):
                        out |= {a + b, a - b, a * b}
                        if b and a % b == 0:
                            out.add(a // b)
        memo[numbers] = out
    return memo[numbers]


def test_hands_that_need_a_fraction():
    memo: dict = {}
    need = {v for v in values_of(ORDINAL) if solvable(v, 24) and 24 not in whole_reach(v, memo)}
    assert len(need) == 16
    assert len([v for v in need if max(v) <= 10]) == 10
    assert {(3, 3, 8, 8), (1, 5, 5, 5), (1, 3, 4, 6)} <= need
    assert all(difficulty(solutions(v)[0])[0] > 0 for v in need)


def test_3_3_8_8():
    (only,) = solutions([8, 3, 8, 3])
    assert str(only) == "8/(3-8/3)"
    assert steps(only) == ["8/3=8/3", "3-(8/3)=1/3", "8/(1/3)=24"]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        # By hand: only the sum of the ones is a factor of 24 with 8.
        ([1, 1, 1, 8], ["8*(1+1+1)"]),
        # 6+6+6+6 and 36-12; every other tree over four sixes misses.
        ([6, 6, 6, 6], ["6+6+6+6", "6*6-6-6"]),
        ([1, 1, 1, 1], []),
    ],
)
def test_all_solutions_by_hand(numbers, expected):
    assert sorted(map(str, solutions(numbers))) == sorted(expected)


def flattened(text):
    """Canonical form: operands of equal standing in sorted order, whatever the way they are bracketed."""

    def terms(node, plus, minus, sign):
        if isinstance(node, ast.BinOp) and isinstance(node.op, (plus, minus)):
            other = -sign if isinstance(node.op, minus) else sign
            return terms(node.left, plus, minus, sign) + terms(node.right, plus, minus, other)
        return [(sign, canonical(node))]

    def canonical(node):
        if isinstance(node, ast.Constant):
            return repr(node.value)
        kind = (ast.Add, ast.Sub) if isinstance(node.op, (ast.Add, ast.Sub)) else (ast.Mult, ast.Div)
        return repr((kind[0].__name__, sorted(terms(node, *kind, 1))))

    return canonical(ast.parse(text, mode="eval").body)


def without_pair(text):
    """The text with one pair of brackets removed, for each pair."""
    open_places = []
    for place, letter in enumerate(text):
        if letter == "(":
            open_places.append(place)
        if letter == ")":
            start = open_places.pop()
            yield text[:start] + text[start + 1 : place] + text[place + 1 :]


def by_place(text):
    """The formal value, each number a symbol of its own: in numbers alone (a+b)*1 and a+b*1 agree by chance."""
    places = iter(SYMBOL.values())
    return read(text, lambda _: next(places))


@pytest.mark.parametrize("numbers", random.Random(8).sample(values_of(ORDINAL), 60), ids=str)
def test_every_solution_is_right_minimal_and_new(numbers):
    found = solutions(numbers)
    texts = [str(e) for e in found]
    for text in texts:
        used = []
        assert read(text, lambda n: used.append(n) or Fraction(n)) == 24  # noqa: B023
        assert tuple(sorted(used)) == numbers
        assert all(by_place(fewer) != by_place(text) for fewer in without_pair(text))
    assert len({flattened(text) for text in texts}) == len(texts)
    assert [difficulty(e) for e in found] == sorted(difficulty(e) for e in found)


@pytest.mark.parametrize("numbers", random.Random(9).sample(values_of(TEN), 20), ids=str)
def test_steps_are_true_and_end_at_the_target(numbers):
    for e in solutions(numbers):
        lines = [line.rsplit("=", 1) for line in steps(e)]
        assert len(lines) == 3
        assert all(read(left, Fraction) == Fraction(right) for left, right in lines)
        assert lines[-1][1] == "24"


def test_other_sizes_and_targets():
    assert [str(e) for e in solutions([24])] == ["24"]
    assert solutions([24], 23) == ()
    assert {str(e) for e in solutions([4, 6])} == {"6*4"}
    assert solvable((5, 5), 0)
    assert {str(e) for e in solutions([5, 5], 0)} == {"5-5"}
    assert {str(e) for e in solutions([2, 3], 5)} == {"3+2"}
    assert solvable((1, 2, 3, 4, 5), 24)
    assert {str(e) for e in solutions([1, 1, 1, 1, 1], 5)} == {"1+1+1+1+1", "(1+1)*(1+1)+1"}


def test_the_result_does_not_depend_on_order():
    assert solutions([2, 6, 8, 10]) == solutions([10, 8, 6, 2])
