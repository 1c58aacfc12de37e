"""A step that learns its weights: the gradients of its branches are kept apart, and the weights move between them."""

from __future__ import annotations

from typing import Any

from ..meta import MixGrad
from ..signals.base import Cost
from ..types import RL, SFT
from .backend import StepBackend
from .balancer import Balancer
from .branch import StepResult
from .imitate import imitate


def gradients_apart(backend: StepBackend[Any], balancer: Balancer, at: int, mix: MixGrad) -> StepResult:
    """One step under a rule that reads the meta-gradient; the numbers are those of docs/method.md, one step in order.

    Args:
        backend: computes.
        balancer: the rule.
        at: steps of the single stage done.
        mix: holds the gradients of this step and the effects of the previous ones.
    """
    probed = backend.probe(at)  # the utilities heldout and likelihood; they need data of their own
    rollouts, known = backend.collect(at)  # 1
    slopes = backend.entropy_slopes(rollouts)
    policy_loss, sums = backend.gradient(backend.exploration(rollouts))  # 2: p.grad = g_rl
    sums |= known
    observed = backend.observe(rollouts) or probed  # 3: eq 5 for the previous step
    branches = backend.imitation(rollouts) if balancer.requirements.costs(Cost.DEMONSTRATIONS) else None
    weights, row = balancer.weigh(backend.moment(at, rollouts, sums, branches or ()), observed, slopes)  # 4: eq 6
    mix.stash(RL)  # 5
    result = StepResult(weights, row, {"policy_loss": policy_loss}, sums)
    imitate(backend, backend.imitation(rollouts) if branches is None else branches, result, after_each=mix.stash)
    mixed = mix.combine(weights)  # 6: eq 3
    row |= _gradient_metrics(mixed.norms, mixed.cosines)
    if balancer.entropy_target is not None:
        row["entropy_target"] = balancer.entropy_target
    result.grad_norm = backend.update(weights, result.losses)  # 7: clip, step, effects through both Jacobians
    return result


def _gradient_metrics(norms: Any, cosines: Any) -> dict[str, float]:
    if cosines.keys() == {SFT}:
        return {"mix/grad_norm_sft": norms[SFT], "mix/grad_norm_rl": norms[RL], "mix/grad_cos": cosines[SFT]}
    named = {f"mix/grad_norm/{branch}": norm for branch, norm in norms.items()}
    return named | {f"mix/grad_cos/{branch}": cosine for branch, cosine in cosines.items()}
