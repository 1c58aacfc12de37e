"""The paper's claims about its rule, judged at this scale: each holds, fails or is undecided, against every rival.

A rival is every other rule of the study, tuned ones among them but not what they were picked from. Of the grid only
the baseline is one: which constant is best is known in hindsight alone. Differences are such that above zero is good
for the subject, with Holm's correction over the rivals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from ...stats import Estimate, holm, seed_mean
from .against import ALL, differences
from .curves import drawdown, goal, horizon, soon
from .load import Study
from .significance import judge_difference, verdict_of_claim

Leads = dict[str, Estimate]
"""Rival -> how much the subject is ahead of it."""


def claims(study: Study) -> list[dict[str, Any]]:
    """One row per claim: `claim`, `measure`, `verdict` and, per rival, the difference and what may be said of it."""
    subject = study.spec["subject"]
    parts = {member for members in study.spec["tuned"].values() for member in members}
    named = [*study.rules, *(constant for constant in study.grid if constant == study.spec["baseline"])]
    rivals = [rule for rule in named if rule not in (subject, *parts) and not _same_runs(study, rule, subject)]
    found: list[tuple[str, str, Leads]] = []
    if study.splits:
        measure = f"success on {study.splits[0]}, mean over regimes: {subject} minus rival"
        found.append(("performance", measure, _success(study, study.splits[0], rivals, subject)))
    ood = study.spec["metrics"]["ood"]
    if ood in study.splits:
        measure = f"success on {ood}, mean over regimes: {subject} minus rival"
        found.append(("out of distribution", measure, _success(study, ood, rivals, subject)))
    ideal = "the best constant weight" if study.grid else study.spec["baseline"]
    measure = (
        f"thousands of tokens until validation success is where that of {ideal} ends: rival minus {subject}; a run "
        "that never gets there counts as the longest of its regime"
    )
    found.append(("sample efficiency", measure, _by_seed(study, rivals, subject, _thousands_of_tokens)))
    measure = f"largest fall of validation success below its best so far: rival minus {subject}"
    found.append(("stability", measure, _by_seed(study, rivals, subject, _fall)))
    return [_row(name, measure, pairs) for name, measure, pairs in found]


def _row(name: str, measure: str, pairs: Leads) -> dict[str, Any]:
    adjusted = holm({rival: gap.p for rival, gap in pairs.items()})
    judged = {rival: judge_difference(gap, adjusted[rival]) for rival, gap in pairs.items()}
    rivals = [
        {"rival": rival, **asdict(gap), "holm_p": adjusted[rival], "judged": judged[rival]}
        for rival, gap in pairs.items()
    ]
    return {"claim": name, "measure": measure, "verdict": verdict_of_claim(list(judged.values())), "rivals": rivals}


def _success(study: Study, split: str, rivals: list[str], subject: str) -> Leads:
    gaps = differences(study, split, rivals, subject)
    return {rule: _turned(gap) for regime, rule, gap in gaps if regime == ALL}


def _turned(gap: Estimate) -> Estimate:
    return Estimate(-gap.value, -gap.high, -gap.low, gap.error, gap.p, gap.seeds, gap.clusters)


def _by_seed(
    study: Study, rivals: list[str], subject: str, measure: Callable[[Study, str, str], dict[int, float]]
) -> Leads:
    """Rival minus subject, seed by seed, each the mean over the regimes in which both have that seed."""
    pairs = {}
    for rival in rivals:
        gaps: dict[int, list[float]] = {}
        for regime in study.regimes:
            ours, theirs = measure(study, regime, subject), measure(study, regime, rival)
            for seed in ours.keys() & theirs.keys():
                gaps.setdefault(seed, []).append(theirs[seed] - ours[seed])
        whole = [float(np.mean(found)) for found in gaps.values() if len(found) == len(study.regimes)]
        if whole:
            pairs[rival] = seed_mean(whole)
    return pairs


def _thousands_of_tokens(study: Study, regime: str, rule: str) -> dict[int, float]:
    level, runs = goal(study, regime), [run for run in study.of(regime, rule) if len(run.validation)]
    if level is None or not runs:
        return {}
    most = horizon(study, regime, "tokens")
    places = soon(runs, level, "tokens")
    return {run.seed: (most if at is None else at) / 1000 for run, at in zip(runs, places, strict=True)}


def _fall(study: Study, regime: str, rule: str) -> dict[int, float]:
    return {run.seed: drawdown(run) for run in study.of(regime, rule) if len(run.validation)}


def _same_runs(study: Study, rule: str, subject: str) -> bool:
    """Whether a tuned name stands for the subject's own runs everywhere."""
    picked: Iterator[str | None] = (study.chosen.get((regime, rule)) for regime in study.regimes)
    return all(name == subject for name in picked)
