"""What there is to win by moving mu: two-level schedules against constants, per regime, from a finished screen.

    python benchmarks/balance/headroom.py runs/long_screen

Prints a Markdown table: success of pure RL and pure imitation, the best constant, the best schedule, and the crossed
gap between these two. Crossed: on every seed the constant and the schedule are the ones that are best on the other
seeds, so that neither is the luckiest of many; with one seed there is no such gap. Only seeds that every arm of the
regime has are looked at, so an unfinished screen has a table too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

Scores = Mapping[str, Mapping[int, float]]
"""Arm -> seed -> success."""


def crossed_gap(constants: Scores, schedules: Scores) -> list[float]:
    """Schedule less constant on each seed, both chosen on the others; empty with fewer than two common seeds."""
    seeds = common_seeds({**constants, **schedules})
    if len(seeds) < 2:
        return []

    def chosen(arms: Scores, held_out: int) -> float:
        best = max(arms, key=lambda name: fmean(arms[name][seed] for seed in seeds if seed != held_out))
        return arms[best][held_out]

    return [chosen(schedules, seed) - chosen(constants, seed) for seed in seeds]


def common_seeds(arms: Scores) -> list[int]:
    """The seeds that every arm has."""
    return sorted(set.intersection(*(set(seeds) for seeds in arms.values()))) if arms else []


def read(study: Path) -> dict[str, dict[str, dict[int, float]]]:
    """Regime -> arm -> seed -> success on the first split."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for row in json.loads((study / "table.json").read_text(encoding="utf-8"))["runs"]:
        success = next(iter(row["success"].values()))
        found.setdefault(row["regime"], {}).setdefault(row["rule"], {})[row["seed"]] = success
    return found


def line(regime: str, arms: Scores) -> str:
    """One row of the table."""
    shared = common_seeds(arms)
    arms = {name: {seed: seeds[seed] for seed in shared} for name, seeds in arms.items()} if shared else {}
    constants = {name: seeds for name, seeds in arms.items() if name.startswith("fixed-")}
    schedules = {name: seeds for name, seeds in arms.items() if name not in constants}
    gaps = crossed_gap(constants, schedules)

    def best(arms: Scores) -> str:
        name = max(arms, key=lambda name: fmean(arms[name].values()), default="")
        return f"{name}: {_points(fmean(arms[name].values()))}" if name else "-"

    def one(name: str) -> str:
        return _points(fmean(arms[name].values())) if name in arms else "-"

    gap = f"{100 * fmean(gaps):+.1f} ({_listed(gaps)})" if gaps else "-"
    cells = [regime, f"{len(arms)}", f"{len(shared)}", one("fixed-0"), one("fixed-1"), best(constants)]
    return "| " + " | ".join([*cells, best(schedules), gap]) + " |"


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


def _listed(gaps: Sequence[float]) -> str:
    return ", ".join(f"{100 * gap:+.1f}" for gap in gaps)


def main(study: Path) -> None:
    print("| regime | arms | seeds | mu 0 | mu 1 | best constant | best schedule | crossed gap, points (by seed) |")
    print("|---|---|---|---|---|---|---|---|")
    for regime, arms in read(study).items():
        print(line(regime, arms))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
