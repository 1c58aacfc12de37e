"""What a study found, in plain sentences: who came closest to the best constants, who was farthest, how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .against import ALL, everyone
from .load import Study
from .significance import ENOUGH_SEEDS


@dataclass(frozen=True)
class Headline:
    """One or two sentences, and how far they can be trusted."""

    found: str
    trust: str


def headline(study: Study, summary: Mapping[str, Any]) -> Headline | None:
    """By mean regret where there is a grid of constants, else by success; None where no two rules can be compared."""
    rows = summary["regret"].get("rules") or []
    own = sorted((row for row in rows if row["rule"] not in study.grid), key=lambda row: row["mean"]["value"])
    if len(own) > 1:
        return Headline(_by_regret(study, own, [row for row in rows if row["rule"] in study.grid]), _trust(study, own))
    return _by_success(study, summary)


def by_mean(study: Study, summary: Mapping[str, Any], split: str) -> list[str]:
    """Every rule, the one with the highest mean success over all regimes first; those without runs last."""
    gaps = {row["rule"]: row["value"] for row in summary["against"] if (row["split"], row["regime"]) == (split, ALL)}
    gaps[study.spec["baseline"]] = 0.0
    return sorted(everyone(study), key=lambda rule: (rule not in gaps, -gaps.get(rule, 0.0)))


def _by_regret(study: Study, own: Sequence[Mapping[str, Any]], constants: Sequence[Mapping[str, Any]]) -> str:
    first, last = own[0], own[-1]
    told = [
        f"{first['rule']} came closest to the best constant weight of each regime: on average over "
        f"{_many(study.regimes, 'regime')} it is {_below(first)}.",
        f"{last['rule']} was farthest: {_below(last)}.",
    ]
    if constants:
        best = min(constants, key=lambda row: row["mean"]["value"])
        told.append(f"One constant for every regime, {study.grid[best['rule']]:g}, is {_below(best)}.")
    return " ".join(told)


def _below(row: Mapping[str, Any]) -> str:
    points = 100 * row["mean"]["value"]
    if abs(points) < 0.05:
        return "level with it"
    return f"{abs(points):.1f} points of success {'below' if points > 0 else 'above'} it"


def _by_success(study: Study, summary: Mapping[str, Any]) -> Headline | None:
    if not study.splits:
        return None
    split, baseline = study.splits[0], study.spec["baseline"]
    gaps = {row["rule"]: row for row in summary["against"] if (row["split"], row["regime"]) == (split, ALL)}
    ranked = [rule for rule in by_mean(study, summary, split) if rule in gaps or rule == baseline]
    if len(ranked) < 2:
        return None
    values = [0.0 if rule == baseline else gaps[rule]["value"] for rule in ranked]
    spread, over = 100 * (values[0] - values[-1]), f"on average over {_many(study.regimes, 'regime')}"
    if spread < 0.05:
        tied = " and ".join(ranked) if len(ranked) == 2 else "all rules"
        found = f"Nobody wins: {tied} have the same success on {split}, {over}."
    else:
        first = f"{ranked[0]} has the highest success on {split}"
        found = f"{first}, {ranked[-1]} the lowest: {spread:.1f} points apart, {over}."
    clear = any(gaps[rule]["judged"] in ("up", "down") for rule in (ranked[0], ranked[-1]) if rule in gaps)
    seeds = len(study.spec["seeds"])
    if seeds < ENOUGH_SEEDS:
        return Headline(found, _too_few(seeds))
    words = "At least one of the two differs clearly" if clear else "Neither differs clearly"
    return Headline(found, f"{words} from {baseline}, the rule that all are compared with.")


def _trust(study: Study, own: Sequence[Mapping[str, Any]]) -> str:
    seeds = len(study.spec["seeds"])
    if seeds < ENOUGH_SEEDS:
        return _too_few(seeds)
    first = own[0]["mean"]
    if first["high"] is None:
        return "There is no interval, so the order may be chance."
    level = [row["rule"] for row in own[1:] if row["mean"]["low"] is None or row["mean"]["low"] <= first["high"]]
    if not level:
        return f"The 95 % interval of {own[0]['rule']} overlaps with that of no other rule."
    told = ", ".join(level[:4]) + (f" and {len(level) - 4} more" if len(level) > 4 else "")
    return (
        f"The 95 % interval of {own[0]['rule']} overlaps with those of {told}: between these the order may be chance."
    )


def _too_few(seeds: int) -> str:
    return (
        f"{_many(range(seeds), 'seed')} cannot tell what of this is chance: it takes at least {ENOUGH_SEEDS}, so every "
        "claim below is undecided."
    )


def _many(things: Sequence[Any], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
