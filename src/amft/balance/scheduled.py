"""Weights that depend on the step alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import ConfigError
from ..schedules import cosine_decay, linear_ramp
from ..signals.base import Signals
from .base import NOTHING, State, Update
from .checks import require_choice, require_number
from .requirements import Requirements, SftOptimizer
from .weights import Weights


def require_point(name: str, point: float) -> None:
    """Refuse what is neither a fraction below 1 nor whole steps.

    Raises:
        ConfigError: names the setting.
    """
    require_number(name, point, 0.0, 1e9)
    if point >= 1 and point != int(point):
        raise ConfigError(f"balance.{name} must be a fraction below 1 or whole steps, got {point!r}")


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
        sft_optimizer: "own" gives the steps that only imitate an optimizer of their own, so that RL starts with fresh
            moments; "shared" carries them over.
    """

    switch: float = 0.5
    before: float = 1.0
    after: float = 0.0
    sft_optimizer: SftOptimizer = "shared"

    def __post_init__(self) -> None:
        require_point("switch", self.switch)
        require_number("before", self.before, 0.0, 1.0)
        require_number("after", self.after, 0.0, 1.0)
        require_choice("sft_optimizer", self.sft_optimizer, ("shared", "own"))

    @property
    def requirements(self) -> Requirements:
        return Requirements(sft_optimizer=self.sft_optimizer)

    def init(self) -> State:
        return {}

    def update(self, state: State, signals: Signals) -> Update:
        early = signals.step < step_of(self.switch, signals.total_steps)
        mu = float(self.before if early else self.after)
        return Weights.convex(mu), dict(state), {"mix/mu": mu}


@dataclass(frozen=True)
class Ramp:
    """mu moves from `start` to `stop` over the first steps of the single stage, and stays.

    Args:
        start, stop: in [0, 1].
        over: length of the ramp; 0 is the whole single stage, below 1 a fraction of it, else steps.
        shape: "linear" or "cosine".
    """

    start: float = 0.9
    stop: float = 0.1
    over: float = 0.0
    shape: str = "linear"
    requirements: ClassVar[Requirements] = NOTHING

    def __post_init__(self) -> None:
        require_number("start", self.start, 0.0, 1.0)
        require_number("stop", self.stop, 0.0, 1.0)
        require_point("over", self.over)
        require_choice("shape", self.shape, ("linear", "cosine"))

    def init(self) -> State:
        return {}

    def update(self, state: State, signals: Signals) -> Update:
        curve = {"linear": linear_ramp, "cosine": cosine_decay}[self.shape]
        length = step_of(self.over, signals.total_steps) or signals.total_steps
        mu = curve(signals.step, length, self.start, self.stop)
        return Weights.convex(mu), dict(state), {"mix/mu": mu}


@dataclass(frozen=True)
class RiseThenDecay:
    """CHORD-mu: `mu` rises linearly from 0 to `peak`, then falls by half a cosine to `valley` (arXiv 2508.11408).

    Args:
        rise, fall: lengths; below 1 fractions of the single stage, else steps.
        peak, valley: in [0, 1].
    """

    rise: float = 0.0
    fall: float = 200
    peak: float = 0.9
    valley: float = 0.05
    requirements: ClassVar[Requirements] = NOTHING

    def __post_init__(self) -> None:
        require_point("rise", self.rise)
        require_point("fall", self.fall)
        require_number("peak", self.peak, 0.0, 1.0)
        require_number("valley", self.valley, 0.0, 1.0)

    def init(self) -> State:
        return {}

    def update(self, state: State, signals: Signals) -> Update:
        rise, fall = (step_of(point, signals.total_steps) for point in (self.rise, self.fall))
        if signals.step < rise:
            mu = linear_ramp(signals.step, rise, 0.0, self.peak)
        else:
            mu = cosine_decay(signals.step - rise, fall, self.peak, self.valley)
        return Weights.convex(mu), dict(state), {"mix/mu": mu}
