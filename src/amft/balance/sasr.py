"""Imitation or exploration at random, imitation the more likely the larger its gradient: SASR."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from ..signals.base import Signals
from ..signals.past import SFT_GRAD_NORM
from .amft_steps import finite
from .base import State, Update
from .checks import require_number
from .requirements import Requirements
from .weights import Weights


@dataclass(frozen=True)
class Sasr:
    """`P(SFT) = |g_sft| / (|g_sft| + gamma |g_warm|)`, drawn anew each step; arXiv 2505.13026, best reading.

    `g_sft` is the gradient of the last step that imitated, `g_warm` that of the last warm-up step. Without a warm-up
    the first step imitates, and its gradient is `g_warm`.

    Args:
        gamma: how little imitation counts against its start.
        draw_seed: of the draws; they depend on it and on the step alone.
    """

    gamma: float = 1.0
    draw_seed: int = 0
    requirements: ClassVar[Requirements] = Requirements((SFT_GRAD_NORM,))

    def __post_init__(self) -> None:
        require_number("gamma", self.gamma, 0.0, 1e9)
        require_number("draw_seed", self.draw_seed, 0, 2**63)

    def init(self) -> State:
        return {"warm": None}

    def update(self, state: State, signals: Signals) -> Update:
        norm = finite(signals[SFT_GRAD_NORM])
        warm = state["warm"] if state["warm"] is not None else norm
        share = 1.0
        if norm is not None and warm is not None and norm + self.gamma * warm > 0.0:
            share = max(norm, 0.0) / (max(norm, 0.0) + self.gamma * max(warm, 0.0) or 1.0)
        drawn = random.Random(f"sasr {self.draw_seed} {signals.step}").random()
        mu = 1.0 if drawn < share else 0.0
        return Weights.convex(mu), {"warm": warm}, {"mix/mu": mu, "mix/p_sft": share}
