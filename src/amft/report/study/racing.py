"""Racing: rules that are clearly beaten in a regime after the first seeds stop there, so that time goes to the others.

Only validation is looked at, so that the test cannot say what is tested.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from statistics import fmean

from ...stats import holm, seed_mean
from .significance import judge_difference

Validation = Callable[[str, str, int], float | None]
"""Regime, rule and seed -> validation success of the model that was kept; None where there is no finished run."""


def beaten(
    regimes: Sequence[str], rules: Sequence[str], seeds: Sequence[int], spared: Collection[str], validation: Validation
) -> dict[tuple[str, str], str]:
    """(regime, rule) -> the rule that leads there and clearly beats it.

    The leader has the highest mean; the others' differences to it, paired by seed, have Student's t intervals and
    Holm's correction over the regime. Rules that lack a seed are not judged.

    Args:
        regimes, rules: of the study.
        seeds: the first ones.
        spared: rules that never stop.
        validation: what to compare.
    """
    stopped: dict[tuple[str, str], str] = {}
    for regime in regimes:
        found = {rule: [validation(regime, rule, seed) for seed in seeds] for rule in rules}
        whole = {rule: known for rule, values in found.items() if len(known := _known(values)) == len(seeds)}
        if len(whole) < 2:
            continue
        leader = max(whole, key=lambda rule: fmean(whole[rule]))
        gaps = {
            rule: seed_mean([ours - best for ours, best in zip(values, whole[leader], strict=True)])
            for rule, values in whole.items()
            if rule != leader
        }
        adjusted = holm({rule: gap.p for rule, gap in gaps.items()})
        for rule, gap in gaps.items():
            if rule not in spared and judge_difference(gap, adjusted[rule]) == "down":
                stopped[regime, rule] = leader
    return stopped


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None and value == value]
