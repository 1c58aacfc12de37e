"""Uncertainty of measured success, of one run and of many. numpy and scipy, no torch."""

from .aggregate import holm, iqm, performance_profile, probability_of_improvement
from .answers import avg_at_k, pass_at_k
from .bootstrap import Interval, clustered_interval, paired_difference, success_difference, success_interval
from .crossed import ClusteredScores, Estimate, Resampled, estimate, mean_of_runs, mean_of_strata, resample
from .curves import Reached, area_under_curve, first_reach, reached, seed_mean
from .power import Spread, power, seeds_needed, spread
from .selection import Crossed, cross, worst_crossed

__all__ = [
    "ClusteredScores",
    "Crossed",
    "Estimate",
    "Interval",
    "Reached",
    "Resampled",
    "Spread",
    "area_under_curve",
    "avg_at_k",
    "clustered_interval",
    "cross",
    "estimate",
    "first_reach",
    "holm",
    "iqm",
    "mean_of_runs",
    "mean_of_strata",
    "paired_difference",
    "pass_at_k",
    "performance_profile",
    "power",
    "probability_of_improvement",
    "reached",
    "resample",
    "seed_mean",
    "seeds_needed",
    "spread",
    "success_difference",
    "success_interval",
    "worst_crossed",
]
