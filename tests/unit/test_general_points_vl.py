"""Pictures of cards and the task that asks about them."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from amft.errors import TaskError
from amft.tasks.check import describe_prompt
from amft.tasks.general_points import GeneralPoints, GeneralPointsVL
from amft.tasks.general_points.drawing import CARD_STYLES, draw_hand
from amft.tasks.general_points.glyphs import STROKES, SUIT_STROKES, arc, pips
from amft.tasks.general_points.rules import LARGE, RANKS
from amft.tasks.general_points.vl import STYLE_NAMES as STYLE_NAMES
from amft.types import Problem

HAND, BLACK = ["A", "10", "J", "7"], ["S", "C", "S", "C"]


def pixels(cards: list[str], suits: list[str], size: int = 112, style: str = "row") -> np.ndarray:
    return np.asarray(draw_hand(cards, suits, size=size, style=style)).astype(int)


@pytest.mark.parametrize("style", CARD_STYLES)
@pytest.mark.parametrize("size", [112, 336, 1200])
def test_a_picture_is_square_and_a_function_of_its_arguments(size: int, style: str) -> None:
    first = pixels(HAND, BLACK, size, style)
    assert first.shape == (size, size, 3)
    assert (first == pixels(HAND, BLACK, size, style)).all()
    assert tuple(first[0, 0]) == CARD_STYLES[style].table


@pytest.mark.parametrize("style", CARD_STYLES)
def test_every_rank_looks_different_at_the_smallest_size(style: str) -> None:
    shown = {rank: pixels([rank] * 4, ["S"] * 4, style=style) for rank in (*RANKS, *LARGE)}
    for i, one in enumerate(shown):
        for other in list(shown)[i + 1 :]:
            # Two cards that differ by less than 40 of their 870 pixels would be hard to tell apart.
            changed = (abs(shown[one] - shown[other]).sum(2) > 120).sum() / 4
            assert changed > 40, (one, other, changed)


def test_suits_look_different_and_colours_are_right() -> None:
    shown = {suit: pixels(["8"] * 4, [suit] * 4) for suit in "SHCD"}
    assert all((shown[a] != shown[b]).any() for a in "SHCD" for b in "SHCD" if a != b)
    for suit, image in shown.items():
        red = ((image[..., 0] > 150) & (image[..., 1] < 80)).sum()
        black = (image.max(2) < 60).sum()
        assert (red > 100, black > 100) == ((True, False) if suit in "HD" else (False, True))


def test_order_matters_and_five_cards_fit() -> None:
    assert (pixels(HAND, BLACK) != pixels(HAND[::-1], BLACK)).any()
    for style in CARD_STYLES:
        image = pixels(["K", "14", "19", "10", "8"], ["S", "H", "C", "D", "S"], style=style)
        assert (image[0] == CARD_STYLES[style].table).all()  # no card is cut by the upper edge
        assert (image[:, 0] == CARD_STYLES[style].table).all()


def test_glyphs_stay_in_their_box() -> None:
    for lines in (*STROKES.values(), *SUIT_STROKES.values()):
        for line in lines:
            assert all(-0.05 <= x <= 1.05 and -0.05 <= y <= 1.05 for x, y in line)
    assert [len(pips(n)) for n in range(1, 11)] == list(range(1, 11))
    assert arc(0, 0, 1, 1, 0, 90)[0] == (1, 0)


def test_drawing_is_fast_enough() -> None:
    started = time.process_time()
    for _ in range(20):
        draw_hand(HAND, BLACK, size=112)
    assert (time.process_time() - started) / 20 < 0.005


def test_the_prompt_is_a_picture_before_a_text_that_names_no_card() -> None:
    task = GeneralPointsVL(size=112)
    (problem,) = task.problems("id", n=1)
    (message,) = task.prompt(problem)
    assert [part["type"] for part in message["content"]] == ["image", "text"]
    assert message["content"][0]["image"].size == (112, 112)
    text = message["content"][1]["text"]
    assert text == (
        "The picture shows 4 cards. Make 24 from them, each used once, with + - * / ( ). J=10, Q=10, K=10. "
        "Reply in JSON: cards, number, steps, formula."
    )
    assert describe_prompt(task.prompt(problem)) == describe_prompt(task.prompt(problem))


PROBLEM = Problem(
    "general_points_vl-v1", "id", "3 8 10 10",
    {"cards": ["8", "3", "J", "10"], "faces": [10, 10, 10], "target": 24, "suits": list("SCSC"), "style": "row"},
)  # fmt: skip


@pytest.mark.parametrize(
    ("cards", "formula", "outcome", "reward", "recognised"),
    [
        (["J", "8", "10", "3"], "(10-10+3)*8", "correct", 5.0, 1.0),
        (["8", "3", "J", "10"], "10+10+8-3", "wrong_value", -1.0, 1.0),
        (["8", "3", "J", "10"], "9+9", "wrong_numbers", -2.0, 1.0),
        (["8", "3", "J", "10"], "(((", "illegal_syntax", -3.0, 1.0),
        (["8", "3", "Q", "10"], "(10-10+3)*8", "wrong_cards", -1.5, 0.0),
        (["8", "3", "Q", "10"], "(((", "wrong_cards", -1.5, 0.0),
        ("8 3 J 10", "(10-10+3)*8", "wrong_cards", -1.5, 0.0),
        (None, None, "parse_error", -3.0, 0.0),
    ],
)
def test_recognition_is_judged_first_and_counted_apart(
    cards: object, formula: str | None, outcome: str, reward: float, recognised: float
) -> None:
    text = "no idea" if formula is None else json.dumps({"cards": cards, "number": [], "formula": formula})
    found = GeneralPointsVL().grade(PROBLEM, text)
    assert (found.outcome, found.reward, found.info["metrics"]) == (outcome, reward, {"recognition": recognised})


def test_feedback_on_the_cards() -> None:
    task = GeneralPointsVL(max_attempts=2)
    said = task.feedback(PROBLEM, ['{"cards": [], "formula": "1"}'])
    assert said == "That is not right: these are not the cards in the picture. Answer again."


def test_splits_of_looks_have_the_hands_of_id() -> None:
    task = GeneralPointsVL()
    hands = {split: [sorted(p.params["cards"]) for p in task.problems(split)] for split in ("id", "visual", "style")}
    assert sorted(hands["id"]) == sorted(hands["visual"]) == sorted(hands["style"])
    suits = {split: {s for p in task.problems(split) for s in p.params["suits"]} for split in ("train", "id", "visual")}
    assert suits == {"train": {"S", "C"}, "id": {"S", "C"}, "visual": {"H", "D"}}
    assert {p.params["style"] for p in task.problems("style")} == set(CARD_STYLES) - {"row"}
    mixed = GeneralPointsVL(colour="mixed")
    assert {p.params["style"] for p in mixed.problems("visual", n=9)} == {"four-colour"}
    assert {s for p in mixed.problems("id") for s in p.params["suits"]} == set("SHCD")
    assert tuple(CARD_STYLES) == STYLE_NAMES


def test_hands_are_those_of_the_text_task() -> None:
    for split in ("train", "id", "rule"):
        text, seen = GeneralPoints().problems(split), GeneralPointsVL().problems(split)
        assert {p.key for p in text} == {p.key for p in seen}
        assert len(text) == len(seen)


def test_errors_name_the_field() -> None:
    for options, part in (
        ({"size": 64}, "112 to 1200"),
        ({"colour": "blue"}, "black, red, mixed"),
        ({"style": ""}, "row"),
    ):
        with pytest.raises(TaskError, match=part):
            GeneralPointsVL(**options)
