"""Differences between rules: paired by seed and problem, corrected for how many are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ...stats import Estimate, Resampled, estimate, holm, mean_of_strata, probability_of_improvement, resample
from .load import Study
from .significance import judge_difference

ALL = "all regimes"


def everyone(study: Study) -> list[str]:
    """All rules, the grid last."""
    return [*study.rules, *study.grid]


def differences(study: Study, split: str, rivals: Sequence[str], reference: str) -> Iterator[tuple[str, str, Estimate]]:
    """(regime, rule, rule minus reference) on the seeds both have; ALL is the mean over regimes both have runs in."""
    for rule in rivals:
        parts = []
        for regime, gap in paired(study, split, rule, reference):
            parts.append(gap)
            yield regime, rule, estimate(gap)
        if parts:
            yield ALL, rule, estimate(mean_of_strata(parts))


def paired(study: Study, split: str, rule: str, reference: str) -> Iterator[tuple[str, Resampled]]:
    """(regime, rule minus reference) on the seeds both have, where there are any."""
    for regime in study.regimes:
        ours, theirs = study.scores(regime, rule, split), study.scores(regime, reference, split)
        if ours is None or theirs is None:
            continue
        seeds = [seed for seed in ours.seeds if seed in theirs.seeds]
        if seeds and ours.clusters == theirs.clusters:
            yield regime, resample(ours.only(seeds), name=regime) - resample(theirs.only(seeds), name=regime)


def corrected(found: Sequence[tuple[str, str, Estimate]]) -> dict[tuple[str, str], float]:
    """Holm within each regime (and within ALL), over the rules compared there."""
    adjusted: dict[tuple[str, str], float] = {}
    for regime in dict.fromkeys(regime for regime, _, _ in found):
        family = {rule: gap.p for where, rule, gap in found if where == regime}
        adjusted |= {(regime, rule): p for rule, p in holm(family).items()}
    return adjusted


def against(study: Study, split: str) -> Iterator[dict[str, Any]]:
    """Every rule minus the baseline on a split, per regime and over ALL, with the words it earns."""
    baseline = study.spec["baseline"]
    found = list(differences(study, split, [rule for rule in everyone(study) if rule != baseline], baseline))
    adjusted = corrected(found)
    for regime, rule, gap in found:
        where = study.regimes if regime == ALL else [regime]
        pairs = [(study.scores(r, rule, split), study.scores(r, baseline, split)) for r in where]
        both = [(ours.by_run, theirs.by_run) for ours, theirs in pairs if ours is not None and theirs is not None]
        yield {
            "split": split,
            "regime": regime,
            "rule": rule,
            "baseline": baseline,
            **asdict(gap),
            "holm_p": adjusted[regime, rule],
            "judged": judge_difference(gap, adjusted[regime, rule]),
            "improvement": probability_of_improvement([a for a, _ in both], [b for _, b in both]),
        }
