"""Demonstrations drawn by the weight of their class: how many of each, in which order, and where a resume goes on."""

from __future__ import annotations

import json
import math

import pytest

from amft.experience.demo_order import OneOrder, OrderByWeight

BRANCHES = ["sft/right"] * 8 + ["sft/wrong"] * 12
"""40 % right, as in the noisy regime of the balance bench."""


def expected(n, weights):
    shares = {"sft/right": 8 * weights["sft/right"], "sft/wrong": 12 * weights["sft/wrong"]}
    return {branch: n * share / sum(shares.values()) for branch, share in shares.items()}


@pytest.mark.parametrize("weights", [(0.7, 0.05), (0.9, 0.02), (0.3, 0.3), (0.01, 0.95)])
def test_a_class_comes_in_proportion_to_its_rows_and_its_weight(weights):
    weights = dict(zip(("sft/right", "sft/wrong"), weights, strict=True))
    order, wanted, seen = OrderByWeight(BRANCHES, 3, "demos"), expected(16, weights), dict.fromkeys(weights, 0)
    for _ in range(2000):
        taken = {branch: len(shown) for branch, shown in order.take(16, weights).items()}
        assert sum(taken.values()) == 16
        for branch, mean in wanted.items():
            assert taken.get(branch, 0) in (math.floor(mean), math.ceil(mean))
            seen[branch] += taken.get(branch, 0)
    for branch, mean in wanted.items():
        # A count is one of two neighbours, so its deviation is at most 1/2: four standard errors of 2000 of them.
        assert abs(seen[branch] / 2000 - mean) < 4 * 0.5 / math.sqrt(2000)


def test_without_any_weight_the_shares_decide_and_a_class_without_weight_stays_away():
    order = OrderByWeight(BRANCHES, 0, "demos")
    assert order.counts(20, {}) == order.counts(20, {"sft/right": 0.0, "sft/wrong": 0.0}) == {
        "sft/right": 8,
        "sft/wrong": 12,
    }  # fmt: skip
    assert {*order.take(20, {"sft/right": 0.5, "sft/wrong": 0.0})} == {"sft/right"}


def test_every_row_of_a_class_is_shown_before_one_comes_again():
    order, seen = OrderByWeight(BRANCHES, 5, "demos"), []
    for _ in range(30):
        seen += order.take(4, {"sft/right": 0.8, "sft/wrong": 0.1}).get("sft/right", [])
    for epoch in range(len(seen) // 8):
        part = seen[8 * epoch : 8 * epoch + 8]
        assert sorted(shown.row for shown in part) == list(range(8))
        assert {shown.visits for shown in part} == {epoch}
    assert len(seen) > 16


def test_it_goes_on_where_a_checkpoint_was_written():
    weights = [{"sft/right": 0.7 + i / 100, "sft/wrong": 0.3 - i / 100} for i in range(20)]
    order = OrderByWeight(BRANCHES, 1, "demos")
    whole = [order.take(7, now) for now in weights]
    for cut in range(20):
        first, second = OrderByWeight(BRANCHES, 1, "demos"), OrderByWeight(BRANCHES, 1, "demos")
        for now in weights[:cut]:
            first.take(7, now)
        for old, new in zip(first.streams, second.streams, strict=True):
            new.load_state_dict(json.loads(json.dumps(old.state_dict())))
        assert [second.take(7, now) for now in weights[cut:]] == whole[cut:]


def test_another_seed_is_another_draw():
    weights = {"sft/right": 0.5, "sft/wrong": 0.1}
    draws = [OrderByWeight(BRANCHES, seed, "demos").counts(3, weights) for seed in range(40)]
    assert len({json.dumps(counts) for counts in draws}) == 2


def test_one_order_minds_no_weights():
    plain, weighed = (OneOrder(BRANCHES, 2, "demos") for _ in range(2))
    for _ in range(6):
        assert plain.take(7, {}) == weighed.take(7, {"sft/right": 0.9, "sft/wrong": 0.0})
