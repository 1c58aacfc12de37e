"""The first comparison: sft, rl, sft-then-rl, fixed 0.5 and amft at one budget on GeneralPoints, several seeds.

    python benchmarks/general_points.py --output runs/first --seeds 0 1 2 [--jobs 2] [--set key=value ...]

Every arm takes the same number of steps with the same prompts, completions and demonstrations per step (an arm that
gives a branch no weight does not pay for it: the table shows tokens and seconds). Each run is a process of its own
with its own threads; finished runs are kept, so the command can be repeated. The table is rebuilt from the run
directories alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

from amft.evaluation.score import success
from amft.runs import RunDirectory

ARMS = {
    "sft": ["balance=sft"],
    "rl": ["balance=rl"],
    "sft-then-rl": ["balance=sft-then-rl"],
    "fixed-0.5": ["balance=fixed", "balance.mu=0.5"],
    "amft": [],
}


def train(arm: str, seed: int, arguments: argparse.Namespace, cores: Queue[str]) -> str:
    """Run one arm unless its table is there already."""
    directory = arguments.output / f"{arm}-seed{seed}"
    if (directory / "report.html").exists():
        return f"{arm} seed {seed}: kept"
    settings = [*ARMS[arm], f"seed={seed}", "threads=1", *arguments.set]
    command = [sys.executable, "-m", "amft", "train", arguments.recipe, "--output-dir", str(directory)]
    for setting in settings:
        command += ["--set", setting]
    if (directory / "config.json").exists():
        command.append("--resume")
    core = cores.get()
    try:
        done = subprocess.run(
            ["taskset", "-c", core, *command],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        cores.put(core)
    (arguments.output / f"{arm}-seed{seed}.log").write_text(done.stdout + done.stderr)
    return f"{arm} seed {seed}: " + ("done" if done.returncode == 0 else f"failed with {done.returncode}")


def table(output: Path, seeds: list[int]) -> Iterator[str]:
    """One row per arm and split: success over all seeds' answers, clustered by the hand's values."""
    yield "| arm | split | base | after | 95 % | by seed | rollout tokens | demo tokens | seconds |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for arm in ARMS:
        runs = [RunDirectory(output / f"{arm}-seed{seed}") for seed in seeds]
        runs = [run for run in runs if (run.path / "report.html").exists()]
        if not runs:
            continue
        for split in ("id", "rule_ood", "seen"):
            scores = [[row for row in run.rows("scores") if row["split"] == split] for run in runs]
            after = [[row for row in rows if row["model"] == "policy"] for rows in scores]
            base = success([row for rows in scores for row in rows if row["model"] == "base"])
            found = success([row for rows in after for row in rows])
            each = " ".join(f"{success(rows).mean:.3f}" for rows in after)
            spent = [_spent(run) for run in runs]
            tokens, demos, seconds = (sum(values) / len(spent) for values in zip(*spent))
            yield (
                f"| {arm} | {split} | {base.mean:.3f} | {found.mean:.3f} | [{found.low:.3f}, {found.high:.3f}] "
                f"| {each} | {tokens:,.0f} | {demos:,.0f} | {seconds:,.0f} |"
            )


def _spent(run: RunDirectory) -> tuple[float, float, float]:
    metrics, timings = list(run.rows("metrics")), list(run.rows("timings"))
    return (
        sum(row.get("tokens/rollout", 0.0) for row in metrics),
        sum(row.get("tokens/demo", 0.0) for row in metrics),
        sum(row["time/step"] for row in timings),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/first"))
    parser.add_argument("--recipe", default="general_points")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one core each")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for every arm")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    cores: Queue[str] = Queue()
    for core in range(arguments.jobs):
        cores.put(str(core))
    with ThreadPoolExecutor(arguments.jobs) as pool:
        jobs = [pool.submit(train, arm, seed, arguments, cores) for seed in arguments.seeds for arm in arguments.arms]
        for job in jobs:
            print(job.result(), flush=True)
    lines = list(table(arguments.output, arguments.seeds))
    (arguments.output / "table.md").write_text("\n".join(lines) + "\n")
    (arguments.output / "arguments.json").write_text(json.dumps(vars(arguments), default=str, indent=2))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
