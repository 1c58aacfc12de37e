"""The best of several arms, chosen on some seeds and scored on the others: regret without the winner's luck.

The largest of several noisy means is larger than the best arm deserves. So the S seeds are cut in two many times, about
a third of them held out (`cuts`; every seed equally often), and the arm chosen on the others is scored there:

    a(m) = argmax_a sum_{s not in H_m} y_as,      value = mean over cuts m and seeds s in H_m of y_{a(m) s}

(cross-fitting). It is, without bias, what the arm that so many other seeds would pick is worth; where the choice often
goes wrong that is less than the best arm's worth.

Draws of seeds choose anew. A draw can hold a seed twice, and one copy must not choose what the other one scores: so the
S places of a draw are cut, and no copy of a held-out seed is chosen on, wherever it stands. Where that leaves nothing,
the choice is made on all seeds of the study that the cut does not hold out. Draws of problems keep the choice: what
answers happened to be right is part of the luck of a run, which draws of seeds have in them already.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np

from .aggregate import Floats
from .crossed import ClusteredScores, Estimate, Places, Resampled, estimate, problem_draws, seed_draws

_ALL = 120
"""With more cuts than these a few balanced ones are taken."""
_SHUFFLES = 3


@dataclass(frozen=True, eq=False)
class Crossed:
    """The score of the arm that is best on other seeds, in one stratum."""

    kept: Floats
    """(M,) of each cut: mean over the seeds chosen on."""
    held: Floats
    """(M,) of each cut: mean over the seeds held out."""
    resampled: Resampled
    """The mean over cuts, and its draws."""

    def __sub__(self, other: Crossed) -> Crossed:
        """Cut by cut and draw by draw; both from the same seeds, problems and name."""
        return Crossed(self.kept - other.kept, self.held - other.held, self.resampled - other.resampled)


def cross(arms: Sequence[ClusteredScores], *, name: str = "", resamples: int = 2000, seed: int = 0) -> Crossed:
    """Choose among arms on some seeds, score the choice on the others; a single arm is no choice: its plain mean.

    Args:
        arms: the same seeds, at least two, and the same clusters of problems.
        name, resamples, seed: as in `resample`, whose draws these are.

    Raises:
        ValueError: the arms differ in seeds or clusters, or there are fewer than two seeds.
    """
    first = arms[0]
    if len(first.seeds) < 2 or any((arm.seeds, arm.clusters) != (first.seeds, first.clusters) for arm in arms):
        raise ValueError("arms must have the same seeds, at least two, and the same clusters")
    size = len(first.seeds)
    scores = np.stack([arm.by_run for arm in arms])
    redrawn = np.stack([problem_draws(arm, resamples, seed) for arm in arms], axis=1)
    kept, held = _on_cuts(scores)
    still = _weights(scores, np.arange(size)[None])[0]
    drawn = _weights(scores, seed_draws(seed, name, first.seeds, resamples))
    draws = [(drawn * scores).sum((1, 2)), (still * redrawn).sum((1, 2)), (drawn * redrawn).sum((1, 2))]
    value = float((still * scores).sum())
    return Crossed(kept, held, Resampled(value, np.concatenate(draws), size, len(first.clusters), size - 1))


def worst_crossed(parts: Sequence[Crossed], *, level: float = 0.95) -> Estimate:
    """The value in the worst stratum (the largest), with an interval for the largest of their true values.

    The value is crossed: on each cut the stratum that looks worst on the seeds chosen on, scored on those held out. The
    interval reaches from the highest lower end of any stratum, each at `1 - (1 - level)/strata` (Bonferroni), to the
    highest upper end at `level`: the true worst stratum is above its own upper end no more often than any other one
    (intersection-union test, Berger 1982). It is never too narrow for that, and too wide where strata are alike. Error
    and p are NaN.

    Args:
        parts: one per stratum, of as many seeds.
    """
    chosen = np.stack([part.kept for part in parts]).argmax(0)
    held = np.stack([part.held for part in parts])
    value = float(held[chosen, np.arange(held.shape[1])].mean())
    low = max(estimate(part.resampled, level=1 - (1 - level) / len(parts)).low for part in parts)
    high = max(estimate(part.resampled, level=level).high for part in parts)
    seeds, clusters = (min(sizes) for sizes in zip(*((p.resampled.seeds, p.resampled.clusters) for p in parts)))
    return Estimate(value, min(low, value), max(high, value), math.nan, math.nan, seeds, clusters)


@lru_cache(maxsize=64)
def cuts(size: int) -> Floats:
    """(M, size) 1 where a place is held out: a third of them (rounded, at least one), every place equally often.

    All such cuts while there are at most 120; else neighbours on a circle of places, for a few fixed shuffles.
    """
    held = max(1, round(size / 3))
    if math.comb(size, held) <= _ALL:
        sets = [list(chosen) for chosen in combinations(range(size), held)]
    else:
        rng = np.random.default_rng(size)
        orders = [rng.permutation(size) for _ in range(_SHUFFLES)]
        sets = [np.roll(order, -start)[:held].tolist() for order in orders for start in range(size)]
    found = np.zeros((len(sets), size))
    for row, chosen in enumerate(sets):
        found[row, chosen] = 1
    found.setflags(write=False)
    return found


def _copies(places: Places) -> Floats:
    """(rows, S places, S seeds) 1 where that seed stands there."""
    return (places[:, :, None] == np.arange(places.shape[1])).astype(np.float64)


def _sides(places: Places) -> tuple[Floats, Floats]:
    """(rows, M, S) how often each seed is chosen on, and its share of what is held out."""
    copies = _copies(places)
    cut = cuts(places.shape[1])
    out = np.matmul(cut, copies)
    on = np.where(out == 0, copies.sum(1)[:, None, :], 0.0)
    nothing = on @ np.ones(on.shape[2]) == 0
    on[nothing] = out[nothing] == 0
    return on, out / cut[0].sum()


def _on_cuts(scores: Floats) -> tuple[Floats, Floats]:
    """(M,) of the arm chosen on each cut of the study itself: means on the seeds chosen on, and on those held out."""
    on, out = (side[0] for side in _sides(np.arange(scores.shape[1])[None]))
    sums = on @ scores.T
    best = sums.argmax(1)
    rows = np.arange(len(best))
    return sums[rows, best] / on.sum(1), (out @ scores.T)[rows, best]


def _weights(scores: Floats, places: Places) -> Floats:
    """(rows, A, S) weight of each run in the value: how often its arm was chosen where its seed was held out.

    Args:
        scores: (A, S) of every arm and seed.
        places: (rows, S) the seed in each place of a draw.
    """
    if len(scores) == 1:
        return _copies(places).mean(1)[:, None]
    on, out = _sides(places)
    chosen = (on @ scores.T).argmax(2)[:, None, :] == np.arange(len(scores))[:, None]
    return np.asarray(np.matmul(chosen.astype(np.float64), out) / out.shape[1])
