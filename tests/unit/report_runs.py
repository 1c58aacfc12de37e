"""Writes synthetic run directories, through RunDirectory, that look like real ones."""

from __future__ import annotations

import numpy as np

from amft.runs import RunDirectory

HANDS = ["2 3 7 9", "A 5 J K", "3 3 8 8", "4 6 Q Q", "2 2 5 10", "7 7 8 9", "A A J Q", "4 5 6 9"]
OUTCOMES = ("parse_error", "wrong_numbers", "wrong_value")


def config(**changes):
    base = {
        "output_dir": "runs/test",
        "seed": 0,
        "max_steps": 200,
        "sft_warmup_steps": 20,
        "model": "nano",
        "task": {"id": "general_points-v1", "options": {"reward": "binary"}},
        "num_prompts": 16,
        "num_generations": 8,
        "num_demos": 64,
        "temperature": 1.0,
        "max_completion_length": 96,
        "learning_rate": 1e-3,
        "loss_type": "dapo",
        "eval": {"steps": 20, "problems": 128, "test_splits": None, "test_problems": 60},
        "sample_steps": 20,
        "beta": 0.0,
        "max_grad_norm": 1.0,
        "entropy_coef": 0.001,
        "max_seconds": None,
        "balance": {"rule": "amft-scalar", "mu_init": 0.5, "mu_min": 0.05, "mu_max": 0.95},
        "checkpoint": {"keep_best": False},
    }
    return {**base, **changes}


ENV = {
    "command": "amft train general-points --set max_steps=200",
    "seed": 0,
    "started": "2026-11-23T15:00:00Z",
    "versions": {"amft": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "transformers": "5.23.0"},
    "hardware": {"cpu": "2 cores", "gpu": None, "memory_gb": 7.6},
}


def metric_rows(steps=200, warmup=20, seed=0):
    """A run that goes well: mu falls, reward climbs, entropy stays near H*."""
    rng = np.random.default_rng(seed)
    for step in range(1, steps + 1):
        row = {"step": step, "learning_rate": 1e-3, "sft/loss": 0.4 + 1.5 * np.exp(-step / 40) + 0.03 * rng.normal()}
        row |= {"sft/token_accuracy": 0.9 - 0.3 * np.exp(-step / 40), "tokens/demo": 64 * 40, "grad_norm": 0.8}
        row["mix/grad_norm_sft"] = float(0.9 + 0.1 * rng.normal())
        if step % 20 == 0:
            row["eval/val/success"] = float(np.clip(0.1 + 0.4 * step / steps + 0.03 * rng.normal(), 0, 1))
        row["phase"] = "warmup" if step <= warmup else "mix"
        if step > warmup:
            row |= _mixing(step - warmup, steps, rng)
        yield {name: float(v) if isinstance(v, np.floating) else v for name, v in row.items()}


def _mixing(t, steps, rng):
    progress = t / steps
    return {
        "mix/mu": 0.5 - 0.3 * progress + 0.01 * rng.normal(),
        "mix/meta_grad": None if t < 6 else 1e-4 * (rng.normal() - 0.4),
        "mix/meta_grad_snr": 0.5 + 2 * progress,
        "mix/meta_cos": 0.03 * rng.normal(),
        "mix/entropy_push": 0.01 * rng.normal(),
        "mix/grad_norm_rl": abs(0.6 + 0.2 * rng.normal()),
        "mix/grad_cos": 0.1 + 0.1 * rng.normal(),
        "policy_loss": 0.02 * rng.normal(),
        "entropy": 0.55 + 0.05 * rng.normal() - 0.1 * progress,
        "entropy_target": 0.5,
        "reward": float(np.clip(0.15 + 0.4 * progress + 0.05 * rng.normal(), 0, 1)),
        "reward_std": 0.4,
        "frac_reward_zero_std": float(np.clip(0.3 + 0.08 * rng.normal(), 0, 1)),
        "completions/mean_length": 50 + 3 * rng.normal(),
        "completions/clipped_ratio": abs(0.02 * rng.normal()),
        "clip_ratio/region_mean": 0.01,
        "tokens/rollout": 128 * 50,
    }


def sample_row(step, right, prompt="Make 24.\nCards: 2, 3, 7, 9", text='{"formula":"(7*3-9)*2=24"}'):
    answers = [
        {"text": text, "reward": 1.0, "outcome": "correct"}
        if i < right
        else {"text": '{"formula":"7+9+3+2=24"}', "reward": 0.0, "outcome": OUTCOMES[i % 3]}
        for i in range(4)
    ]
    message = [{"role": "user", "content": prompt}]
    return {"step": step, "key": "2 3 7 9", "prompt": message, "demonstration": text, "completions": answers}


def score_rows(split, before, after, *, hands=60, orders=2, steps=(0, 200), seed=1):
    """Success with a difficulty shared by the orders of a hand."""
    rng = np.random.default_rng(seed)
    shift = 0.5 * rng.normal(size=hands)
    for model, level, step in (("base", before, steps[0]), ("policy", after, steps[1])):
        if level is None:
            continue
        for hand in range(hands):
            for order in range(orders):
                p = level if level in (0, 1) else 1 / (1 + np.exp(-(np.log(level / (1 - level)) + shift[hand])))
                right = bool(rng.random() < p)
                yield {
                    "step": step,
                    "model": model,
                    "split": split,
                    "key": f"hand {hand}",
                    "problem": f"{hand}-{order}",
                    "sample": 0,
                    "correct": right,
                    "reward": float(right),
                    "outcome": "correct" if right else OUTCOMES[hand % 3],
                }


def write_run(path, *, config_changes=None, metrics=None, scores=None, samples=None, events=(), env=ENV):
    """A whole run directory; `metrics`, `scores` and `samples` replace the rows of the run that goes well."""
    run = RunDirectory.create(path)
    run.write("config", config(**(config_changes or {})))
    if env is not None:
        run.write("env", env)
    rows = list(metric_rows()) if metrics is None else list(metrics)
    for row in rows:
        run.append("metrics", row)
        run.append("timings", {"step": row["step"], "time/step": 0.5, "time/generate": 0.3})
    if scores is None:
        scores = [
            *score_rows("id", 0.12, 0.5),
            *score_rows("rule_ood", 0.2, 0.2, seed=2),
            *score_rows("seen", 0.1, 0.6, seed=3),
        ]
    for row in scores:
        run.append("scores", row)
    for row in [sample_row(20 * i, min(i, 4)) for i in range(2, 11)] if samples is None else samples:
        run.append("samples", row)
    for row in events:
        run.append("events", row)
    return path


def changed(steps=200, **metrics):
    """The good run's rows with some single-stage metrics replaced: a number, a function of the step, or None."""
    for row in metric_rows(steps):
        if row["phase"] == "mix":
            for name, value in metrics.items():
                row[name] = value(row["step"]) if callable(value) else value
        yield row
