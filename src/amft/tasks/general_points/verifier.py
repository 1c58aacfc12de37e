"""The verdict on one answer: parse, check, evaluate exactly. Model text is hostile: it is never executed.

The answer is the last complete JSON object that holds a `formula` (`tasks/answer_object.py`). A number may have zeros
after a point (`8.0`), the minus sign may be U+2212, and a right-hand side must be the target (`24`, `024`, `24.0`).
One outcome per answer, in this order: `parse_error`, `wrong_cards` (pictures only), `illegal_syntax`,
`wrong_numbers`, `wrong_value`, `correct`.
Every cost is bounded before any work is done: answers over 4,096 characters, formulas over `MAX_FORMULA`
characters, numbers over three digits and brackets deeper than `MAX_DEPTH` are refused at sight.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

from ...types import Grade
from ..answer_object import last_object

FORMULA_OUTCOME_REWARD: Mapping[str, float] = {
    "parse_error": -3.0,
    "wrong_cards": -1.5,
    "illegal_syntax": -3.0,
    "wrong_numbers": -2.0,
    "wrong_value": -1.0,
    "correct": 5.0,
}
"""Rewards of arXiv 2501.17161, one per outcome; penalties never add up. Only pictures give `wrong_cards`."""

FORMULA_BINARY_REWARD: Mapping[str, float] = {name: float(name == "correct") for name in FORMULA_OUTCOME_REWARD}
"""0/1 reward, for group-normalised methods."""

FORMULA_REWARDS = {"outcome": FORMULA_OUTCOME_REWARD, "binary": FORMULA_BINARY_REWARD}

MAX_FORMULA = 64
MAX_DEPTH = 16

Number: TypeAlias = "int | Fraction"
"""Whole until the first division: integers are several times faster than fractions."""

_TOKEN = re.compile(r"([0-9]+)(?:\.0+(?![0-9]))?|([-+*/()])")
_SIGNS = str.maketrans({"×": "*", "÷": "/", "\N{MINUS SIGN}": "-"})
_WHOLE = re.compile(r"\s*([0-9]{1,3})(?:\.0+)?\s*")


class FormulaError(ValueError):
    """The formula is not an arithmetic expression of the allowed kind."""


def tokenize(formula: str) -> list[str]:
    """Numbers, operators and brackets of a formula; white space between them and zeros after a point are dropped.

    Raises:
        FormulaError: a character that does not belong, or a number of more than three digits.
    """
    if len(formula) > MAX_FORMULA:
        raise FormulaError(f"longer than {MAX_FORMULA} characters")
    text = formula.translate(_SIGNS)
    tokens = [number or sign for number, sign in _TOKEN.findall(text)]
    if not tokens or _TOKEN.sub("", text).strip():
        raise FormulaError("only numbers, + - * / and brackets are allowed")
    if any(len(token) > 3 for token in tokens):
        raise FormulaError("a number of more than three digits")
    return tokens


class _Parser:
    """Recursive descent over `sum := product (+- product)*`, `product := atom (*/ atom)*`."""

    def __init__(self, tokens: Sequence[str]):
        self.tokens = [*tokens, "end"]
        self.place = 0
        self.depth = 0

    def take(self, *wanted: str) -> str | None:
        token = self.tokens[self.place]
        if token in wanted:
            self.place += 1
            return token
        return None

    def sum(self) -> Number | None:
        total = self.product()
        while sign := self.take("+", "-"):
            other = self.product()
            total = None if total is None or other is None else total + other if sign == "+" else total - other
        return total

    def product(self) -> Number | None:
        total = self.atom()
        while sign := self.take("*", "/"):
            other = self.atom()
            if total is None or other is None or (sign == "/" and other == 0):
                total = None
            else:
                total = total * other if sign == "*" else Fraction(total) / other
        return total

    def atom(self) -> Number | None:
        if self.take("("):
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise FormulaError(f"brackets deeper than {MAX_DEPTH}")
            value = self.sum()
            if not self.take(")"):
                raise FormulaError("a bracket is not closed")
            self.depth -= 1
            return value
        token = self.tokens[self.place]
        if not token.isdigit():
            raise FormulaError("a number or a bracket is missing")
        self.place += 1
        return int(token)


def formula_value(tokens: Sequence[str]) -> Number | None:
    """The exact value of a tokenised formula; None where it divides by zero.

    Raises:
        FormulaError: the tokens are not a well-formed expression.
    """
    parser = _Parser(tokens)
    value = parser.sum()
    if parser.tokens[parser.place] != "end":
        raise FormulaError("an operator is missing")
    return value


def judge_formula(answer: str, cards: Sequence[str], numbers: Sequence[int], target: int) -> tuple[str, dict[str, Any]]:
    """Outcome and details of one answer.

    Args:
        answer: raw model text.
        cards: the hand as shown, for example `["3", "8", "J", "10"]`.
        numbers: what the cards count, in the same order.
        target: the value to reach.
    """
    parsed = last_object(answer, "formula")
    if parsed is None:
        return "parse_error", {}
    info: dict[str, Any] = {
        "cards_right": _as_text(parsed.get("cards")) == sorted(cards),
        "numbers_right": _as_text(parsed.get("number")) == sorted(map(str, numbers)),
    }
    left, *right = parsed["formula"][: MAX_FORMULA + 1].split("=")
    try:
        tokens = tokenize(left)
        value = formula_value(tokens)
    except FormulaError as error:
        return "illegal_syntax", {**info, "why": str(error)}
    if len(right) > 1 or len(parsed["formula"]) > MAX_FORMULA:
        return "illegal_syntax", {**info, "why": "more than one = sign or too long"}
    used = Counter(int(token) for token in tokens if token.isdigit())
    if used != Counter(numbers):
        return "wrong_numbers", {**info, "used": sorted(used.elements())}
    info["value"] = None if value is None else str(value)
    if value != target or (right and not _is(right[0], target)):
        return "wrong_value", info
    return "correct", info


def _is(text: str, target: int) -> bool:
    """Whether a text is the target as a whole number: `24`, `024`, `24.0`."""
    whole = _WHOLE.fullmatch(text)
    return whole is not None and int(whole[1]) == target


def _as_text(value: Any) -> list[str] | None:
    if not isinstance(value, list) or len(value) > 16:
        return None
    return sorted(str(item) for item in value if isinstance(item, (str, int)))


def judge_seen_formula(
    answer: str, cards: Sequence[str], numbers: Sequence[int], target: int
) -> tuple[str, dict[str, Any]]:
    """`judge_formula` where the cards had to be read from a picture: if they are not right, nothing else is looked at.

    The recognition metric counts every answer; one that cannot be parsed has recognised nothing.
    """
    outcome, info = judge_formula(answer, cards, numbers, target)
    recognised = bool(info.get("cards_right"))
    info["metrics"] = {"recognition": float(recognised)}
    return outcome if outcome == "parse_error" or recognised else "wrong_cards", info


def priced(outcome: str, info: Mapping[str, Any], reward: str) -> Grade:
    """A verdict with its reward from the table `outcome` or `binary`."""
    return Grade(outcome=outcome, reward=FORMULA_REWARDS[reward][outcome], correct=outcome == "correct", info=info)


def grade_formula(answer: str, cards: Sequence[str], numbers: Sequence[int], target: int, reward: str) -> Grade:
    """`judge_formula` with a reward."""
    return priced(*judge_formula(answer, cards, numbers, target), reward)


def grade_seen_formula(answer: str, cards: Sequence[str], numbers: Sequence[int], target: int, reward: str) -> Grade:
    """`judge_seen_formula` with a reward."""
    return priced(*judge_seen_formula(answer, cards, numbers, target), reward)
