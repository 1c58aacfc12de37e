"""Rollouts drawn while the step before trains (`ahead: 1`) against drawn when they are needed: seconds a step, success.

python benchmarks/ahead.py runs/ahead                  # 5 seeds x 2, vLLM in a process of its own; needs 2 quiet cores
python benchmarks/ahead.py runs/ahead-cards --seeds 3 --recipe general_points \\
    --set max_steps=14 --set 'eval.test_splits=[]'
python benchmarks/ahead.py runs/ahead --table          # only the table, of what is there

In both, sampling and training cost about alike: see the parts of a step with `ahead: 0`. The first is for success: a
step of 0.4 s is in good part requests and pushed weights. The second, with steps of 4 s, is for the seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from amft.stats.crossed import ClusteredScores, estimate, resample

AHEAD = (0, 1)
SETTINGS = [
    "engine=vllm",
    "dtype=float32",
    "learning_rate=1e-3",
    "eval.steps=0",
    "checkpoint.keep_best=false",
    "checkpoint.steps=0",
    "sample_steps=0",
    "eval.test_splits=[id]",
    "threads=1",
]
SKIPPED = 3
"""First steps, in which both sides warm up."""


def train(folder: Path, recipe: str, ahead: int, seed: int, more: list[str]) -> None:
    """One run; one that is there is not made again."""
    run = folder / f"ahead{ahead}-{seed}"
    if not (run / "report.html").is_file():
        settings = [*SETTINGS, *more, f"ahead={ahead}", f"seed={seed}"]
        command = ["-m", "amft", "train", recipe, "--output-dir", str(run)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, *command, *(f"--set={one}" for one in settings)], check=True, env=environment)


def lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def scores(runs: list[Path]) -> ClusteredScores:
    """Success after training, seeds by pairs of numbers."""
    found = [[row for row in lines(run / "scores.jsonl") if row["model"] == "policy"] for run in runs]
    keys = sorted({row["key"] for run in found for row in run})
    sums = [[float(sum(row["correct"] for row in run if row["key"] == key)) for key in keys] for run in found]
    counts = [[float(sum(row["key"] == key for row in run)) for key in keys] for run in found]
    names = tuple(run.name.rpartition("-")[2] for run in runs)
    return ClusteredScores(np.array(sums), np.array(counts), names, tuple(map(str, keys)))


def show(folder: Path) -> None:
    """Seconds a step with their parts, and success with its interval where there is any."""
    taken, draws = {}, {}
    for ahead in AHEAD:
        runs = sorted(folder.glob(f"ahead{ahead}-*"))
        steps = [row for run in runs for row in lines(run / "timings.jsonl")[SKIPPED:]]
        taken[ahead] = float(np.median([row["time/step"] for row in steps]))
        parts = {name: float(np.median([row[f"time/{name}"] for row in steps])) for name in ("generate", "backward")}
        print(f"ahead {ahead}: {taken[ahead]:.3f} s a step (waiting for rollouts {parts['generate']:.3f}, training "
              f"{parts['backward']:.3f}), {len(runs)} seeds")  # fmt: skip
        if all((run / "scores.jsonl").is_file() for run in runs):
            draws[ahead] = resample(scores(runs))
            whole = estimate(draws[ahead], limits=(0.0, 1.0))
            print(f"  success {whole.value:.1%} [{whole.low:.1%}, {whole.high:.1%}]")
    print(f"seconds {taken[1] / taken[0]:.2f} of ahead 0")
    if len(draws) == len(AHEAD):
        gap = estimate(draws[1] - draws[0])
        print(f"success {gap.value:+.1%} [{gap.low:+.1%}, {gap.high:+.1%}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipe", default="benchmarks/balance/recipe.yaml")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], help="a setting of both, KEY=VALUE")
    parser.add_argument("--table", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    for seed in range(0 if arguments.table else arguments.seeds):
        for ahead in AHEAD:
            train(arguments.folder, arguments.recipe, ahead, seed, arguments.set)
    show(arguments.folder)


if __name__ == "__main__":
    main()
