"""The task with pictures: the cards have to be recognised first."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ...extras import require_extra
from ...types import Grade, Message, Problem
from .prompts import picture_question
from .rules import FaceRule
from .task import GeneralPoints
from .verifier import grade_seen_formula

SUIT_LETTERS: Mapping[str, str] = {"black": "SC", "red": "HD", "mixed": "SCHD"}
OTHER_COLOUR = {"black": "red", "red": "black", "mixed": "mixed"}
STYLE_NAMES = ("row", "grid", "tilted", "pips", "four-colour")


@dataclass(frozen=True)
class GeneralPointsVL(GeneralPoints):
    """Make a target number from a hand of cards in a picture, each used once.

    State: that of general_points-v1, a suit for each card, a style of drawing.
    Prompt: one user message, the picture before the text; the text names the target, the face rule, how many cards
    there are and the answer's keys, never the cards. Feedback after a wrong answer is text.
    Answer: that of general_points-v1.
    Outcomes and rewards: those of general_points-v1, and wrong_cards -1.5: if the `cards` of the answer are not those
    of the picture, in any order, nothing else is looked at.
    Splits: those of general_points-v1 in the task's colour and style; visual has the same hands as id in the other
    colour, style in the styles that the task does not have.
    Metrics: success as in general_points-v1; recognition = share of answers with the right `cards`, whatever the
    formula (an answer that cannot be parsed recognises nothing).
    Differences from the original (arXiv 2501.17161): those of general_points-v1; cards drawn here, with no artwork
    and no font, from 112 pixels up; more styles than one.
    History: v1 (2026-11).
    """

    id: ClassVar[str] = "general_points_vl-v1"
    splits: ClassVar[Mapping[str, str]] = {
        **GeneralPoints.splits,
        "visual": "the hands of id, in red instead of black (black instead of red; four colours where suits are mixed)",
        "style": "the hands of id, in styles of drawing that are not the task's",
    }
    test_splits: ClassVar[tuple[str, ...]] = ("id", "rule", "visual", "seen")

    size: int = 336
    """Edge of the picture in pixels."""
    colour: str = "black"
    """Suits: `black`, `red` or `mixed`."""
    style: str = "row"
    """`row`, `grid`, `tilted`, `pips` or `four-colour`."""

    def __post_init__(self) -> None:
        require_extra(self.id, "pictures", "PIL")
        super().__post_init__()

    def prompt(self, problem: Problem) -> list[Message]:
        from .drawing import draw_hand

        cards, rule = self._read(problem)
        params = problem.params
        picture = draw_hand(cards, params["suits"], size=self.size, style=params["style"])
        text = picture_question(len(cards), rule, params["target"], self.demonstrations)
        parts = [{"type": "image", "image": picture}, {"type": "text", "text": text}]
        return [{"role": "user", "content": parts}]

    def grade(self, problem: Problem, answer: str) -> Grade:
        cards, rule = self._read(problem)
        return grade_seen_formula(answer, cards, rule.values(cards), problem.params["target"], self.reward)

    def _choices(self) -> dict[str, Sequence[str]]:
        return super()._choices() | {"colour": list(SUIT_LETTERS), "style": STYLE_NAMES}

    def _ranges(self) -> dict[str, tuple[int, int]]:
        return super()._ranges() | {"size": (112, 1200)}

    def _problem(self, split: str, rule: FaceRule, hand: tuple[str, ...], rng: random.Random) -> Problem:
        dealt = super()._problem(split, rule, hand, rng)
        suits = SUIT_LETTERS[OTHER_COLOUR[self.colour] if split == "visual" else self.colour]
        style = self.style
        if split == "style":
            style = rng.choice([other for other in STYLE_NAMES if other != style])
        elif split == "visual" and self.colour == "mixed":
            style = "row" if style == "four-colour" else "four-colour"
        drawn = {"suits": [rng.choice(suits) for _ in hand], "style": style}
        return dataclasses.replace(dealt, params={**dealt.params, **drawn})
