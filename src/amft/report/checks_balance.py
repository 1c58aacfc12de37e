"""Checks of the balance: does each branch still teach, and does the meta-gradient mean anything?"""

from __future__ import annotations

import math

import numpy as np

from ..balance.describe import describe
from ..balance.registry import RULES
from .class_weights import LITTLE, class_weights
from .finding import Level, Remark, down, up
from .load import Floats, Run
from .progress import rose

SILENT = 0.02
"""A branch with less than this share of the step is silent."""
PINNED = 0.8
"""mu is stuck when it sits at a bound in this share of the late steps."""
SIGNAL = 2.0
"""A mean fewer standard errors than this from zero cannot be told from it."""
_META = "mix/meta_grad"
OPPOSED = -0.2
"""Gradients oppose each other below this mean cosine."""
ENOUGH = 20
"""Fewest measurements a statement about noise needs."""
_WEIGHTS = {
    bound: (f"balance.mu_{bound}", "balance.mu", "balance.sft", f"balance.right_{bound}") for bound in ("min", "max")
}
"""Settings of the weight of imitation; a rule has one of them, or none."""


def balance(run: Run) -> Remark | None:
    """Whether the balance has run into a bound, or one of the two gradients has next to no part in the step."""
    _, whole = run.measured("mix/mu", mixing=True)
    late = run.late("mix/mu")
    if not late.size or _by_steps(whole):
        return None
    if np.ptp(whole) == 0 and "mu_min" not in run.balance:
        return _silent(run, f"μ is {late[0]:g} in every step, so this may be meant", "note")
    if _by_schedule(run):
        return None
    path = f"μ went from {whole[0]:.2f} to {whole[-1]:.2f}"
    meant = run.balance.get("rule") in RULES and "mu_min" not in run.balance  # a rule of ours that may reach zero
    return _at_bound(run, late, path) or _silent(run, path, "note" if meant else "warn")


def _by_steps(mu: Floats) -> bool:
    """Whether every step either imitates or explores, so that its share says nothing about the balance."""
    return bool(np.isin(mu, (0.0, 1.0)).all())


def _by_schedule(run: Run) -> bool:
    """Whether the rule is one of ours whose weights depend on the step alone: their path is what was asked for."""
    return any(entry["rule"] == run.balance.get("rule") and not entry["needs"] for entry in describe())


def _at_bound(run: Run, late: Floats, path: str) -> Remark | None:
    for name, tries in (("mu_min", down("balance.mu_min")), ("mu_max", up("balance.mu_max"))):
        bound = run.balance.get(name)
        if not isinstance(bound, (int, float)):
            continue
        share = float(np.mean(np.abs(late - bound) < 1e-3))
        if share >= PINNED:
            evidence = f"{path}, and is within 0.001 of {bound} in {100 * share:.0f} % of the second half."
            hint = "If the bound is meant, a fixed rule is cheaper."
            return Remark("note" if rose(run) else "warn", f"μ is stuck at {name}", evidence, tries, hint)
    return None


def _silent(run: Run, path: str, level: Level) -> Remark | None:
    """Whether the share of imitation in the late steps leaves one branch next to nothing."""
    share = imitation_share(run)
    if not share.size or SILENT <= (middle := float(np.median(share))) <= 1 - SILENT:
        return None
    evidence = f"Median share of imitation in the step {100 * middle:.1f} % in the second half{_norms(run)}; {path}."
    more = ("num_demos",) if level == "warn" else ()
    if middle < SILENT:
        return Remark(level, "Imitation is silent", evidence, up(*_WEIGHTS["min"], *more))
    flat = run.late("frac_reward_zero_std")
    if flat.size and flat.mean() > 0.5:
        return Remark(
            level, "Exploration is silent", evidence, hint="Most groups have equal rewards: look there first."
        )
    tries = (*down(*_WEIGHTS["max"]), *up("num_prompts", "num_generations"))
    return Remark(level, "Exploration is silent", evidence, tries)


def imitation_share(run: Run) -> Floats:
    """`w_sft |g_sft| / (w_sft |g_sft| + w_rl |g_rl|)` at every late step; the weights alone without measured norms.

    With classes of demonstrations, `w_sft |g_sft|` is the sum of `w_c |g_c|` over them.
    """
    if classes := class_weights(run):
        imitation = sum((_strength(run, f"sft/{name}") for name in classes), np.zeros(1))
        total = imitation + _strength(run, "rl")
        return imitation[total > 0] / total[total > 0]
    mu, sft, rl = (run.late(name) for name in ("mix/mu", "mix/grad_norm_sft", "mix/grad_norm_rl"))
    other = run.late("mix/weight_rl")
    weights = np.stack([mu, other if other.size == mu.size else 1 - mu])
    parts = weights * np.stack([sft, rl]) if sft.size == rl.size == mu.size else weights
    total = parts.sum(0)
    return parts[0][total > 0] / total[total > 0]


def _strength(run: Run, branch: str) -> Floats:
    """What a branch puts into each late step, `w |g|`; its weight where norms are not measured, 0 where it is not."""
    weights, norms = (run.late(f"mix/{what}/{branch}", absent=0.0) for what in ("weight", "grad_norm"))
    return weights * norms if f"mix/grad_norm/{branch}" in run.metrics else weights


def _norms(run: Run) -> str:
    sft, rl = run.late("mix/grad_norm_sft"), run.late("mix/grad_norm_rl")
    return (
        f", gradient norms {sft.mean():.3g} (imitation) and {rl.mean():.3g} (exploration)"
        if sft.size and rl.size
        else ""
    )


def meta_signal(run: Run) -> Remark | None:
    """Whether a mean meta-gradient can be told from zero, over the whole single stage or over its second half.

    With classes of demonstrations there is one for each; the one that stands furthest above its noise speaks for all.
    """
    names = [name for name in run.metrics if name == _META or name.startswith(f"{_META}/")]
    seen = {name: (run.late(name), run.measured(name, mixing=True)[1]) for name in names}
    told = {name: max(map(_errors_from_zero, pair)) for name, pair in seen.items() if len(pair[0]) >= ENOUGH}
    if not told or max(told.values()) >= SIGNAL:
        return None
    best = max(told, key=told.__getitem__)
    (late, whole), logged = seen[best], run.late(best.replace(_META, f"{_META}_snr"))
    snr = f"; the logged signal-to-noise ratio has median {np.median(logged):.2f}" if logged.size else ""
    evidence = (
        f"Its mean is {_errors_from_zero(whole):.1f} standard errors from zero over {len(whole)} measurements, and "
        f"{_errors_from_zero(late):.1f} over the {len(late)} of the second half{snr}."
    )
    tries = (*up("num_prompts", "num_generations"), *down("balance.eta_mu", "balance.eta"))
    hint = "Read little into the path of μ; a fixed μ may do as well."
    return Remark("note", "The meta-gradient cannot be told from noise", evidence, tries, hint)


def _errors_from_zero(values: Floats) -> float:
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return abs(float(values.mean())) / error if error else math.inf


def gradients(run: Run) -> Remark | None:
    """Whether imitation and exploration pull against each other most of the time.

    Of several classes of demonstrations, the most opposed of those that count.
    """
    counting = [name for name in class_weights(run) if run.late(f"mix/weight/sft/{name}").mean() > LITTLE]
    names = ("mix/grad_cos", *(f"mix/grad_cos/sft/{name}" for name in counting))
    means = [float(cosine.mean()) for name in names if (cosine := run.late(name)).size]
    if not means or min(means) >= OPPOSED:
        return None
    evidence = f"Mean cosine of the two gradients {min(means):.2f} in the second half."
    hint = "Read some demonstrations: are they right?"
    return Remark("note", "Imitation and exploration oppose each other", evidence, hint=hint)
