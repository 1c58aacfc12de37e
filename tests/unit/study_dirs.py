"""Writes synthetic study directories: what `amft compare` leaves, without training anything."""

from __future__ import annotations

import json

import numpy as np

from amft.runs import RunDirectory

STUDY = {
    "recipe": "general_points",
    "regimes": {"many": {}, "noisy": {"task.reward": "binary"}},
    "rules": {"amft": "amft", "sft": "sft", "rl": "rl"},
    "grid": [0, 0.5, 1],
    "tuned": {"fixed-tuned": ["fixed-0", "fixed-0.5", "fixed-1"]},
    "baseline": "sft",
    "seeds": [0, 1, 2, 3, 4],
    "metrics": {"splits": ["id", "rule_ood"], "ood": "rule_ood"},
}
LEVELS = {
    ("many", "amft"): 0.6, ("many", "sft"): 0.3, ("many", "rl"): 0.2, ("many", "fixed-0"): 0.2,
    ("many", "fixed-0.5"): 0.5, ("many", "fixed-1"): 0.3, ("noisy", "amft"): 0.5, ("noisy", "sft"): 0.1,
    ("noisy", "rl"): 0.4, ("noisy", "fixed-0"): 0.6, ("noisy", "fixed-0.5"): 0.4, ("noisy", "fixed-1"): 0.1,
}  # fmt: skip
HANDS, ORDERS, STEPS = 30, 2, 40


def study_file(**changes):
    from amft.study.file import StudyFile  # not above: what stands in for training need not wait for it

    return StudyFile(**{**STUDY, **changes})


def write_all(folder, levels=LEVELS, *, skip=(), **changes):
    """A whole study; `levels` gives (regime, rule) -> success on `id` (half of it on `rule_ood`)."""
    from amft.study.plan import write_study

    study = study_file(**changes)
    write_study(study, folder)
    for regime in study.cases:
        for rule, arm in study.arms.items():
            for seed in study.seeds:
                if (regime, rule, seed) not in skip:
                    place = folder / "runs" / regime / rule / f"seed-{seed}"
                    write_one(place, levels[regime, rule], seed, arm["balance"])
    return folder


def write_one(place, level, seed, balance, *, answers=True):
    rng = np.random.default_rng([seed, int(1000 * level)])
    run = RunDirectory.create(place)
    run.write(
        "config",
        {"balance": balance, "seed": seed, "max_steps": STEPS, "checkpoint": {"keep_best": True}, "num_iterations": 1},
    )
    run.write("env", {"parameters": 1000, "seed": seed})
    tilt = 0.02 * rng.normal()
    metrics, scores = [], []
    for step in range(1, STEPS + 1):
        row = {"step": step, "mix/mu": balance.get("mu", 0.5), "tokens/demo": 10.0, "tokens/demo_prompt": 20.0}
        if balance.get("mu") != 1 and balance["rule"] != "sft":
            row |= {"tokens/rollout": 30.0, "tokens/rollout_prompt": 40.0}
        if step % 10 == 0:
            row["eval/val/success"] = float(np.clip(level * step / STEPS + tilt, 0, 1))
        metrics.append(row)
    for model, scale in (("base", 0.0), ("policy", 1.0)) if answers else (("base", 0.0),):
        for split, share in (("id", 1.0), ("rule_ood", 0.5)):
            for problem in range(HANDS * ORDERS):
                p = scale * share * level + (tilt if scale else 0)
                row = {
                    "step": STEPS if scale else 0,
                    "model": model,
                    "split": split,
                    "key": f"hand {problem // ORDERS}",
                }
                right = bool(rng.random() < p)
                row |= {"problem": problem, "sample": 0, "correct": float(right), "reward": float(right)}
                scores.append(row | {"outcome": "correct" if right else "wrong"})
    timings = [{"step": step, "time/step": 0.5} for step in range(1, STEPS + 1)]
    for stream, rows in (("metrics", metrics), ("timings", timings), ("scores", scores)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (place / f"{stream}.jsonl").write_text(text, encoding="utf-8")
    return place
