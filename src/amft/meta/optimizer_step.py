"""What one optimizer step did to one parameter, as its Jacobian reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CACHED = 2**16
"""Numbers of a tensor that an elementwise Jacobian works on at once on a CPU: all it makes of them fits a cache."""


@dataclass(frozen=True)
class OptimizerStep:
    """What one optimizer step did to one parameter. Under sharding every tensor is this rank's shard."""

    param: Tensor
    """Values after the step."""
    grad: Tensor
    """The gradient the step used, clipping included."""
    state: Mapping[str, Any]
    """The optimizer's state of this parameter, after the step."""
    group: Mapping[str, Any]
    """Its parameter group, with the learning rate the step used."""
    first: bool
    """The optimizer had no state for this parameter before the step."""


Push = Callable[[Tensor, OptimizerStep], None]
"""In place: `d <- lr * J d`."""


def by_slices(push: Push) -> Push:
    """The same for an elementwise Jacobian, slice by slice on a CPU: passes over whole tensors wait for memory."""

    def pushed(d: Tensor, step: OptimizerStep) -> None:
        """In place: `d <- lr * J d`; d is [*]."""
        moved = {key: v for key, v in step.state.items() if torch.is_tensor(v) and v.shape == d.shape}
        whole = [d, step.param, step.grad, *moved.values()]
        if d.device.type != "cpu" or d.numel() <= CACHED or not all(each.is_contiguous() for each in whole):
            push(d, step)
            return
        parts = zip(*(each.view(-1).split(CACHED) for each in whole), strict=True)
        for change, param, grad, *state in parts:
            kept = {**step.state, **dict(zip(moved, state, strict=True))}
            push(change, OptimizerStep(param, grad, kept, step.group, step.first))

    return pushed


def sign_of(group: Mapping[str, Any]) -> float:
    """-1 for a group that goes up the gradient, else 1."""
    return -1.0 if group.get("maximize") else 1.0
