"""The best of several arms, chosen on some seeds and scored on the others: regret without the winner's luck.

The largest of several noisy means is larger than the best arm deserves. So the S seeds are cut in two many times, about a
third of them held out (`splits`; every seed equally often), and

    a(m) = argmax_a sum_{s not in H_m} y_as,      value = mean over cuts m and seeds s in H_m of y_{a(m) s}

which is, without bias, the expected score of the arm that the other seeds would have picked (cross-fitting). The worst
of several strata is found the same way: the stratum is chosen on the seeds that are not held out, too.

Draws of seeds redo all of this. A draw may hold a seed twice; such copies are equal to the last bit, and one of them
must not choose what another one scores. So the S places of a draw are cut, and no copy of a held-out seed is chosen on,
wherever it stands. Where that leaves nothing to choose on, the choice is made on all seeds of the study that the cut
does not hold out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np

from .crossed import Floats, Places, Resampled, Scores, problem_blocks, seed_draws, seed_variance

_ALL = 60
"""With more cuts than these a few balanced ones are taken."""
_SHUFFLES = 2
_CHUNK = 4_000_000
"""Numbers held in memory at once."""


@dataclass(frozen=True, eq=False)
class Crossed:
    """What arms score on each cut; row 0 as measured, then draws in three blocks: seeds, problems, both."""

    kept: Floats
    """(1 + 3 draws, M) mean over the seeds that the arm was chosen on."""
    held: Floats
    """(1 + 3 draws, M) mean over the seeds held out."""
    seeds: int
    clusters: int

    def __sub__(self, other: Crossed) -> Crossed:
        """Cut by cut and draw by draw; both from the same seeds, problems and name."""
        if self.held.shape != other.held.shape or self.seeds != other.seeds:
            raise ValueError("both must be of the same seeds")
        return Crossed(
            self.kept - other.kept, self.held - other.held, self.seeds, min(self.clusters, other.clusters)
        )

    @property
    def resampled(self) -> Resampled:
        """The mean over cuts, and its draws."""
        mean = self.held.mean(1)
        return Resampled(float(mean[0]), mean[1:], self.seeds, self.clusters, self.seeds - 1)


def cross(arms: Sequence[Scores], *, name: str = "", resamples: int = 2000, seed: int = 0) -> Crossed:
    """Choose among arms on some seeds, score the choice on the others; one arm is no choice, and its plain mean.

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
    places = seed_draws(seed, name, first.seeds, resamples)
    as_made = np.arange(size)[None]
    measured = np.stack([arm.by_run for arm in arms])[None]
    redrawn = np.stack([problem_blocks(arm, resamples, seed) for arm in arms], axis=1)
    blocks = [(measured, as_made), (measured, places), (redrawn, as_made), (redrawn, places)]
    found = [_on_cuts(*block) for block in blocks]
    kept, held = (np.concatenate([part[i] for part in found]) for i in (0, 1))
    return Crossed(kept, held, size, len(first.clusters))


def worst_crossed(parts: Sequence[Crossed]) -> Resampled:
    """The stratum with the largest value on the seeds not held out, scored on those held out; chosen anew in every draw.

    Degrees of freedom are Satterthwaite's, each stratum's variance weighed by how often it is chosen.

    Args:
        parts: one per stratum, of as many seeds.
    """
    chosen = np.stack([part.kept for part in parts]).argmax(0)
    held = np.take_along_axis(np.stack([part.held for part in parts]), chosen[None], 0)[0].mean(1)
    shares = np.array([(chosen == place).mean() for place in range(len(parts))])
    each = shares * [seed_variance(part.resampled) for part in parts]
    df = (parts[0].seeds - 1) * (each.sum() ** 2 / (each**2).sum() if each.any() else 1.0)
    return Resampled(float(held[0]), held[1:], parts[0].seeds, min(part.clusters for part in parts), float(df))


@lru_cache(maxsize=64)
def splits(size: int) -> Floats:
    """(M, size) cuts of `size` places, 1 where held out: a third (rounded, at least one), every place equally often.

    All of them while there are at most 60; else the neighbours on a circle of places, for a few fixed shuffles.
    """
    held = max(1, round(size / 3))
    sets: Iterator[Sequence[int]]
    if comb(size, held) <= _ALL:
        sets = combinations(range(size), held)
    else:
        rng = np.random.default_rng(size)
        sets = (np.roll(order, -i)[:held] for order in [rng.permutation(size) for _ in range(_SHUFFLES)] for i in range(size))
    found = np.array([np.isin(np.arange(size), chosen) for chosen in sets], dtype=np.float64)
    found.setflags(write=False)
    return found


def _on_cuts(scores: Floats, places: Places) -> tuple[Floats, Floats]:
    """(rows, M) means on the chosen-on and on the held-out seeds.

    Args:
        scores: (rows or 1, arms, S) of every seed.
        places: (rows or 1, S) the seed in each place of a draw.
    """
    rows, size = max(len(scores), len(places)), places.shape[1]
    cuts = splits(size)
    step = max(1, _CHUNK // (len(cuts) * max(size, scores.shape[1])))
    kept, held = np.empty((rows, len(cuts))), np.empty((rows, len(cuts)))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        y = scores[part] if len(scores) > 1 else scores
        on, out = _weights(places[part] if len(places) > 1 else places, cuts)
        means = np.matmul(y, on.swapaxes(1, 2))
        best = means.argmax(1, keepdims=True)
        kept[part] = np.take_along_axis(means, best, 1)[:, 0]
        held[part] = np.take_along_axis(np.matmul(y, out.swapaxes(1, 2)), best, 1)[:, 0]
    return kept, held


def _weights(places: Places, cuts: Floats) -> tuple[Floats, Floats]:
    """(rows, M, S) shares of each seed among those chosen on, and among those held out."""
    copies = (places[:, :, None] == np.arange(places.shape[1])).astype(np.float64)
    out = np.matmul(cuts, copies)
    free = out == 0
    on = np.where(free, copies.sum(1)[:, None, :], 0.0)
    on = np.where(on.any(2, keepdims=True), on, free)
    return on / on.sum(2, keepdims=True), out / out.sum(2, keepdims=True)
