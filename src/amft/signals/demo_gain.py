"""Whether the verifier prefers the demonstrations to the policy's answers."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Cost, Moment, Signal

GRADED = 64
"""Demonstrations that are graded."""


def cliffs_delta(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Share of pairs in which ours is the larger, less the share in which it is the smaller; None without pairs.

    In [-1, 1]. Neither a shift nor a scale of the values changes it (N. Cliff, Psychological Bulletin 114, 1993).
    """
    if not ours or not theirs:
        return None
    signs = sum((mine > other) - (mine < other) for mine in ours for other in theirs)
    return signs / (len(ours) * len(theirs))


def _measure(moment: Moment) -> float | None:
    graded = moment.graded_demonstrations(GRADED)
    return None if graded is None else cliffs_delta(graded, moment.held_out_rewards)


DEMO_GAIN: Signal[float] = Signal(
    "demo_gain",
    "in [-1, 1]",
    Cost.BEGINNING,
    "Cliff's delta of the demonstrations' rewards over those of the policy's answers, when the single stage begins",
    _measure,
)
