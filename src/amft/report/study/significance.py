"""Words about a difference that claim no more than seeds and intervals allow. The only place that says them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...stats import Estimate

ENOUGH_SEEDS = 5
"""With fewer no difference is called anything."""
ALPHA = 0.05
WORDS = {"up": "better", "down": "worse", "unclear": "no clear difference", "few": "too few seeds to tell"}
TARGET_WORDS = {
    "reached": "reached",
    "missed": "missed",
    "below": "the figure is below it, the interval leaves it open",
    "above": "the figure is above it, the interval leaves it open",
    "few": "too few seeds to tell",
}


def judge_difference(difference: Estimate, adjusted_p: float, *, more_is_good: bool = True) -> str:
    """A key of WORDS: `up` or `down` only with enough seeds, an interval without zero, and a corrected p below ALPHA.

    Args:
        difference: ours minus theirs.
        adjusted_p: corrected for the family the difference is one of (Holm).
        more_is_good: whether a larger value is what one wants.
    """
    if difference.seeds < ENOUGH_SEEDS:
        return "few"
    if not difference.excludes_zero or math.isnan(adjusted_p) or adjusted_p >= ALPHA:
        return "unclear"
    return "up" if (difference.value > 0) == more_is_good else "down"


def judged_words(row: Mapping[str, Any], compared: int) -> str:
    """The words of WORDS for a difference, or why they are fewer than its interval seems to say.

    Args:
        row: a difference as plain values, with `judged`, `low`, `high` and `holm_p`.
        compared: differences it was corrected with.
    """
    low, high, p = row["low"], row["high"], row["holm_p"]
    if row["judged"] == "unclear" and None not in (low, high, p) and (low > 0 or high < 0):
        return f"not clear among {compared} comparisons (p = {p:.2f})"
    return WORDS[row["judged"]]


def verdict_of_claim(judgements: list[str]) -> str:
    """`holds` when every rival is clearly behind, `fails` when one is clearly ahead, else `undecided`."""
    if not judgements or any(found == "few" for found in judgements):
        return "undecided"
    if any(found == "down" for found in judgements):
        return "fails"
    return "holds" if all(found == "up" for found in judgements) else "undecided"


def settled(found: Mapping[str, float | None], target: float) -> str:
    """A key of TARGET_WORDS: `reached` or `missed` only with enough seeds and the whole interval on one side.

    Args:
        found: `value`, `low`, `high` and `seeds` of what should be at most `target`; None where not known.
    """
    value, low, high, seeds = (found[key] for key in ("value", "low", "high", "seeds"))
    if value is None or low is None or high is None or math.isnan(low) or not seeds or seeds < ENOUGH_SEEDS:
        return "few"
    if high <= target or low > target:
        return "reached" if high <= target else "missed"
    return "below" if value <= target else "above"
