"""What a study costs: where the time of a small run goes, and whether a thousand runs are a thousand times one.

    python benchmarks/studies.py run                 one run of the long bench, in a process of its own and forked
    python benchmarks/studies.py scale 125 250 500   table and page of studies with so many finished runs

`run` says how the seconds are shared out and whether both runs wrote the same numbers. `scale` writes synthetic run
directories (200 steps, 400 test problems answered twice, as the long bench has them) and reports seconds and peak
memory of planning and of the page, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from amft.tasks.grading.sandbox import peak_memory_mb

LONG = "benchmarks/balance/long.yaml"
STEPS, PROBLEMS, SEEDS_OF = 200, 400, 25
"""Steps and test problems of a synthetic run; runs of each rule."""


def one_run(folder: Path) -> None:
    """A run in a process of its own, then the same one forked by a study's server; where its seconds went."""
    from amft.study import forks
    from amft.study.drive import command
    from amft.study.file import read_study
    from amft.study.plan import plan_runs

    (run, *_) = [run for run in plan_runs(read_study(LONG), folder / "forked") if run.rule == "fixed-0.5"]
    words = command(run)[2:]
    alone = [*words[: words.index("--output-dir") + 1], str(folder / "alone")]
    threads = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", *alone], check=True, env=threads, stdout=subprocess.DEVNULL)
    own = time.perf_counter() - started
    forks.serve({"OMP_NUM_THREADS": "1"})
    run.path.parent.mkdir(parents=True)
    _forked(["amft", "--version"], threads, folder)  # the server imports while the first process waits for it
    started = time.perf_counter()
    assert _forked(words, threads, folder) == 0, (folder / "log").read_text()
    forked = time.perf_counter() - started
    steps = [json.loads(line) for line in (run.path / "timings.jsonl").read_text().splitlines()]
    same = all((run.path / name).read_bytes() == (folder / "alone" / name).read_bytes() for name in ("metrics.jsonl",))
    spent = sum(row["time/step"] for row in steps)
    print(f"process of its own {own:.1f} s, forked {forked:.1f} s, steps {spent:.1f} s of it ({len(steps)} steps)")
    print(f"start, scores, validation, page: {own - spent:.1f} s alone, {forked - spent:.1f} s forked")
    print(f"metrics.jsonl equal to the byte: {same}")


def _forked(words: list[str], environment: dict[str, str], folder: Path) -> int:
    from amft.study import forks

    with open(folder / "lock", "w") as lock:
        process = forks.start(words, environment=environment, cores=None, log=folder / "log", kept=lock.fileno())
        return forks.wait(process)


def synthetic(folder: Path, runs: int) -> Path:
    """A study with so many finished runs, none of which was trained. Rules and seeds grow with it."""
    from amft.study.file import StudyFile
    from amft.study.plan import write_study

    rules = {f"rule-{i}": {"rule": "fixed", "mu": i / 1000} for i in range(max(1, runs // SEEDS_OF - 2))}
    study = StudyFile(
        recipe=LONG, rules=rules, grid=[0, 1], baseline="fixed-0", subject="rule-0", seeds=list(range(SEEDS_OF)),
        metrics={"outcome": "answer_probability"},
    )  # fmt: skip
    write_study(study, folder)
    for rule, arm in study.arms.items():
        for seed in study.seeds:
            _write(folder / "runs" / "all" / rule / f"seed-{seed}", arm["balance"], seed)
    return folder


def _write(place: Path, balance: dict[str, Any], seed: int) -> None:
    from amft.runs import RunDirectory

    rng = random.Random(f"{place}")
    run = RunDirectory.create(place)
    run.write("config", {"balance": balance, "seed": seed, "max_steps": STEPS, "checkpoint": {"keep_best": True}})
    run.write("env", {"parameters": 1000, "seed": seed})
    streams: dict[str, list[dict[str, Any]]] = {"metrics": [], "timings": [], "scores": []}
    for step in range(1, STEPS + 1):
        row = {"step": step, "mix/mu": 0.5, "tokens/demo": 10.0, "tokens/rollout": 30.0, "reward": rng.random()}
        streams["metrics"].append(row | ({"eval/val/success": rng.random()} if step % 40 == 0 else {}))
        streams["timings"].append({"step": step, "time/step": 0.1})
    for model in ("base", "policy"):
        for i in range(PROBLEMS):
            right = float(rng.random() < 0.5)
            said = {"key": str(i), "problem": i, "sample": 0, "prompt": "47,35=", "answer": "82", "correct": right}
            row = {"step": STEPS, "model": model, "split": "eval", **said, "reward": right, "outcome": None}
            streams["scores"].append(row | {"metrics": {"answer_probability": rng.random()}})
    for name, rows in streams.items():
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def page(folder: Path) -> None:
    """Seconds and peak memory of the page of one study, as a line of JSON."""
    from amft.report.study.page import write_study_report

    started = time.perf_counter()
    written = write_study_report(folder)
    peak = peak_memory_mb()
    size = written.stat().st_size / 1e6
    print(json.dumps({"seconds": time.perf_counter() - started, "peak MiB": peak, "page MB": size}))


def scale(folder: Path, sizes: list[int]) -> None:
    """The page of ever larger studies."""
    for runs in sizes:
        study = synthetic(folder / str(runs), runs)
        out = subprocess.run(
            [sys.executable, __file__, "page", str(study)], check=True, capture_output=True, text=True
        ).stdout
        found = json.loads(out.splitlines()[-1])
        made = sum(1 for _ in study.glob("runs/*/*/seed-*"))
        print(f"{made} runs: " + ", ".join(f"{name} {value:.1f}" for name, value in found.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "scale", "page"))
    parser.add_argument("given", nargs="*", help="scale: numbers of runs; page: a study directory")
    given = parser.parse_args()
    if given.what == "page":
        page(Path(given.given[0]))
        return
    with tempfile.TemporaryDirectory() as folder:
        if given.what == "run":
            one_run(Path(folder))
        else:
            scale(Path(folder), [int(number) for number in given.given] or [125, 250, 500, 1000])


if __name__ == "__main__":
    main()
