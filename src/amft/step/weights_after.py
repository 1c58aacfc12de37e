"""A step whose weights depend on its own rollouts: the RL gradient is made first and scaled in place."""

from __future__ import annotations

from typing import Any

from ..signals.base import Cost
from ..types import RL
from .backend import StepBackend
from .balancer import Balancer
from .branch import StepResult
from .imitate import imitate


def weights_after(backend: StepBackend[Any], balancer: Balancer, at: int) -> StepResult:
    """One step under a rule that reads the rollouts or the demonstrations. `at`: steps of the single stage done."""
    rollouts, known = backend.collect(at)
    policy_loss, sums = backend.gradient(backend.exploration(rollouts))
    sums |= known
    branches = backend.imitation(rollouts) if balancer.requirements.costs(Cost.DEMONSTRATIONS) else None
    weights, row = balancer.weigh(backend.moment(at, rollouts, sums, branches or ()))
    result = StepResult(weights, row, {"policy_loss": policy_loss}, sums)
    backend.rescale(weights[RL])
    if weights.imitates:
        branches = backend.imitation(rollouts) if branches is None else branches
        imitate(backend, branches, result, weights.__getitem__)
    result.grad_norm = backend.update(weights, result.losses)
    return result
