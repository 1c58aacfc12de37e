"""One grade for several tries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..types import Grade

GAMMA = 0.9
"""Weight of each further try in a discounted return (arXiv 2501.17161)."""

FEEDBACK_LEVELS = ("none", "binary", "outcome", "detailed")
"""How much the user says after a wrong answer; each task's `feedback.py` has the words."""

RETURNS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "final": lambda rewards: rewards[-1],
    "sum": sum,
    "discounted": lambda rewards: sum(GAMMA**tried * reward for tried, reward in enumerate(rewards)),
}
"""Name -> the return of an episode from its answers' rewards r_0 ... r_n: r_n; sum of r_i; sum of GAMMA^i r_i."""


def episode_grade(grades: Sequence[Grade], returns: str) -> Grade:
    """The grade of an episode: outcome, verdict and details of its last answer, reward by `RETURNS`.

    Args:
        grades: of the answers in order, at least one.
        returns: a name in `RETURNS`.

    Returns:
        `info` has `attempts` and `outcomes` (one per answer) besides the last answer's details.
    """
    last = grades[-1]
    info = {**last.info, "attempts": len(grades), "outcomes": [grade.outcome for grade in grades]}
    return Grade(last.outcome, RETURNS[returns]([grade.reward for grade in grades]), last.correct, info)
