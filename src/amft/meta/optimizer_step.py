"""What one optimizer step did to one parameter, as its Jacobian reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


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


def sign_of(group: Mapping[str, Any]) -> float:
    """-1 for a group that goes up the gradient, else 1."""
    return -1.0 if group.get("maximize") else 1.0
