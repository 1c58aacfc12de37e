"""Trial and error on a hand: every step is true, the search ends at the target, and no way is missed."""

import itertools
import json
import random
from fractions import Fraction

import pytest

from amft.tasks.general_points import GeneralPoints
from amft.tasks.general_points.rules import TEN
from amft.tasks.general_points.search import MAX_RESULT, MAX_WRONG, reaches, search_tries, trail
from amft.tasks.general_points.solver import difficulty, number, solutions
from amft.tasks.general_points.splits import hands_of
from amft.tasks.general_points.verifier import formula_value, tokenize


def replay(numbers, steps):
    """Follow a trail by hand: what is left at its end. An attempt that fails goes back to where it began."""
    began = left = list(numbers)
    for step in steps:
        operation, *listed = step.removesuffix(":no").split(":")
        formula, result = operation.split("=")
        a, b = (int(token) for token in tokenize(formula) if token.isdigit())
        assert formula_value(tokenize(formula)) == int(result) <= MAX_RESULT
        if listed:
            began = left
        rest = list(left)
        rest.remove(a)
        rest.remove(b)
        left = [int(result), *rest]
        if listed:
            assert listed == [",".join(map(str, left))]
        if step.endswith(":no"):
            assert left != [24]
            assert not (listed and reaches(tuple(sorted(left)), 24))
            left = began
    return left


@pytest.mark.parametrize("seed", range(5))
def test_a_trail_is_true_and_ends_at_the_target(seed):
    rng = random.Random(seed)
    wrong = set()
    for _ in range(150):
        numbers = [rng.randint(1, 13) for _ in range(rng.choice((2, 3, 4, 4, 5)))]
        found = trail(numbers, 24, rng)
        if found:
            steps, formula = found
            assert replay(numbers, steps) == [24]
            assert formula.value == 24
            assert sorted(int(t) for t in tokenize(str(formula)) if t.isdigit()) == sorted(numbers)
            wrong.add(sum(step.endswith(":no") for step in steps) if len(numbers) == 4 else 0)
    assert {0, MAX_WRONG} <= wrong <= set(range(MAX_WRONG + 1))


def test_reaches_agrees_with_the_exact_solver():
    for numbers in itertools.combinations_with_replacement(range(1, 14, 2), 4):
        whole = any(difficulty(e)[0] == 0 for e in solutions(numbers))
        assert reaches(numbers, 24) == whole, numbers


def test_what_fractions_alone_reach_has_no_trail():
    assert trail([3, 3, 8, 8], 24, random.Random(0)) is None
    shown = json.loads(demonstrated(["3", "3", "8", "8"]))
    assert shown["steps"] == ["8/3=8/3", "3-(8/3)=1/3", "8/(1/3)=24"]


def test_tries_are_every_operation_once():
    # 2 and 6 and 6: two pairs that differ, the second one of equal numbers.
    assert sorted(t.step for t in search_tries([number(6), number(2), number(6)])) == sorted(
        ["6+2=8", "6-2=4", "6*2=12", "6/2=3", "6+6=12", "6-6=0", "6*6=36", "6/6=1"]
    )
    (division,) = (t for t in search_tries([number(8), number(5), number(4)]) if "/" in t.step)
    assert str(division) == "8/4=2:2,5"
    assert division.left[0].value == Fraction(2)


def demonstrated(cards):
    task = GeneralPoints(demonstrations="search")
    (found,) = (p for p in task.problems("train") + task.problems("id") if sorted(p.params["cards"]) == sorted(cards))
    return task.demonstrate(found)


@pytest.mark.parametrize("split", ["train", "id", "rule_ood", "cards5"])
def test_demonstrations_are_right_and_drawn_from_the_problem_alone(split):
    task = GeneralPoints(demonstrations="search")
    problems = task.problems(split, seed=1, n=40)
    answers = [task.demonstrate(problem) for problem in problems]
    assert all(task.grade(p, a).correct for p, a in zip(problems, answers, strict=True))
    assert answers == [GeneralPoints(demonstrations="search").demonstrate(p) for p in problems]
    assert sum(":no" in answer for answer in answers) > 15
    worked = GeneralPoints()
    assert all(task.prompt(p) == worked.prompt(p) for p in problems)


def test_a_quarter_of_the_first_operations_lead_to_24():
    # The figure of docs/results.md, over all solvable hands that whole values solve: what makes a short search enough.
    hands = [tuple(sorted(TEN.values(h))) for side in ("test", "train") for h in hands_of(side, TEN, 4, 24)]
    options = [search_tries([number(n) for n in hand]) for hand in hands if reaches(hand, 24)]
    shares = [sum(option.leads_to(24) for option in row) / len(row) for row in options]
    assert round(sum(shares) / len(shares), 2) == 0.27


def test_values_of_a_try_are_those_of_what_it_leaves():
    for hand in ([6, 2, 6, 3], [13, 1], [8, 4, 4]):
        for tried in search_tries([number(n) for n in hand]):
            assert tried.values == tuple(int(part.value) for part in tried.left)
            assert str(tried) == f"{tried.step}:{','.join(str(part) for part in tried.values)}"


def test_hands_that_only_fractions_solve_are_dealt():
    whole = reaches((3, 3, 8, 8), 24)
    dealt = [hand for side in ("train", "val", "meta", "test") for hand in hands_of(side, TEN, 4, 24)]
    assert ["3", "3", "8", "8"] in [sorted(hand) for hand in dealt]
    assert not whole
