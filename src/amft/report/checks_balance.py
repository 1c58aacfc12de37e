"""Checks of the balance: does each branch still teach, and does the meta-gradient mean anything?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .finding import Finding, Level
from .load import Run

SILENT = 0.02
"""A branch with less than this share of the step is silent."""
PINNED = 0.8
"""mu is stuck when it sits at a bound in this share of the late steps."""
SIGNAL = 2.0
"""A mean fewer standard errors than this from zero cannot be told from it."""
ENOUGH = 20
"""Fewest measurements a statement about noise needs."""


def now(run: Run, *names: str) -> str:
    """Config fields with their values in this run: `num_generations (now 8)`; dots reach into a mapping."""
    return ", ".join(_field(run, name) for name in names)


def _field(run: Run, name: str) -> str:
    holder, _, inner = name.partition(".")
    value = run.balance.get(inner) if holder == "balance" and inner else run.setting(name)
    return name if value is None else f"{name} (now {value})"


def silent_branch(run: Run) -> Iterator[Finding]:
    """Whether one of the two gradients has next to no part in the step: `mu |g_sft|` against `(1 - mu) |g_rl|`."""
    mu, share = run.late("mix/mu"), imitation_share(run)
    if not mu.size or not share.size:
        return
    middle = float(np.median(share))
    if SILENT <= middle <= 1 - SILENT:
        return
    fixed = float(np.ptp(mu)) == 0
    if fixed and mu[0] in (0, 1):
        return
    level: Level = "note" if fixed else "warn"
    tail = " (μ never moved, so this may be meant)" if fixed else ""
    evidence = f"Median share of imitation in the step {100 * middle:.1f} %, mean μ {mu.mean():.3f}{_norms(run)}{tail}."
    if middle < SILENT:
        action = f"Raise {now(run, 'balance.mu_min')}, or take more {now(run, 'num_demos')}."
        yield Finding(level, "Imitation is silent", evidence, action)
        return
    flat = run.late("frac_reward_zero_std")
    action = f"Lower {now(run, 'balance.mu_max')}, or take more {now(run, 'num_prompts', 'num_generations')}."
    if flat.size and flat.mean() > 0.5:
        action = "Most groups have no spread of rewards; follow that finding first."
    yield Finding(level, "Exploration is silent", evidence, action)


def imitation_share(run: Run) -> np.ndarray:
    """`mu |g_sft| / (mu |g_sft| + (1 - mu) |g_rl|)` at every late step; mu alone where norms were not measured."""
    mu, sft, rl = (run.late(name) for name in ("mix/mu", "mix/grad_norm_sft", "mix/grad_norm_rl"))
    if not mu.size or mu.size != sft.size or mu.size != rl.size:
        return mu
    parts = np.stack([mu * sft, (1 - mu) * rl])
    total = parts.sum(0)
    return parts[0][total > 0] / total[total > 0]


def _norms(run: Run) -> str:
    sft, rl = run.late("mix/grad_norm_sft"), run.late("mix/grad_norm_rl")
    return (
        f", gradient norms {sft.mean():.3g} (imitation) and {rl.mean():.3g} (exploration)"
        if sft.size and rl.size
        else ""
    )


def mu_at_bound(run: Run) -> Iterator[Finding]:
    """Whether a moving mu has run into one of its bounds and stays there."""
    mu = run.late("mix/mu")
    _, whole = run.measured("mix/mu", mixing=True)
    if not mu.size or np.ptp(whole) == 0:
        return
    for name, way in (("mu_min", "Lower"), ("mu_max", "Raise")):
        bound = run.balance.get(name)
        if not isinstance(bound, (int, float)):
            continue
        share = float(np.mean(np.abs(mu - bound) < 1e-3))
        if share >= PINNED:
            action = f"{way} {now(run, f'balance.{name}')} if the bound was only a guess; else a fixed rule is cheaper."
            evidence = f"μ is within 0.001 of {bound} in {100 * share:.0f} % of the second half of the run."
            yield Finding("warn", f"μ is stuck at {name}", evidence, action)


def meta_signal(run: Run) -> Iterator[Finding]:
    """Whether the mean meta-gradient can be told from zero, by its standard error over the late steps."""
    values = run.late("mix/meta_grad")
    if len(values) < ENOUGH:
        return
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    if error == 0 or abs(float(values.mean())) >= SIGNAL * error:
        return
    logged = run.late("mix/meta_grad_snr")
    snr = f"; the logged signal-to-noise ratio has median {np.median(logged):.2f}" if logged.size else ""
    evidence = (
        f"Mean {values.mean():.2g} ± {error:.2g} (standard error) over {len(values)} measurements: "
        f"{abs(values.mean()) / error:.1f} standard errors from zero{snr}."
    )
    action = (
        f"Read little into the path of μ. Larger {now(run, 'num_prompts', 'num_generations')} or a smaller "
        "balance.eta_mu make its path steadier; a fixed μ may do as well."
    )
    yield Finding("note", "The meta-gradient cannot be told from noise", evidence, action)


BALANCE_CHECKS = (silent_branch, mu_at_bound, meta_signal)
