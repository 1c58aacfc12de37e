"""A step before the single stage: plain imitation, whatever the rule, so that all rules start alike."""

from __future__ import annotations

from typing import Any

from ..balance.weights import Weights
from ..types import RL
from .backend import StepBackend
from .branch import StepResult
from .imitate import imitate


def warmup(backend: StepBackend[Any]) -> StepResult:
    """One step of phase 1 of docs/method.md."""
    branches = backend.plain_imitation()
    weights = Weights({branch.name: 1.0 for branch in branches} | {RL: 0.0})
    result = StepResult(weights, {"mix/mu": 1.0}, {}, {})
    imitate(backend, branches, result)
    result.grad_norm = backend.update(weights, result.losses)
    return result
