"""The table of docs/tasks.md: five studies, of which what is missing is run first; then Markdown on stdout.

    python benchmarks/tasks/table.py [STUDY ...] [--jobs N]      from the repository's root

About two hours on two cores. A study's runs lie in runs/NAME, as `amft compare` leaves them. "Before" is the model that
all runs of a study begin with.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

TASKS = Path("benchmarks/tasks")
STUDIES = [
    Path("benchmarks/general_points.yaml"),
    *(TASKS / f"{name}.yaml" for name in ("words", "streets", "vision_cards", "vision_streets")),
]
MODELS: dict[str, list[str]] = {"vision_cards": [], "vision_streets": ["--task", "navigation_vl-v1"]}
"""Study -> options of the recipe that makes its model."""
RULES = ("sft", "rl", "fixed-0.7", "amft-scalar", "amft")


def run(study: Path, jobs: int | None) -> Path:
    """Make what the study lacks; its directory."""
    output, model = Path("runs") / study.stem, Path("runs/models") / study.stem
    if study.stem in MODELS and not model.exists():
        python("amft.pretraining.tiny_vision_recipe", *MODELS[study.stem], "--output", str(model))
    python("amft", "compare", str(study), "--output", str(output), *(["--jobs", str(jobs)] if jobs else []))
    return output


def python(module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", module, *arguments], check=True, stdout=sys.stderr)


def rows(table: dict[str, Any]) -> Iterator[list[str]]:
    """One row per split: percent before, and after each rule with its 95 % interval."""
    scores = {(row["split"], row["rule"]): row for row in table["scores"]}
    for split in dict.fromkeys(split for split, _ in scores):
        before = fmean(run["base"][split] for run in table["runs"])
        yield [f"`{split}`", f"{100 * before:.1f}", *(cell(scores.get((split, rule))) for rule in RULES)]


def cell(score: dict[str, Any] | None) -> str:
    if score is None:  # the study has no such rule
        return "-"
    value, *bounds = (None if score[name] is None else f"{100 * score[name]:.1f}" for name in ("value", "low", "high"))
    return f"{value}" if None in bounds else f"{value} [{bounds[0]}, {bounds[1]}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", type=Path, default=STUDIES, metavar="STUDY")
    parser.add_argument("--jobs", type=int, help="runs at a time; default: as many as cores allow")
    given = parser.parse_args()
    for study in given.studies:
        table = json.loads((run(study, given.jobs) / "table.json").read_text(encoding="utf-8"))
        print(f"\n| {study.stem} | before | " + " | ".join(f"`{rule}`" for rule in RULES) + " |")
        print("|---" * (2 + len(RULES)) + "|")
        for row in rows(table):
            print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
