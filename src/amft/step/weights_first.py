"""A step whose weights are known before it begins: a branch of weight 0 costs nothing."""

from __future__ import annotations

from typing import Any

from ..types import RL
from .backend import StepBackend
from .balancer import Balancer
from .branch import StepResult
from .imitate import imitate


def weights_first(backend: StepBackend[Any], balancer: Balancer, at: int) -> StepResult:
    """One step under a rule that reads nothing of it. `at`: steps of the single stage done."""
    weights, row = balancer.weigh(backend.moment(at, None, {}, ()))
    result = StepResult(weights, row, {}, {})
    rollouts = None
    if weights.explores or (weights.imitates and backend.imitates_rollout_rows):
        rollouts, result.sums = backend.collect(at)
    if weights.explores:
        result.losses["policy_loss"], sums = backend.gradient(backend.exploration(rollouts), weights[RL])
        result.sums |= sums
    if weights.imitates:
        imitate(backend, backend.imitation(rollouts), result, weights.__getitem__)
    result.grad_norm = backend.update(weights, result.losses)
    return result
