"""Uncertainty of measured success, of one run and of many. numpy and scipy, no torch."""

from .aggregate import holm, iqm, performance_profile, probability_of_improvement
from .answers import avg_at_k, pass_at_k
from .bootstrap import Interval, clustered_interval, paired_difference, success_difference, success_interval
from .crossed import (
    ClusteredScores,
    Estimate,
    Resampled,
    estimate,
    mean_of_runs,
    mean_of_strata,
    resample,
    worst_of_strata,
)
from .curves import Reached, area_under_curve, first_reach, reached, seed_mean

__all__ = [
    "ClusteredScores",
    "Estimate",
    "Interval",
    "Reached",
    "Resampled",
    "area_under_curve",
    "avg_at_k",
    "clustered_interval",
    "estimate",
    "first_reach",
    "holm",
    "iqm",
    "mean_of_runs",
    "mean_of_strata",
    "paired_difference",
    "pass_at_k",
    "performance_profile",
    "probability_of_improvement",
    "reached",
    "resample",
    "seed_mean",
    "success_difference",
    "success_interval",
    "worst_of_strata",
]
