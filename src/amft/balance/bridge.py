"""Constant weights, and a low-rank teacher that learns what imitation gains over exploration alone: BRIDGE."""

from __future__ import annotations

from dataclasses import dataclass

from ..demo_mixing.checks import require_whole
from ..signals.base import Signals
from .base import State, Update
from .checks import require_number
from .requirements import Requirements, Teacher
from .weights import Weights


@dataclass(frozen=True)
class Bridge:
    """`L = (1 - mu) L_RL + mu L_SFT` for the policy `theta + w`; the teacher `w` also learns from a shadow's losses.

    arXiv 2509.06948, which writes `lambda` for `1 - mu`. The step is that of `amft.step.with_shadow`.

    Args:
        mu: weight of imitation, in [0, 1].
        rank: of the teacher's matrices.
        teacher_rate: the teacher's learning rate, in multiples of the policy's.
    """

    mu: float = 0.5
    rank: int = 16
    teacher_rate: float = 10.0

    def __post_init__(self) -> None:
        require_number("mu", self.mu, 0.0, 1.0)
        require_whole("rank", self.rank, 1)
        require_number("teacher_rate", self.teacher_rate, 0.0, 1e6)

    @property
    def requirements(self) -> Requirements:
        return Requirements(teacher=Teacher(self.rank, float(self.teacher_rate)))

    def init(self) -> State:
        return {}

    def update(self, state: State, signals: Signals) -> Update:  # noqa: ARG002
        return Weights.convex(self.mu), dict(state), {"mix/mu": float(self.mu)}
