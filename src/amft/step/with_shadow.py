"""A step whose policy has a shadow: what both explore is compared, and the teacher learns from the difference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..types import RL
from .backend import StepBackend
from .balancer import Balancer
from .branch import Branch, StepResult
from .imitate import imitate

Compare = Callable[[Branch, float], float]
"""`loss = compare(exploration, weight)`, see `ShadowedOptimizer.compare`."""


def with_shadow(backend: StepBackend[Any], balancer: Balancer, at: int, compare: Compare) -> StepResult:
    """One step of BRIDGE (arXiv 2509.06948). `mix/shadow_loss` is the shadow's RL loss on the policy's rollouts.

    Args:
        backend: computes.
        balancer: the rule.
        at: steps of the single stage done.
        compare: makes the gradients of shadow and teacher; the mixed gradient is in `p.grad` then.
    """
    weights, row = balancer.weigh(backend.moment(at, None, {}, ()))
    rollouts, known = backend.collect(at)
    exploration = backend.exploration(rollouts)
    policy_loss, sums = backend.gradient(exploration, weights[RL])
    result = StepResult(weights, row, {"policy_loss": policy_loss}, known | sums)
    imitate(backend, backend.imitation(rollouts), result, weights.__getitem__)
    row["mix/shadow_loss"] = compare(exploration, weights[RL])
    result.grad_norm = backend.update(weights, result.losses)
    return result
