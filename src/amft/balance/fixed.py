"""Constant weights: pure imitation, pure RL, or anything between and beyond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..signals.base import Signals
from .base import NOTHING, State, Update
from .checks import require_number
from .requirements import Requirements
from .weights import Weights


@dataclass(frozen=True)
class Fixed:
    """`L = (1 - mu) L_RL + mu L_SFT` with a constant mu, eq 3 of arXiv 2508.06944.

    Args:
        mu: weight of imitation, in [0, 1].
    """

    mu: float = 0.5
    requirements: ClassVar[Requirements] = NOTHING

    def __post_init__(self) -> None:
        require_number("mu", self.mu, 0.0, 1.0)

    def init(self) -> State:
        return {}

    def update(self, state: State, signals: Signals) -> Update:  # noqa: ARG002
        return Weights.convex(self.mu), dict(state), {"mix/mu": float(self.mu)}


@dataclass(frozen=True)
class FixedWeights:
    """`L = rl L_RL + sft L_SFT` with two constants that need not sum to one.

    Args:
        sft: weight of the imitation loss, not negative.
        rl: weight of the RL loss, not negative.
    """

    sft: float = 1.0
    rl: float = 1.0
    requirements: ClassVar[Requirements] = NOTHING

    def __post_init__(self) -> None:
        require_number("sft", self.sft, 0.0, 1e6)
        require_number("rl", self.rl, 0.0, 1e6)

    def init(self) -> State:
        return {}

    def update(self, state: State, signals: Signals) -> Update:  # noqa: ARG002
        return Weights(sft=float(self.sft), rl=float(self.rl)), dict(state), {}
