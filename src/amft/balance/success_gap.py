"""Imitation as long as the demonstrations succeed more often than the policy does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..signals.base import Signals
from ..signals.success import SUCCESS
from ..signals.verdicts import VERDICTS
from ..types import DEMO_RIGHT, DEMO_WRONG
from .amft_steps import finite
from .base import State, Update
from .checks import require_number
from .requirements import Requirements
from .weights import Weights


@dataclass(frozen=True)
class SuccessGap:
    """`mu = most max(0, q - p) / q`: q share of demonstrations that are right, p success of the policy. House.

    p is a running mean over steps. Demonstrations that the verifier cannot judge do not enter q; where it can judge
    none, q is 1.

    Args:
        most: mu at p = 0, in [0, 1].
        memory: decay in [0, 1) of the running mean of p.
    """

    most: float = 0.7
    memory: float = 0.8
    requirements: ClassVar[Requirements] = Requirements((SUCCESS, VERDICTS), graded=True)

    def __post_init__(self) -> None:
        require_number("most", self.most, 0.0, 1.0)
        require_number("memory", self.memory, 0.0, 1.0, below=True)

    def init(self) -> State:
        return {"success": 0.0, "seen": 0}

    def update(self, state: State, signals: Signals) -> Update:
        shares = [share for share in signals[SUCCESS] or () if finite(share) is not None]
        success, seen = state["success"], state["seen"]
        if shares:
            success, seen = self.memory * success + (1.0 - self.memory) * sum(shares) / len(shares), seen + 1
        mean = success / (1.0 - self.memory**seen) if seen else 0.0
        counts = signals[VERDICTS] or {}
        right, wrong = counts.get(DEMO_RIGHT, 0), counts.get(DEMO_WRONG, 0)
        q = right / (right + wrong) if right + wrong else 1.0
        mu = self.most * min(max(q - mean, 0.0) / q, 1.0) if q else 0.0
        return Weights.convex(mu), {"success": success, "seen": seen}, {"mix/demo_success": q, "mix/success": mean}
