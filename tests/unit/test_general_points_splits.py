"""What is held out stays out: by hand, by values, under every rule of training."""

from collections import Counter

import pytest

from amft.tasks.general_points.rules import ORDINAL, TEN, VARIED, hands, has_face
from amft.tasks.general_points.splits import hands_of, held_out_values, key, side, side_of_numbers
from amft.tasks.general_points.task import TRAIN_RULES, GeneralPoints

SIDES = ("test", "val", "meta", "train")


def multiset(hand, rule):
    return tuple(sorted(rule.values(hand)))


def shown(split, rule, face_needed=False):
    return {multiset(hand, rule) for hand in hands_of(split, rule, 4, 24, face_needed)}


def test_hash_values_are_pinned():
    # A change of these lines is a new version of the task.
    pinned = {(4, 6, 8, 10): "test", (1, 5, 5, 5): "test", (3, 3, 8, 8): "train", (2, 3, 10, 10): "train"}
    assert {values: side_of_numbers(values) for values in pinned} == pinned
    assert side_of_numbers([10, 8, 6, 4]) == "test"
    assert [len(hands_of(name, TEN, 4, 24)) for name in SIDES] == [238, 111, 59, 828]
    assert len(hands_of("test", ORDINAL, 4, 24, True)) == 130


def test_the_sides_part_all_hands():
    every = [hand for name in SIDES for hand in hands_of(name, TEN, 4, 24)]
    assert len(every) == len(set(every)) == 1236
    counts = Counter(side(hand) for hand in hands(4))
    assert set(counts) == set(SIDES)


@pytest.mark.parametrize("rule", [TEN, *VARIED], ids=lambda rule: rule.name)
def test_nothing_held_out_is_trained_on(rule):
    train_hands = set(hands_of("train", rule, 4, 24, rule != TEN))
    train_values = shown("train", rule, rule != TEN)
    for name in ("test", "val", "meta"):
        held = hands_of(name, TEN, 4, 24)
        assert train_hands.isdisjoint(held)
        assert train_values.isdisjoint(multiset(hand, TEN) for hand in held)
    ood = hands_of("test", ORDINAL, 4, 24, True)
    assert train_hands.isdisjoint(ood)
    assert train_values.isdisjoint(multiset(hand, ORDINAL) for hand in ood)
    assert train_values.isdisjoint(held_out_values())


def test_rules_of_training_stay_at_ten_or_below():
    assert all(max(rule.j, rule.q, rule.k) <= 10 for rules in TRAIN_RULES.values() for rule in rules)
    assert len(VARIED) == len(set(VARIED)) == 14


@pytest.mark.parametrize("train_rules", list(TRAIN_RULES))
def test_drawn_training_problems_show_no_held_out_values(train_rules):
    task = GeneralPoints(train_rules=train_rules)
    held = held_out_values()
    for problem in task.problems("train", n=3000):
        assert tuple(sorted(values_shown(problem))) not in held


def values_shown(problem):
    faces = {"A": 1, **dict(zip("JQK", problem.params["faces"], strict=True))}
    return [faces.get(card) or int(card) for card in problem.params["cards"]]


def test_rule_ood_hands_have_a_face_card_and_are_held_out():
    ood = hands_of("test", ORDINAL, 4, 24, True)
    assert all(has_face(hand) and side(hand, TEN) == "test" and side(hand, ORDINAL) == "test" for hand in ood)
    assert all(max(multiset(hand, ORDINAL)) > 10 for hand in ood)


def test_held_out_values_cover_the_reported_splits():
    held = held_out_values()
    for name in ("test", "val", "meta"):
        assert shown(name, TEN) <= held
    assert shown("test", ORDINAL, True) <= held
    assert held.isdisjoint(shown("train", TEN))


def test_a_hand_whose_pips_and_values_disagree_has_no_side():
    rule = next(r for r in VARIED if r.name == "all-2")
    mixed = [h for h in hands(4) if has_face(h) and side_of_numbers(TEN.values(h)) != side_of_numbers(rule.values(h))]
    assert mixed
    assert all(side(hand, rule) is None for hand in mixed)


def test_equal_pips_are_on_one_side():
    assert side(("3", "8", "10", "J")) == side(("3", "8", "Q", "K")) == side_of_numbers([3, 8, 10, 10])


def test_key_ignores_order():
    assert key([10, 13, 1, 2]) == key([13, 2, 10, 1]) == "1 2 10 13"
