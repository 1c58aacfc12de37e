"""Imitation as long as the reward is low: CHORD's reward-adaptive weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..signals.base import Signals
from ..signals.reward import REWARD
from .base import State, Update
from .checks import require_number
from .requirements import Requirements
from .weights import Weights


@dataclass(frozen=True)
class RewardGap:
    """`mu = max(0, tau - mean reward)`, of arXiv 2508.11408; also at most 1. Without a new reward mu stays.

    Args:
        tau: reward from which on nothing is imitated; 0.5 is reported good, 0.7 worse.
    """

    tau: float = 0.5
    requirements: ClassVar[Requirements] = Requirements((REWARD,))

    def __post_init__(self) -> None:
        require_number("tau", self.tau, -1e6, 1e6)

    def init(self) -> State:
        return {"mu": min(max(float(self.tau), 0.0), 1.0)}

    def update(self, state: State, signals: Signals) -> Update:
        mu, reward = state["mu"], signals[REWARD]
        if reward is not None and reward == reward:
            mu = min(max(self.tau - reward, 0.0), 1.0)
        return Weights.convex(mu), {"mu": mu}, {"mix/mu": mu}
