"""Regret: how much the constant mu that other seeds would pick scores above a rule.

Crossed (`stats.selection`): the constant is chosen on two thirds of the seeds and scored, with the rule, on the rest,
over many such cuts, so that no luck of the choice counts against a rule. Its interval chooses anew in every draw. A
rule is compared on the seeds it has, with the constants that have them all.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ...stats import ClusteredScores, Crossed, Resampled, cross, estimate, mean_of_strata, worst_crossed
from .load import Study

LEAST_SEEDS = 2
"""With fewer no constant can be chosen on other seeds."""


@dataclass(frozen=True)
class Regrets:
    """The crossed regret of one rule in every regime it has enough seeds in."""

    by_regime: dict[str, Crossed]
    """Each on all seeds that the rule has there."""
    common: list[Crossed]
    """One per regime, on the seeds that the rule has in all of them; empty when there are too few."""

    @property
    def mean(self) -> Resampled:
        """Over regimes."""
        return mean_of_strata([part.resampled for part in self.common])


@dataclass(frozen=True)
class Bench:
    """The grid of a study on its headline split."""

    study: Study
    split: str
    outcome: str | None = None
    """What is compared instead of success."""
    made: dict[tuple[Hashable, ...], Crossed | None] = field(default_factory=dict)

    def of(self, rule: str) -> Regrets:
        """The regrets of a rule, a constant among them."""
        seeds = {regime: tuple(run.seed for run in self.study.of(regime, rule)) for regime in self.study.regimes}
        found = {regime: self._gap(regime, rule, own) for regime, own in seeds.items()}
        shared = tuple(seed for seed in self.study.spec["seeds"] if all(seed in own for own in seeds.values()))
        common = [self._gap(regime, rule, shared) for regime in seeds]
        whole = [gap for gap in common if gap is not None]
        return Regrets(
            {regime: gap for regime, gap in found.items() if gap is not None},
            whole if len(whole) == len(seeds) else [],
        )

    def best(self, regime: str) -> str | None:
        """The constant with the highest mean, of those with every seed."""
        tables = {rule: self._scores(regime, rule) for rule in self.study.grid}
        full = len(self.study.spec["seeds"])
        means = {rule: float(t.by_run.mean()) for rule, t in tables.items() if t is not None and len(t.seeds) == full}
        return max(means, key=lambda rule: means[rule]) if means else None

    def _scores(self, regime: str, rule: str) -> ClusteredScores | None:
        return self.study.scores(regime, rule, self.split, outcome=self.outcome)

    def _gap(self, regime: str, rule: str, seeds: tuple[int, ...]) -> Crossed | None:
        table = self._scores(regime, rule)
        if table is None or len(seeds) < LEAST_SEEDS or not set(seeds) <= set(table.seeds):
            return None
        ours = table.only(seeds)
        theirs = self._constants(regime, ours)
        return None if theirs is None else theirs - cross([ours], name=regime)

    def _constants(self, regime: str, ours: ClusteredScores) -> Crossed | None:
        """The constants that answered the same problems on all these seeds, crossed."""
        key = regime, ours.seeds, ours.clusters
        if key not in self.made:
            tables = [self._scores(regime, rule) for rule in self.study.grid]
            able = [t for t in tables if t and t.clusters == ours.clusters and set(ours.seeds) <= set(t.seeds)]
            self.made[key] = cross([t.only(ours.seeds) for t in able], name=regime) if able else None
        return self.made[key]


def regrets(study: Study, outcome: str | None = None) -> dict[str, Any]:
    """Crossed regret of every rule, and of every constant, on the headline split; empty without a grid.

    Args:
        outcome: what the task measures of each answer, instead of success.

    Keys: `best` regime -> the constant with the highest mean; `by_regime` one row per regime and rule; `rules` one row
    per rule with `mean` and `worst` over regimes. A rule with fewer than two seeds common to all regimes has neither.
    """
    if not study.grid or not study.splits:
        return {}
    bench = Bench(study, study.splits[0], outcome)
    best = {regime: top for regime in study.regimes if (top := bench.best(regime)) is not None}
    by_regime, rules = [], []
    for rule in [*study.rules, *study.grid]:
        found = bench.of(rule)
        by_regime += [
            {"regime": regime, "rule": rule, **asdict(estimate(gap.resampled))}
            for regime, gap in found.by_regime.items()
        ]
        if found.common:
            rules.append({"rule": rule, **_over_regimes(study.regimes, found)})
    return {"split": bench.split, "best": best, "by_regime": by_regime, "rules": rules}


def _over_regimes(regimes: Sequence[str], found: Regrets) -> dict[str, Any]:
    values = {regime: gap.resampled.value for regime, gap in zip(regimes, found.common, strict=True)}
    return {
        "seeds": found.mean.seeds,
        "mean": asdict(estimate(found.mean)),
        "worst": asdict(worst_crossed(found.common)),
        "worst_regime": max(values, key=lambda regime: values[regime]),
    }
