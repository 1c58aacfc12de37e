"""The numbers of a study: scores, differences to the baseline, regret, learning curves, costs. Plain JSON values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from ...stats import (
    area_under_curve,
    estimate,
    iqm,
    reached,
    resample,
    seed_mean,
)
from .against import against, everyone
from .budget import costs, flagged
from .claims import claims
from .curves import goal, horizon, soon
from .load import Study
from .regret import regrets
from .seeds import needed, targets

SHARE = (0.0, 1.0)


def summarize(study: Study) -> dict[str, Any]:
    """Everything the table and the page show, from the run directories alone.

    Keys: `runs` one row per run; `scores` per regime, rule and split; `against` differences to the baseline, the same
    way and over all regimes; `measured` what the tasks measure besides success; `regret`, `regret_by_outcome`,
    `target`, `seeds_needed`; `curves`; `costs`; `stopped` the rules that racing stopped.
    """
    regret = regrets(study)
    return clean(
        {
            "runs": list(_runs(study)),
            "scores": list(_scores(study)),
            "measured": list(_measured(study)),
            "against": [row for split in study.splits for row in against(study, split)],
            "regret": regret,
            "regret_by_outcome": regrets(study, study.outcome) if study.outcome else {},
            "target": targets(study, regret),
            "seeds_needed": needed(study),
            "curves": list(_curves(study)),
            "costs": flagged(costs(study)),
            "claims": claims(study),
            "chosen": [{"regime": r, "rule": n, "picked": m} for (r, n), m in study.chosen.items()],
            "unfinished": study.unfinished,
            "stopped": [{"regime": r, "rule": n, "leader": m} for (r, n), m in study.stopped.items()],
        }
    )


def clean(value: Any) -> Any:
    """JSON has no NaN: what is not known is null."""
    if isinstance(value, dict):
        return {key: clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value


def _runs(study: Study) -> Iterator[dict[str, Any]]:
    for regime in study.regimes:
        for rule in everyone(study):
            for run in study.of(regime, rule):
                if run.rule in study.spec["tuned"]:
                    continue
                success = {split: run.success(split) for split in run.answers}
                yield {
                    "regime": regime,
                    "rule": rule,
                    "seed": run.seed,
                    "success": success,
                    "base": {
                        split: float(np.mean([np.mean(a) for a in run.base[split].values()])) for split in success
                    },
                    **run.costs,
                }


def _scores(study: Study) -> Iterator[dict[str, Any]]:
    for split in study.splits:
        for rule in everyone(study):
            for regime in study.regimes:
                table = study.scores(regime, rule, split)
                if table is None:
                    continue
                found = estimate(resample(table, name=regime), limits=SHARE)
                middle = estimate(resample(table, iqm, name=regime), limits=SHARE)
                yield {
                    "split": split,
                    "regime": regime,
                    "rule": rule,
                    **asdict(found),
                    "iqm": middle.value,
                    "iqm_low": middle.low,
                    "iqm_high": middle.high,
                    "by_seed": [float(score) for score in table.by_run],
                    **_pass_at(study, regime, rule, split),
                }


def _measured(study: Study) -> Iterator[dict[str, Any]]:
    """Per regime, rule, split and name: the mean over seeds, of the models before (`base`) and after (`value`)."""
    for split in study.splits:
        for rule in everyone(study):
            for regime in study.regimes:
                runs = [run for run in study.of(regime, rule) if run.measured.get(split)]
                for name in sorted({name for run in runs for name in run.measured[split]}):
                    means = [
                        float(
                            np.mean([found[split][name] for found in some if name in found.get(split, {})] or [np.nan])
                        )
                        for some in ([run.measured_base for run in runs], [run.measured for run in runs])
                    ]
                    yield {
                        "split": split, "regime": regime, "rule": rule, "name": name,
                        "base": means[0], "value": means[1], "seeds": len(runs),
                    }  # fmt: skip


def _pass_at(study: Study, regime: str, rule: str, split: str) -> dict[str, float]:
    found = {}
    for k in study.spec["metrics"]["pass_at"]:
        table = study.scores(regime, rule, split, pass_at=k)
        assert table is not None
        found[f"pass@{k}"] = float(table.by_run.mean())
    return found


def _curves(study: Study) -> Iterator[dict[str, Any]]:
    """Area under the validation curve, and steps and tokens to the regime's level (see `goal`)."""
    for regime in study.regimes:
        level = goal(study, regime)
        for rule in everyone(study):
            runs = [run for run in study.of(regime, rule) if len(run.validation)]
            if not runs:
                continue
            row: dict[str, Any] = {"regime": regime, "rule": rule, "level": level}
            row["area"] = asdict(seed_mean([area_under_curve(run.steps, run.validation) for run in runs]))
            if level is not None:
                for unit in ("steps", "tokens"):
                    ends = [horizon(study, regime, unit)] * len(runs)
                    row[f"{unit}_to_level"] = asdict(reached(soon(runs, level, unit), ends))
            yield row
