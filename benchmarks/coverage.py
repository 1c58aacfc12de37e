"""How often the intervals of a study page hold the truth: simulated studies whose truth is known.

    python benchmarks/coverage.py                      the whole table, a few minutes on one core
    python benchmarks/coverage.py --studies 40         a quick look

A study has 5 regimes, 7 constants, a rule and a baseline, and 100 problems answered once, right or wrong. A run is
right on a problem with a probability that is the level of its arm, plus the luck of its seed (SD 2 points; with answers
the SD of a run is 5), plus how easy the problem is (up to 20 points, for all arms) and how it suits the arm (up to 5).
Levels:

    flat        every constant, the rule and the baseline are alike
    spread      another constant is best in every regime, the others lie 1.5 to 20 points below it; the rule lies 2
                points below the best, in one regime 6
    collapse    spread, and a run loses 25 points with probability .2; those of the baseline never do

Learning curves give three values per run: tokens to a level (lognormal, never within the horizon for a collapsed run),
the area below, and the largest fall (25 points for a collapsed run). `rivals` compares ways to make an interval for the
mean crossed regret.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from amft.stats import (
    ClusteredScores,
    Crossed,
    Estimate,
    Resampled,
    cross,
    estimate,
    mean_of_strata,
    resample,
    seed_mean,
    worst_crossed,
)

REGIMES, CONSTANTS, PROBLEMS = 5, 7, 100
RULE, BASELINE = CONSTANTS, CONSTANTS + 1
SEED_SD, FALL, HORIZON = 0.02, 0.25, 2.0
SEEDS = (3, 5, 10, 20)
CONDITIONS = {"flat": 0.0, "spread": 0.0, "collapse": 0.2}
RESULT = Path(__file__).with_suffix(".json")

OWN = ("regret, one regime", "mean regret", "percentile", "basic", "choice held", "hindsight")
"""Measures whose table cell also says how often their own mean over studies is held."""

Found = dict[str, tuple[float, float, float]]
"""Measure -> value, low, high."""


def levels(condition: str) -> np.ndarray:
    """(REGIMES, arms) success of every arm without collapse."""
    found = np.full((REGIMES, CONSTANTS + 2), 0.55)
    if condition != "flat":
        apart = np.abs(np.arange(CONSTANTS) - np.arange(1, 1 + REGIMES)[:, None])
        found[:, :CONSTANTS] -= np.minimum(0.005 * apart + 0.01 * apart**2, 0.2) * (apart > 0)
        found[:, RULE] -= np.where(np.arange(REGIMES) == 1, 0.06, 0.02)
        found[:, BASELINE] -= 0.05
    return found


def truth(condition: str) -> dict[str, float]:
    """What each measure would be with runs and problems without end; regret against the best constant there is."""
    level, share = levels(condition), CONDITIONS[condition]
    level[:, :BASELINE] -= FALL * share
    regret = level[:, :CONSTANTS].max(1) - level[:, RULE]
    places = np.random.default_rng(0).normal(size=2_000_000)
    reached = float(np.minimum(np.exp(0.5 * places), HORIZON).mean())
    tokens = (1 - share) * reached + share * HORIZON
    return {
        "success": level[0, RULE],
        "difference": level[0, RULE] - level[0, BASELINE],
        "difference, all regimes": float((level[:, RULE] - level[:, BASELINE]).mean()),
        "tokens to level": tokens,
        "claim: tokens": reached - tokens,
        "claim: fall": -share * FALL,
        "area": 0.4 - share * FALL / 2,
        "regret, one regime": regret[1],
        "mean regret": float(regret.mean()),
        "worst regret": float(regret.max()),
    }


def study(rng: np.random.Generator, condition: str, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Answers (REGIMES, arms, seeds, PROBLEMS), and which runs collapsed."""
    arms = CONSTANTS + 2
    down = rng.random((REGIMES, arms, seeds)) < CONDITIONS[condition]
    down[:, BASELINE] = False
    run = levels(condition)[:, :, None] + SEED_SD * rng.normal(size=down.shape) - FALL * down
    problem = rng.uniform(-0.2, 0.2, PROBLEMS) + rng.uniform(-0.05, 0.05, (REGIMES, arms, 1, PROBLEMS))
    return (rng.random((*down.shape, PROBLEMS)) < np.clip(run[..., None] + problem, 0, 1)).astype(np.float64), down


def measure(rng: np.random.Generator, answers: np.ndarray, down: np.ndarray, draws: int, seed: int) -> Found:
    """Every interval of the page, as the page makes it."""
    tables = [[_table(rows) for rows in regime] for regime in answers]
    how: dict[str, Any] = {"resamples": draws, "seed": seed}
    gaps = [
        resample(arms[RULE], name=str(r), **how) - resample(arms[BASELINE], name=str(r), **how)
        for r, arms in enumerate(tables)
    ]
    regrets = crossed(tables, how)
    mean = mean_of_strata([part.resampled for part in regrets])
    found = {
        "success": estimate(resample(tables[0][RULE], name="0", **how), limits=(0, 1)),
        "difference": estimate(gaps[0]),
        "difference, all regimes": estimate(mean_of_strata(gaps)),
        **curves(rng, down),
        "regret, one regime": estimate(regrets[1].resampled),
        "mean regret": estimate(mean),
        "worst regret": worst_crossed(regrets),
    }
    return {**{name: _ends(each) for name, each in found.items()}, **rivals(answers, mean)}


def crossed(tables: list[list[ClusteredScores]], how: dict[str, Any]) -> list[Crossed]:
    """The crossed regret of the rule, per regime."""
    return [
        cross(arms[:CONSTANTS], name=str(r), **how) - cross([arms[RULE]], name=str(r), **how)
        for r, arms in enumerate(tables)
    ]


def curves(rng: np.random.Generator, down: np.ndarray) -> dict[str, Estimate]:
    """Means over seeds of what is measured once a run; the claims are baseline minus rule, averaged over regimes."""
    late = np.minimum(np.exp(0.5 * rng.normal(size=down.shape)), HORIZON)
    tokens = np.where(down, HORIZON, late)
    fall = np.abs(0.03 * rng.normal(size=down.shape)) + FALL * down
    area = 0.4 + SEED_SD * rng.normal(size=down.shape) - FALL / 2 * down
    return {
        "tokens to level": seed_mean(tokens[0, RULE]),
        "claim: tokens": seed_mean((tokens[:, BASELINE] - tokens[:, RULE]).mean(0)),
        "claim: fall": seed_mean((fall[:, BASELINE] - fall[:, RULE]).mean(0)),
        "area": seed_mean(area[0, RULE]),
    }


def rivals(answers: np.ndarray, mean: Resampled) -> Found:
    """Other intervals for the mean regret.

    `percentile`, `basic`: from the same draws. `choice held`: t over seeds, each with the constant that is best on all
    others, as if it had been given. `hindsight`: t against the constant that is best on the very seeds it is scored on.
    """
    scores = answers.mean(3)
    both = mean.draws.reshape(3, -1)[2]
    low, high = (float(end) for end in np.quantile(both, [0.025, 0.975]))
    found = {"percentile": (mean.value, low, high), "basic": (mean.value, 2 * mean.value - high, 2 * mean.value - low)}
    grid = scores[:, :CONSTANTS]
    others = (grid.sum(2, keepdims=True) - grid).argmax(1)
    left_out = np.take_along_axis(grid, others[:, None], 1)[:, 0] - scores[:, RULE]
    best = np.take_along_axis(grid, grid.mean(2).argmax(1)[:, None, None], 1)[:, 0] - scores[:, RULE]
    for name, gaps in (("choice held", left_out), ("hindsight", best)):
        found[name] = _t(gaps)
    return found


def _t(gaps: np.ndarray) -> tuple[float, float, float]:
    """The textbook's interval for a mean over regimes, with Satterthwaite's degrees of freedom; gaps (REGIMES, S)."""
    variances = gaps.var(axis=1, ddof=1) / gaps.shape[1]
    total = float(variances.sum())
    df = total**2 / float((variances**2).sum() / (gaps.shape[1] - 1))
    half = float(special.stdtrit(df, 0.975)) * math.sqrt(total) / len(gaps)
    return float(gaps.mean()), float(gaps.mean()) - half, float(gaps.mean()) + half


def _table(rows: np.ndarray) -> ClusteredScores:
    return ClusteredScores(rows, np.ones_like(rows), tuple(range(len(rows))), tuple(range(rows.shape[1])))


def _ends(found: Estimate) -> tuple[float, float, float]:
    return found.value, found.low, found.high


def simulate(condition: str, seeds: int, studies: int, draws: int) -> Iterator[dict[str, Any]]:
    """One row per measure: coverage of the truth and of the measure's own mean over studies, bias, mean width."""
    true = truth(condition)
    found: list[Found] = []
    for number in range(studies):
        rng = np.random.default_rng([number, seeds, *condition.encode()])
        found.append(measure(rng, *study(rng, condition, seeds), draws, number))
    for name in found[0]:
        value, low, high = np.array([one[name] for one in found]).T
        aim = true.get(name, true["mean regret"])
        yield {
            "condition": condition, "seeds": seeds, "measure": name, "studies": studies,
            "coverage": _share(low, high, aim), "coverage_of_mean": _share(low, high, float(value.mean())),
            "bias": round(float(value.mean()) - aim, 4), "width": round(float((high - low).mean()), 4),
        }  # fmt: skip


def _share(low: np.ndarray, high: np.ndarray, aim: float) -> float:
    return round(float(((low <= aim + 1e-12) & (aim - 1e-12 <= high)).mean()), 4)


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Markdown: coverage of the truth in percent; for regrets of one constant also of the measure's own mean."""
    columns = [(condition, seeds) for condition in CONDITIONS for seeds in SEEDS]
    yield "| " + " | ".join(["interval", *(f"{condition} {seeds}" for condition, seeds in columns)]) + " |"
    yield "|---" * (len(columns) + 1) + "|"
    cells = {(row["condition"], row["seeds"], row["measure"]): row for row in rows}
    for name in dict.fromkeys(row["measure"] for row in rows):
        line = []
        for place in columns:
            row = cells[(*place, name)]
            both = f" ({100 * row['coverage_of_mean']:.0f})" if name in OWN else ""
            line.append(f"{100 * row['coverage']:.0f}{both}")
        yield f"| {name} | " + " | ".join(line) + " |"


def main() -> None:
    """Simulate, write the rows beside this file, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000, help="per condition and number of seeds")
    parser.add_argument("--draws", type=int, default=300, help="of the bootstrap")
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    rows = []
    for condition in CONDITIONS:
        for seeds in SEEDS:
            start = time.process_time()
            rows += simulate(condition, seeds, arguments.studies, arguments.draws)
            print(f"{condition}, {seeds} seeds: {time.process_time() - start:.0f} s of CPU", file=sys.stderr)
    text = ",\n".join(json.dumps(row) for row in rows)
    arguments.output.write_text(f"[\n{text}\n]\n", encoding="utf-8")
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
