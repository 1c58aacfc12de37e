"""What the model reads and what an expert writes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from .rules import FaceRule
from .solver import Expr, steps

FORMULA_KEYS = {
    "answer": "cards, number, formula",
    "worked": "cards, number, steps, formula",
    "search": "cards, number, steps, formula",
}
"""Demonstration style -> keys of the JSON answer. `worked` and `search` are two ways to answer one prompt."""


def formula_question(cards: Sequence[str], rule: FaceRule, target: int, style: str) -> str:
    """The user's message."""
    return (
        f"Make {target} from the cards, each used once, with + - * / ( ). {rule.sentence} "
        f"Reply in JSON: {FORMULA_KEYS[style]}.\nCards: {', '.join(cards)}"
    )


def picture_question(count: int, rule: FaceRule, target: int, style: str) -> str:
    """The text after the picture."""
    return (
        f"The picture shows {count} cards. Make {target} from them, each used once, with + - * / ( ). {rule.sentence} "
        f"Reply in JSON: {FORMULA_KEYS[style]}."
    )


def expert_formula(cards: Sequence[str], numbers: Sequence[int], solution: Expr, style: str) -> str:
    """The demonstration: one JSON object.

    `answer` is the original's form (cards, number, formula). `worked` puts the binary steps before the formula.
    """
    return written(cards, numbers, None if style == "answer" else steps(solution), solution)


def written(cards: Sequence[str], numbers: Sequence[int], way: Sequence[str] | None, solution: Expr) -> str:
    """The JSON of an answer; `way` are its steps, None for an answer without any."""
    fields: dict[str, object] = {"cards": list(cards), "number": list(numbers)}
    if way is not None:
        fields["steps"] = list(way)
    fields["formula"] = f"{solution}={solution.value}"
    return json.dumps(fields, separators=(",", ":"))
