"""A constant weight: pure imitation (mu = 1), pure RL (mu = 0), or anything between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import Signals, State, Weights, require_number


@dataclass(frozen=True)
class Fixed:
    """`L = (1 - mu) L_RL + mu L_SFT` with a constant mu, eq 3 of arXiv 2508.06944.

    Args:
        mu: weight of imitation, in [0, 1].
    """

    mu: float = 0.5
    needs: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        require_number("mu", self.mu, 0.0, 1.0)

    def init(self) -> State:
        return {}

    def update(self, state: State, signals: Signals) -> tuple[Weights, State, dict[str, float]]:  # noqa: ARG002
        return Weights.convex(self.mu), dict(state), {"mix/mu": float(self.mu)}
