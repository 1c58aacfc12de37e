"""Runs by problems: intervals when several training runs (seeds) answer the same held-out problems.

Two things could have come out differently: the luck of training (the seed) and the choice of problems. Both are drawn
again, whole runs and whole clusters of problems, and so are both at once. With `v_s`, `v_c` and `v_sc` the variances of
the statistic over the three kinds of draws, the noise of single answers is in each of them once, once and three times,
so that

    v = v_s + v_c - (v_sc - v_s - v_c),   never below max(v_s, v_c)

counts it once (two-way clustering: Cameron, Gelbach and Miller 2011; crossed bootstrap: Owen 2007). A bootstrap over S
values finds (S - 1)/S of their variance, which is given back. The interval is `value +- t_df sqrt(v)` with Student's t,
since five seeds are few: with problems that never vary it is the textbook t interval over seeds. The degrees of freedom
are Satterthwaite's, `v^2 / (v_s^2 / df_s + v_c^2 / (C - 1))`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

from .aggregate import Floats

Places = npt.NDArray[np.int64]
Statistic = Callable[[Floats], Floats]
"""Aggregates the scores of runs over the last axis: `mean_of_runs`, `aggregate.iqm`, ..."""


@dataclass(frozen=True)
class Estimate:
    """A statistic over runs and problems; bounds, error and p are NaN when they cannot be known (one seed)."""

    value: float
    low: float
    high: float
    error: float
    """Standard error."""
    p: float
    """Two-sided, of the value being 0; below 1 - level exactly when the interval excludes 0."""
    seeds: int
    clusters: int

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies strictly outside; False when the bounds are unknown."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, eq=False)
class ClusteredScores:
    """Answers of S runs to problems in C clusters: `sums` and `counts`, both (S, C), and what the axes are called."""

    sums: Floats
    counts: Floats
    seeds: tuple[Hashable, ...]
    clusters: tuple[Hashable, ...]

    def __post_init__(self) -> None:
        shape = (len(self.seeds), len(self.clusters))
        if self.sums.shape != shape or self.counts.shape != shape or 0 in shape:
            raise ValueError(f"sums {self.sums.shape} and counts {self.counts.shape} must both be {shape}, not empty")

    def only(self, seeds: Sequence[Hashable]) -> ClusteredScores:
        """The runs of these seeds, in this order."""
        rows = [self.seeds.index(seed) for seed in seeds]
        return ClusteredScores(self.sums[rows], self.counts[rows], tuple(seeds), self.clusters)

    @property
    def by_run(self) -> Floats:
        """(S,) mean score of each run."""
        return np.asarray(self.sums.sum(1) / self.counts.sum(1))


@dataclass(frozen=True, eq=False)
class Resampled:
    """A statistic (`value`) and its draws, in three blocks of equal length: seeds, problems, both."""

    value: float
    draws: Floats
    seeds: int
    clusters: int
    seed_df: float
    """Degrees of freedom behind the part of the variance that comes from seeds."""

    def __sub__(self, other: Resampled) -> Resampled:
        """Draw by draw: paired, when both were drawn with the same seeds and problems."""
        return Resampled(
            self.value - other.value,
            self.draws - other.draws,
            min(self.seeds, other.seeds),
            min(self.clusters, other.clusters),
            min(self.seed_df, other.seed_df),
        )


def mean_of_runs(scores: Floats) -> Floats:
    """Mean over the last axis."""
    return np.asarray(scores.mean(-1))


def resample(
    scores: ClusteredScores,
    statistic: Statistic = mean_of_runs,
    *,
    name: str = "",
    resamples: int = 2000,
    seed: int = 0,
) -> Resampled:
    """A statistic over the runs' scores, and what it would be for other seeds and problems.

    The draws depend on `seed`, `name` and the labels only, so that two rules with the same seeds and problems are drawn
    together and their difference is paired. Draws of problems do not depend on `name`.

    Args:
        scores: of one rule in one regime (stratum).
        statistic: over the last axis.
        name: of the regime; seeds of different regimes are drawn apart.
        resamples: draws per block.
    """
    runs, clusters = scores.sums.shape
    chosen = seed_draws(seed, name, scores.seeds, resamples)
    redrawn = problem_draws(scores, resamples, seed)
    blocks = [scores.by_run[chosen], redrawn, np.take_along_axis(redrawn, chosen, 1)]
    value = float(statistic(scores.by_run))
    return Resampled(value, np.concatenate([statistic(block) for block in blocks]), runs, clusters, runs - 1)


def seed_draws(seed: int, name: str, seeds: tuple[Hashable, ...], resamples: int) -> Places:
    """(resamples, S) which of the seeds stands in each place of a draw."""
    return _rng(seed, "seeds", name, seeds).integers(len(seeds), size=(resamples, len(seeds)))


def problem_draws(scores: ClusteredScores, resamples: int, seed: int) -> Floats:
    """(resamples, S) score of each run on each draw of problems."""
    weights = _drawn_counts(seed, scores.clusters, resamples)
    return np.asarray((weights @ scores.sums.T) / np.maximum(weights @ scores.counts.T, 1e-300))


def mean_of_strata(parts: Sequence[Resampled]) -> Resampled:
    """Their mean, each stratum with the same weight; Satterthwaite's degrees of freedom from the strata's own."""
    variances = np.array([seed_variance(part) for part in parts])
    dfs = np.array([part.seed_df for part in parts])
    below = float((variances[dfs > 0] ** 2 / dfs[dfs > 0]).sum())
    pooled = float(variances.sum()) ** 2 / below if below > 0 else float(dfs.min())
    return Resampled(
        float(np.mean([part.value for part in parts])),
        np.mean([part.draws for part in parts], axis=0),
        min(part.seeds for part in parts),
        min(part.clusters for part in parts),
        pooled if dfs.min() > 0 else 0.0,
    )


def estimate(found: Resampled, *, level: float = 0.95, limits: tuple[float, float] = (-1.0, 1.0)) -> Estimate:
    """Value, interval, standard error and p.

    One seed gives no bounds: nothing was seen of the luck of training. No spread at all (every run equal on every
    problem) widens by `1 - ((1 - level)/2)^(1/C)` of Clopper and Pearson, as in `bootstrap.success_interval`.

    Args:
        level: nominal coverage, in (0, 1).
        limits: values the statistic can take; the interval is cut there.
    """
    if found.seeds < 2:
        return Estimate(found.value, math.nan, math.nan, math.nan, math.nan, found.seeds, found.clusters)
    by_seed, by_problem, both = variances(found)
    variance = max(by_seed + by_problem - max(both - by_seed - by_problem, 0.0), by_seed, by_problem)
    if variance <= 1e-24:
        half, p = 1 - ((1 - level) / 2) ** (1 / found.clusters), 1.0
    else:
        df = variance**2 / (by_seed**2 / found.seed_df + by_problem**2 / max(found.clusters - 1, 1))
        half = float(special.stdtrit(df, (1 + level) / 2)) * math.sqrt(variance)
        p = float(2 * special.stdtr(df, -abs(found.value) / math.sqrt(variance)))
    low, high = max(found.value - half, limits[0]), min(found.value + half, limits[1])
    return Estimate(found.value, low, high, math.sqrt(variance), p, found.seeds, found.clusters)


def variances(found: Resampled) -> tuple[float, float, float]:
    """Of the draws of (seeds, problems, both), with what the bootstrap over few seeds loses given back."""
    blocks = found.draws.reshape(3, -1).var(axis=1)
    lost = float(blocks[0]) / (found.seeds - 1)
    return float(blocks[0]) + lost, float(blocks[1]), float(blocks[2]) + lost


def seed_variance(found: Resampled) -> float:
    """The part of its variance that comes from seeds; 0 for one seed, where none can be seen."""
    return variances(found)[0] if found.seeds > 1 else 0.0


@lru_cache(maxsize=16)
def _drawn_counts(seed: int, labels: tuple[Hashable, ...], resamples: int) -> Floats:
    """(resamples, C) how often each cluster is drawn; every rule and regime with these problems uses the same."""
    size = len(labels)
    found = _rng(seed, "problems", labels).multinomial(size, np.full(size, 1 / size), size=resamples)
    found = found.astype(np.float64)
    found.setflags(write=False)
    return np.asarray(found)


def _rng(seed: int, *labels: object) -> np.random.Generator:
    return np.random.default_rng([seed, *(zlib.crc32(repr(label).encode()) for label in labels)])
