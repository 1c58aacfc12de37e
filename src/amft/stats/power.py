"""How many seeds a comparison needs, from the spread that a study has seen.

More seeds lower the part of the variance that comes from the luck of training, not the part that comes from the choice
of problems: `v(S) = v_1 / S + v_p`. A true value that lies `margin` off a target is told from it (the 95 % interval
lies wholly on its own side) with probability

    power(S) = P(T > t),   T noncentral t with df(S) and noncentrality margin / sqrt(v(S)),   t = t_df(S)((1 + level)/2)

(Cohen 1988, ch. 2). With v_p = 0 and one stratum that is the textbook's one-sample t test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import special

from .crossed import Resampled, variances


@dataclass(frozen=True)
class Spread:
    """What is behind the variance of a value over runs and problems."""

    per_seed: float
    """v_1: what seeds contribute, times how many there were."""
    problems: float
    """v_p: what the choice of problems contributes, however many seeds there are."""
    strata: float = 1.0
    """Degrees of freedom per seed and one less: (S - 1) times this."""
    clusters: int = 2


def spread(found: Resampled) -> Spread:
    """Split the variance of a value.

    Raises:
        ValueError: there was a single seed, which shows no spread.
    """
    if found.seeds < 2:
        raise ValueError("one seed shows no spread; two are needed at least")
    by_seed, by_problem, both = variances(found)
    noise = max(both - by_seed - by_problem, 0.0)
    strata = found.seed_df / (found.seeds - 1)
    return Spread(by_seed * found.seeds, max(by_problem - noise, 0.0), strata, found.clusters)


def power(seen: Spread, seeds: int, margin: float, *, level: float = 0.95) -> float:
    """Probability that so many seeds tell a true value `margin` off the target from it, on the right side.

    Args:
        seeds: at least 2.
        margin: above 0, in the unit of the value.

    Raises:
        ValueError: `seeds` or `margin` is out of its range.
    """
    if seeds < 2 or margin <= 0:
        raise ValueError(f"seeds must be at least 2 and margin above 0, got {seeds} and {margin}")
    by_seed = seen.per_seed / seeds
    variance = by_seed + seen.problems
    if variance == 0:
        return 1.0
    below = by_seed**2 / (seen.strata * (seeds - 1)) + seen.problems**2 / max(seen.clusters - 1, 1)
    df = variance**2 / below
    bound = special.stdtrit(df, (1 + level) / 2)
    return float(1 - special.nctdtr(df, margin / math.sqrt(variance), bound))


def seeds_needed(
    seen: Spread, margin: float, *, chance: float = 0.8, level: float = 0.95, most: int = 1000
) -> int | None:
    """The fewest seeds with at least that `power`; None when `most` are not enough (more problems are needed then)."""
    if power(seen, most, margin, level=level) < chance:
        return None
    low, high = 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(seen, middle, margin, level=level) >= chance else (middle, high)
    return high
