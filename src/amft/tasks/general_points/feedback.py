"""What the user says after a wrong answer. A solution, or a part of one, is never given away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

FORMULA_REASONS: Mapping[str, str] = {
    "parse_error": "there is no JSON object with a formula in it",
    "wrong_cards": "these are not the cards in the picture",
    "illegal_syntax": "the formula is not well formed",
    "wrong_numbers": "the formula must use the number of each card exactly once",
    "wrong_value": "the formula does not make {target}",
}


def formula_feedback(level: str, outcome: str, info: Mapping[str, Any], numbers: Sequence[int], target: int) -> str:
    """The next user message.

    Args:
        level: `none` asks again; `binary` says the answer is wrong; `outcome` says which check failed; `detailed`
            adds the numbers that do not belong or are left out, the value reached, the fault in the formula.
        outcome: of the last answer, not `correct`.
        info: its details, from `verifier.judge_formula`.
        numbers: what the cards count.
        target: the value to reach.
    """
    reason = FORMULA_REASONS[outcome].format(target=target)
    details = _details(outcome, info, numbers, target)
    said = {
        "none": "Answer",
        "binary": "That is not right. Answer",
        "outcome": f"That is not right: {reason}. Answer",
        "detailed": f"That is not right: {reason}{f' ({details})' if details else ''}. Answer",
    }
    return f"{said[level]} again."


def _details(outcome: str, info: Mapping[str, Any], numbers: Sequence[int], target: int) -> str:
    if outcome == "illegal_syntax":
        return str(info["why"])
    if outcome == "wrong_numbers":
        used, given = Counter(info["used"]), Counter(numbers)
        strange, unused = sorted((used - given).elements()), sorted((given - used).elements())
        parts = [f"too many: {_listed(strange)}"] * bool(strange) + [f"left out: {_listed(unused)}"] * bool(unused)
        return "; ".join(parts)
    if outcome == "wrong_value":
        value = info["value"]
        if value == str(target):
            return f"what follows the = sign must be {target}"
        return "it divides by zero" if value is None else f"it makes {value}"
    return ""


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:8]))
