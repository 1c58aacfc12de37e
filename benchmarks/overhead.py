"""What the meta-gradient costs: CPU seconds of a step and peak memory of four trainers, measured side by side.

    python benchmarks/overhead.py [--steps 20] [--threads 1]

`--task benchmarks/balance/sums.py:Sums --options '{"demos": "noisy"}'` has right and wrong demonstrations, two classes;
so has `--model smollm2 --task recipes/smollm2/study_task.py:StudySums` with these options, on a real model.

`GRPO + SFT` is a fixed mu on the joint path. The trainers take the same steps in turn (A B C A B C ...), from
the same weights, with a learning rate so small that they keep sampling the same rollouts; the ratios are of summed
step times, so that a drift of the machine's speed falls on all. Peak memory is that of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from amft.tasks.grading.sandbox import peak_memory_mb

ARMS = {
    "GRPO + SFT": {"rule": "fixed", "mu": 0.5},
    "amft-scalar, lookahead": {"rule": "amft-scalar", "entropy": "target"},
    "amft-scalar, heldout / 10 steps": {"rule": "amft-scalar", "utility": "heldout"},
    "amft": {"rule": "amft"},
}


def build(arm: str, directory: str, arguments: argparse.Namespace):
    from amft.settings.config import AMFTConfig
    from amft.tasks.registry import build_task
    from amft.training.trainer import AMFTTrainer

    config = AMFTConfig(
        output_dir=f"{directory}/{arm.replace(' ', '-').replace('/', '')}",
        max_steps=arguments.steps + 2,
        balance=ARMS[arm],
        learning_rate=1e-9,
        num_prompts=arguments.prompts,
        num_demos=arguments.demos,
        max_completion_length=arguments.length,
        eval={"steps": 0, "test_splits": []},
        sample_steps=0,
        entropy_target=1.0,
        threads=arguments.threads,
        dtype=arguments.dtype,
    )
    Path(config.output_dir).mkdir()  # nobody opens the run here, but steps write events
    return AMFTTrainer(arguments.model, config, task=build_task(arguments.task, **json.loads(arguments.options)))


def steps(trainer, n: int):
    """CPU seconds of each step, of all threads."""
    from amft.training.guard import NonFiniteGuard

    guard = NonFiniteGuard(5, Path(trainer.config.output_dir))
    for _ in range(n):
        begun = time.process_time()
        trainer.one_step(guard)
        yield time.process_time() - begun
        trainer.step += 1


def peak(arm: str, arguments: argparse.Namespace) -> float:
    """Peak resident memory of a process that trains one arm, MB."""
    command = [sys.executable, __file__, "--arm", arm, "--steps", "12"]
    for name in ("model", "prompts", "demos", "threads", "dtype", "task", "options", "length"):
        command += [f"--{name}", str(getattr(arguments, name))]
    return float(
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="a multiple of 10, so that heldout pays its share")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--demos", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--task", default="general_points")
    parser.add_argument("--options", default="{}", help="of the task, JSON")
    parser.add_argument("--length", type=int, default=80, help="tokens of an answer")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="the first divides the others")
    parser.add_argument("--no-peak", action="store_true", help="seconds alone")
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        if arguments.arm:
            list(steps(build(arguments.arm, directory, arguments), arguments.steps))
            print(peak_memory_mb())
            return
        trainers = {arm: build(arm, directory, arguments) for arm in arguments.arms}
        running = {arm: steps(trainer, arguments.steps + 1) for arm, trainer in trainers.items()}
        for run in running.values():
            next(run)  # warm-up
        seconds: dict[str, list[float]] = {arm: [] for arm in arguments.arms}
        for _ in range(arguments.steps):
            for arm, run in running.items():
                seconds[arm].append(next(run))
    first = seconds[arguments.arms[0]]
    print(
        f"{platform.processor() or platform.machine()}, {arguments.threads} threads, {arguments.dtype}, "
        f"{arguments.steps} steps"
    )
    print(f"{'':26}{'median s':>10}{'mean s':>10}{'ratio':>8}{'paired median ratio':>22}{'peak MB':>10}")
    for arm, values in seconds.items():
        paired = statistics.median(a / b for a, b in zip(values, first))
        print(
            f"{arm:26}{statistics.median(values):10.3f}{statistics.mean(values):10.3f}{sum(values) / sum(first):8.3f}"
            f"{paired:22.3f}" + ("" if arguments.no_peak else f"{peak(arm, arguments):10.0f}")
        )


if __name__ == "__main__":
    main()
