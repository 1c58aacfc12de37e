"""AMFT through `decode` and through vLLM: the same recipe and seeds, success on the same held-out problems.

python benchmarks/engines.py runs/engines                      # 3 seeds x 2 engines; a minute or two of CPU each
python benchmarks/engines.py runs/engines --table              # only the table, of what is there
python benchmarks/engines.py runs/engines-real --real          # SmolLM2-135M (`amft fetch smollm2`), ten minutes a run

Only the random numbers differ: `decode` draws by inversion from one stream, vLLM from a seed per prompt.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from amft.stats.crossed import ClusteredScores, estimate, resample

ENGINES = {"decode": ["engine=decode"], "vllm": ["engine=vllm"]}
SETTINGS = [
    "dtype=float32",
    "max_steps=100",
    "learning_rate=1e-3",
    "eval.steps=0",
    "checkpoint.keep_best=false",
    "checkpoint.steps=0",
    "sample_steps=0",
    "eval.test_splits=[id]",
]
REAL = ["dtype=float32", "eval.steps=0", "eval.test_samples=1"]
"""Of recipes/smollm2/sums.yaml."""

SEEDS = (0, 1, 2)


def train(folder: Path, engine: str, seed: int, recipe: str, shared: list[str]) -> Path:
    """The run's directory; a run that is there is not made again."""
    run = folder / f"{engine}-{seed}"
    if not (run / "report.html").is_file():
        settings = [*shared, *ENGINES[engine], f"seed={seed}"]
        command = ["-m", "amft", "train", recipe, "--output-dir", str(run)]
        subprocess.run([sys.executable, *command, *(f"--set={setting}" for setting in settings)], check=True)
    return run


def scores(runs: list[Path], model: str) -> ClusteredScores:
    """Seeds by pairs of numbers."""
    lines = [
        [json.loads(line) for line in (run / "scores.jsonl").read_text(encoding="utf-8").splitlines()] for run in runs
    ]
    rows = [[row for row in run if row["model"] == model] for run in lines]
    keys = sorted({row["key"] for run in rows for row in run})
    sums = [[float(sum(row["correct"] for row in run if row["key"] == key)) for key in keys] for run in rows]
    counts = [[float(sum(row["key"] == key for row in run)) for key in keys] for run in rows]
    return ClusteredScores(np.array(sums), np.array(counts), tuple(run.name[-1] for run in runs), tuple(keys))


def show(folder: Path) -> None:
    """Success of each run, and of each engine with its interval over seeds and problems."""
    found = {}
    for engine in ENGINES:
        runs = sorted(folder.glob(f"{engine}-*"))
        before, after = scores(runs, "base"), scores(runs, "policy")
        found[engine] = resample(after)
        whole = estimate(found[engine], limits=(0.0, 1.0))
        each = ", ".join(f"{one:.1%}" for one in after.by_run)
        print(f"{engine:14} before {before.by_run.mean():5.1%}, after {each}: "
              f"{whole.value:.1%} [{whole.low:.1%}, {whole.high:.1%}], {whole.clusters} pairs")  # fmt: skip
    gap = estimate(found["vllm"] - found["decode"])
    print(f"vllm - decode  {gap.value:+.1%} [{gap.low:+.1%}, {gap.high:+.1%}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--real", action="store_true", help="a real model learns two-digit sums")
    parser.add_argument("--max-steps", type=int, help="steps of a run, if not the recipe's")
    parser.add_argument("--table", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    recipe, shared = "benchmarks/balance/recipe.yaml", SETTINGS
    if arguments.real:
        recipe, shared = "recipes/smollm2/sums.yaml", REAL
    if arguments.max_steps is not None:
        shared = [*shared, f"max_steps={arguments.max_steps}"]
    if not arguments.table:
        for seed in SEEDS:
            for engine in ENGINES:
                train(arguments.folder, engine, seed, recipe, shared)
    show(arguments.folder)


if __name__ == "__main__":
    main()
