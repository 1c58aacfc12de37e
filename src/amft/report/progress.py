"""How success moved over a run, and by how much chance alone would move it."""

from __future__ import annotations

import math

import numpy as np

from .load import Floats, Ints, Run
from .outcomes import SELECTION, split_outcomes
from .verdict import headline_split

CLEAR = 2.0
"""Standard errors that make a difference of two evaluations clear."""
PEAK = 3.0
"""More for the best of many, which is partly luck."""
FEWEST = 9
"""Steps whose rollouts must have been scored before their success is said to have moved."""


def validation_scores(run: Run) -> tuple[Ints, Floats]:
    """Steps and success on validation; nothing when it is a score outside [0, 1], whose noise is not known."""
    steps, success = run.measured(f"eval/{SELECTION}/success")
    inside = (success >= 0).all() and (success <= 1).all()
    return (steps, success) if inside else (steps[:0], success[:0])


def problems(success: Floats, run: Run) -> int:
    """How many problems stand behind each validation score: the fewest that can give all of them.

    `eval.problems` is only the most there may be: of one's own data there are often fewer.
    """
    most = int(run.setting("eval.problems") or 128)
    if len(np.unique(success)) < 2:
        return most
    return next((n for n in range(1, most) if np.allclose(success * n, np.round(success * n), atol=1e-6)), most)


def noise(p: float, n: int) -> float:
    """Standard error of the difference of two shares of `n` each around `p`: binomial, two right and two wrong added.

    Without those (Agresti and Coull, 1998) a share of 0 or 1 would be free of noise.
    """
    p = (p * n + 2) / (n + 4)
    return math.sqrt(2 * p * (1 - p) / (n + 4))


def third_means(success: Floats, run: Run) -> tuple[float, float, float]:
    """Mean of the first third of the scores, mean of the last, and by how much chance alone moves it."""
    third = len(success) // 3
    start, end = float(success[:third].mean()), float(success[-third:].mean())
    return start, end, CLEAR * noise((start + end) / 2, third * problems(success, run))


def rose(run: Run) -> bool:
    """Whether success clearly rose: on the headline test split, on validation, or of the rollouts."""
    first = headline_split(split_outcomes(run))
    _, scores = validation_scores(run)
    if first is not None and first.verdict == "better":
        return True
    if len(scores) >= 3:
        start, end, chance = third_means(scores, run)
        if end - start >= chance:
            return True
    return any(_climbed(run.measured(name, mixing=True)[1]) for name in ("success", "reward"))


def _climbed(values: Floats) -> bool:
    """Whether the last third of a series lies clearly above the first, by the scatter within both."""
    if len(values) < FEWEST:
        return False
    third = len(values) // 3
    start, end = values[:third], values[-third:]
    error = math.sqrt((float(np.var(start, ddof=1)) + float(np.var(end, ddof=1))) / third)
    return float(end.mean() - start.mean()) > CLEAR * error
