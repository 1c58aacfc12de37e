"""Weights that depend on the step alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import ConfigError
from .base import Signals, State, Weights, require_number


def step_of(point: float, total_steps: int) -> int:
    """A point of the schedule as a step: below 1 a fraction of the run (rounded), from 1 on a number of steps."""
    return round(point * total_steps) if point < 1 else int(point)


@dataclass(frozen=True)
class SwitchAt:
    """One weight until `switch`, another from there on: SFT-then-RL by default.

    Args:
        switch: first step with `after`; below 1 a fraction of the single stage, else a whole number of steps.
        before: mu until then, in [0, 1].
        after: mu from then on, in [0, 1].
    """

    switch: float = 0.5
    before: float = 1.0
    after: float = 0.0
    needs: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        require_number("switch", self.switch, 0.0, 1e9)
        if self.switch >= 1 and self.switch != int(self.switch):
            raise ConfigError(f"balance.switch must be a fraction below 1 or whole steps, got {self.switch!r}")
        require_number("before", self.before, 0.0, 1.0)
        require_number("after", self.after, 0.0, 1.0)

    def init(self) -> State:
        return {}

    def update(self, state: State, signals: Signals) -> tuple[Weights, State, dict[str, float]]:
        early = signals.step < step_of(self.switch, signals.total_steps)
        mu = float(self.before if early else self.after)
        return Weights.convex(mu), dict(state), {"mix/mu": mu}
