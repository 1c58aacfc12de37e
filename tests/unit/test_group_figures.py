"""Whole routes beside their points, from score rows."""

import math

import pytest

from amft.evaluation.groups import group_figures
from amft.tasks.general_points import GeneralPoints
from amft.tasks.navigation import Navigation
from amft.tasks.navigation.metrics import whole_routes

TASK = Navigation()
RAILS = TASK.rails("id", n=3)
PROBLEMS = [problem for rail in RAILS for problem in rail]


def rows(solved, attempts=None, sample=0):
    return [
        {
            "problem": i,
            "sample": sample,
            "correct": float(right),
            **({"metrics": {"attempts": float(attempts[i])}} if attempts else {}),
        }
        for i, right in enumerate(solved)
    ]


def test_routes_are_cut_where_they_begin_and_a_broken_one_is_left_out():
    spans = whole_routes(PROBLEMS)
    assert [[PROBLEMS[i] for i in span] for span in spans] == RAILS
    assert [len(span) for span in whole_routes(PROBLEMS[:-1])] == [len(rail) for rail in RAILS[:2]]
    assert whole_routes(PROBLEMS[: len(RAILS[0]) - 1]) == []


def test_figures_by_hand():
    """Route 1 fails at its second point after 2 tries, route 2 is solved with 1 try each, 3 fails at once in 2."""
    first, second, third = map(len, RAILS)
    solved = [i != 1 and i != first + second for i in range(first + second + third)]
    attempts = [1 if right else 2 for right in solved]
    found = group_figures(TASK, PROBLEMS, rows(solved, attempts))
    assert found["routes"] == 3
    assert found["route_success"] == pytest.approx(1 / 3)
    # Reached: point 1 (right) and 2 (two wrong) of route 1; all of route 2; the start of route 3 (two wrong).
    assert found["rolled"] == pytest.approx((1 + second) / (1 + 2 + second + 2))
    assert found["teacher_forced"] == pytest.approx(1 - 2 / len(PROBLEMS))
    stops = [problem.params["path"][-1] for problem in PROBLEMS].count("stop")
    assert stops == 3
    assert found["teacher_forced_stop"] == 1.0


def test_the_mean_is_over_samples_and_the_order_of_rows_does_not_matter():
    right, wrong = rows([True] * len(PROBLEMS)), rows([False] * len(PROBLEMS), sample=1)
    found = group_figures(TASK, PROBLEMS, [*reversed(wrong), *right])
    assert found["route_success"] == found["rolled"] == 0.5


def test_no_whole_route_is_not_a_number_and_other_tasks_have_no_figures():
    found = group_figures(TASK, PROBLEMS[:1], rows([True]))
    assert found["routes"] == 0
    assert math.isnan(found["route_success"])
    assert group_figures(GeneralPoints(), [], []) == {}
