"""The gradients of the imitation branches, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..types import SFT
from .backend import StepBackend
from .branch import Branch, StepResult, added

TOTALS = {"tokens/demo", "tokens/demo_prompt"}
"""Metrics of a step that are sums over its branches, not means."""


def imitate(
    backend: StepBackend[Any],
    branches: Sequence[Branch],
    result: StepResult,
    scale: Callable[[str], float] = lambda _: 1.0,
    after_each: Callable[[str], None] = lambda _: None,
) -> None:
    """Add the gradient of every branch to `p.grad`, and its loss and metrics to `result`.

    Args:
        backend: computes.
        branches: a branch of scale 0 is not run.
        result: takes `sft/loss`, nats per token over all branches. With classes of demonstrations also `BRANCH/loss`,
            the part of it that the branch gives, and `mix/mu`, the mean weight of the demonstration tokens shown.
        scale: branch -> factor of its gradient.
        after_each: called with the branch's name when its gradient is in `p.grad`.
    """
    total = 0.0
    for branch in branches:
        if factor := scale(branch.name):
            loss, sums = backend.gradient(branch, factor)
            result.sums = added(result.sums, sums)
            total += loss
            if branch.name != SFT:
                result.losses[f"{branch.name}/loss"] = loss
                tokens = sums.get("tokens/demo", (0.0, 0.0))[0]
                result.sums = added(result.sums, {"mix/mu": (result.weights[branch.name] * tokens, tokens)})
        after_each(branch.name)
    result.losses["sft/loss"] = total
    for name in TOTALS & result.sums.keys():
        result.sums[name] = (result.sums[name][0], 1.0)
