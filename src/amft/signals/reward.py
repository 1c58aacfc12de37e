"""The mean reward of a step."""

from __future__ import annotations

from .base import Cost, Signal

REWARD: Signal[float] = Signal(
    "reward",
    "reward",
    Cost.ROLLOUTS,
    "mean reward of this step's rollouts",
    lambda moment: moment.metrics.get("reward"),
)
