"""Several tries: what is said after each wrong answer, when it ends, what it pays."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json

import pytest

from amft.errors import TaskError
from amft.tasks.base import TriesTask, tries
from amft.tasks.episode import FEEDBACK_LEVELS
from amft.tasks.general_points import GeneralPoints
from amft.tasks.general_points.feedback import FORMULA_REASONS
from amft.tasks.general_points.rules import BASES, RANKS, TEN, has_face
from amft.tasks.general_points.solver import solutions, solvable
from amft.tasks.general_points.splits import side
from amft.types import Problem

CARDS = ["8", "3", "J", "10"]
PROBLEM = Problem("general_points-v1", "id", "3 8 10 10", {"cards": CARDS, "faces": [10, 10, 10], "target": 24})


def answer(formula: str) -> str:
    return json.dumps({"cards": CARDS, "number": [8, 3, 10, 10], "formula": formula})


RIGHT, WRONG = answer("(10-10+3)*8"), answer("10+10+8-3")


@pytest.mark.parametrize(
    ("given", "details"),
    [
        ("?", "there is no JSON object with a formula in it"),
        (answer("10+10+8-3"), "the formula does not make 24 (it makes 25)"),
        (answer("10/(10-10)*8*3"), "the formula must use the number of each card exactly once (too many: 10)"),
        (answer("3/(10-10)*8"), "the formula does not make 24 (it divides by zero)"),
        (answer("(10-10+3)*8=25"), "the formula does not make 24 (what follows the = sign must be 24)"),
        (
            answer("9+9+8"),
            "the formula must use the number of each card exactly once (too many: 9, 9; left out: 3, 10, 10)",
        ),
        (answer("(10-10+3)*"), "the formula is not well formed (a number or a bracket is missing)"),
    ],
)  # fmt: skip
def test_detailed_feedback_names_the_fault(given: str, details: str) -> None:
    said = GeneralPoints(max_attempts=2, feedback_level="detailed").feedback(PROBLEM, [given])
    assert said == f"That is not right: {details}. Answer again."


def test_levels_say_more_and_more() -> None:
    said = {
        level: GeneralPoints(max_attempts=2, feedback_level=level).feedback(PROBLEM, [WRONG])
        for level in FEEDBACK_LEVELS
    }
    assert said == {
        "none": "Answer again.",
        "binary": "That is not right. Answer again.",
        "outcome": "That is not right: the formula does not make 24. Answer again.",
        "detailed": "That is not right: the formula does not make 24 (it makes 25). Answer again.",
    }


def test_feedback_gives_no_solution_away() -> None:
    """What is said holds no formula, nor a step of one: at most one number beside the target."""
    task = GeneralPoints(max_attempts=2, feedback_level="detailed")
    for problem in task.problems("id", n=200):
        said = task.feedback(problem, [task.spoil(problem)])
        assert said is not None
        assert not set("+*/") & set(said.replace("-", "", 1).split("makes")[0])
        solved = {str(way) for way in solutions(TEN.values(problem.params["cards"]))}
        assert not any(way in said for way in solved)


def test_an_episode_ends_with_a_right_answer_or_the_last_try() -> None:
    task = GeneralPoints(max_attempts=3)
    assert isinstance(task, TriesTask)
    assert tries(task) == 3
    assert task.feedback(PROBLEM, [RIGHT]) is None
    assert task.feedback(PROBLEM, [WRONG]) == task.feedback(PROBLEM, [WRONG, WRONG]) != None  # noqa: E711
    assert task.feedback(PROBLEM, [WRONG, WRONG, WRONG]) is None
    assert GeneralPoints().feedback(PROBLEM, [WRONG]) is None


@pytest.mark.parametrize(
    ("returns", "expected"),
    [("final", 5.0), ("sum", 1.0), ("discounted", -3 - 0.9 + 0.81 * 5)],  # -3, then -1, then 5
)
def test_returns_by_hand(returns: str, expected: float) -> None:
    found = GeneralPoints(max_attempts=3, returns=returns).grade_episode(PROBLEM, ["?", WRONG, RIGHT])
    assert found.reward == pytest.approx(expected)
    assert (found.outcome, found.correct, found.info["attempts"]) == ("correct", True, 3)
    assert found.info["outcomes"] == ["parse_error", "wrong_value", "correct"]


def test_every_outcome_has_a_reason() -> None:
    outcomes = (
        GeneralPoints().grade(PROBLEM, "?").outcome,
        "wrong_cards",
        "illegal_syntax",
        "wrong_numbers",
        "wrong_value",
    )
    assert set(FORMULA_REASONS) == set(outcomes)


def test_v1_is_what_it_was() -> None:
    """Problems and prompts of the first version, digested before tries, rules and splits were added."""
    expected = {
        "": "1f7491540f63bdf1",
        "varied": "b4c3446f4b31c5d7",
        "three cards": "c04cd07a611c9240",
    }
    tasks = {
        "": GeneralPoints(),
        "varied": GeneralPoints(train_rules="varied", train_targets="varied"),
        "three cards": GeneralPoints(cards=3, demonstrations="answer"),
    }
    found = {}
    for name, task in tasks.items():
        digest = hashlib.sha256()
        splits = ("train", "meta", "val", "id", "rule_ood", "seen")
        for split, seed in itertools.product(splits, (0, 5)):
            for problem in task.problems(split, seed=seed, n=150):
                digest.update(json.dumps(dataclasses.asdict(problem)).encode())
                digest.update(str(task.prompt(problem)).encode())
        found[name] = digest.hexdigest()[:16]
    assert found == expected


def test_new_splits() -> None:
    task = GeneralPoints()
    assert {s: len(task.problems(s)) for s in ("faces", "cards5", "large_number")} == {
        "faces": 229, "cards5": 1041, "large_number": 395,
    }  # fmt: skip
    as_before = [dataclasses.replace(p, split="rule") for p in task.problems("rule_ood", seed=3, n=20)]
    assert task.problems("rule", seed=3, n=20) == as_before
    for problem in task.problems("large_number"):
        large = [card for card in problem.params["cards"] if card not in RANKS]
        assert len(large) == 1
        assert 14 <= int(large[0]) <= 19
        assert str(int(large[0])) in problem.key.split()
    maps = {tuple(problem.params["faces"]) for problem in task.problems("faces")}
    assert maps == {(5, 5, 5), (7, 7, 7), (12, 12, 12)}
    assert all(has_face(p.params["cards"]) for p in task.problems("faces"))
    for problem in task.problems("cards5"):
        assert len(problem.params["cards"]) == 5
        assert side(problem.params["cards"]) == "test"
        assert solvable(tuple(sorted(TEN.values(problem.params["cards"]))), 24)


@pytest.mark.parametrize("face_rule", ["ordinal", "all-12"])
def test_other_face_rules_keep_splits_apart(face_rule: str) -> None:
    task = GeneralPoints(face_rule=face_rule)
    rule = BASES[face_rule]
    assert all(p.params["faces"] == [rule.j, rule.q, rule.k] for p in task.problems("id", n=20))
    other = task.problems("rule", n=5)[0].params["faces"]
    assert other == ([10, 10, 10] if face_rule == "ordinal" else [11, 12, 13])
    tried = ("train", "meta", "val", "id", "rule", "faces")
    keys = {split: {p.key for p in task.problems(split)} for split in tried}
    tests = set().union(*(keys[split] for split in ("id", "rule", "faces")))
    assert keys["train"].isdisjoint(tests | keys["val"] | keys["meta"])
    assert keys["val"].isdisjoint(tests | keys["meta"])


def test_the_spoilt_answer_is_legal_and_wrong() -> None:
    task = GeneralPoints()
    for split in ("train", "cards5"):
        for problem in task.problems(split, n=150 if split == "train" else 5):
            assert task.grade(problem, task.spoil(problem)).outcome == "wrong_value"


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"max_attempts": 0}, ["task.max_attempts", "1 to 100"]),
        ({"feedback_level": "all"}, ["task.feedback_level", "none, binary, outcome, detailed"]),
        ({"returns": "best"}, ["task.returns", "final, sum, discounted"]),
        ({"face_rule": "jack"}, ["task.face_rule", "ten, ordinal"]),
    ],
)
def test_errors_name_the_field(options: dict[str, object], parts: list[str]) -> None:
    with pytest.raises(TaskError) as caught:
        GeneralPoints(**options)  # type: ignore[arg-type]
    assert all(part in str(caught.value) for part in parts)
