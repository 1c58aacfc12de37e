"""The weight with the least mean squared error, from the noise of both signals: GAC."""

from __future__ import annotations

from dataclasses import dataclass

from ..schedules import cosine_decay
from ..signals.advantage_variance import ADVANTAGE_VARIANCE
from ..signals.base import Signals
from ..signals.coefficient_gap import COEFFICIENT_GAP
from ..signals.nll_variance import NLL_VARIANCE
from .amft_steps import finite
from .base import State, Update
from .checks import require_number
from .requirements import Requirements
from .scheduled import require_point, step_of
from .weights import Weights

STATISTICS = (ADVANTAGE_VARIANCE, NLL_VARIANCE, COEFFICIENT_GAP)


@dataclass(frozen=True)
class Gac:
    """`mu* = (a D2 + v_r) / (D2 + v_s + v_r)`, smoothed, blended with a schedule, and moved a little at a time.

    arXiv 2605.26184: `v_r` is the variance of the advantages over rows, `v_s` the 10 % trimmed variance of the
    demonstrations' mean NLL, `D2` the mean squared difference of the factors of grad log pi. Where all three are 0,
    mu* is a.

    Args:
        a: mu* where both signals are free of noise.
        ema: decay of the averages of the three statistics.
        every: steps between two updates; the statistics are measured at these steps.
        blend: weight of the schedule against mu*.
        prior_start, prior_stop: of the schedule, half a cosine.
        rise, fall: the schedule stands for `rise`, then falls for `fall`; below 1 fractions of the stage, else steps.
        mu_init, mu_min, mu_max: start and bounds.
        max_change: largest change in one update.
    """

    a: float = 0.5
    ema: float = 0.99
    every: int = 10
    blend: float = 0.5
    prior_start: float = 0.85
    prior_stop: float = 0.15
    rise: float = 200
    fall: float = 800
    mu_init: float = 0.5
    mu_min: float = 0.05
    mu_max: float = 0.9
    max_change: float = 0.01

    def __post_init__(self) -> None:
        require_number("mu_max", self.mu_max, 0.0, 1.0)
        require_number("mu_min", self.mu_min, 0.0, self.mu_max)
        require_number("mu_init", self.mu_init, self.mu_min, self.mu_max)
        for name in ("a", "blend", "prior_start", "prior_stop", "max_change"):
            require_number(name, getattr(self, name), 0.0, 1.0)
        require_number("ema", self.ema, 0.0, 1.0, below=True)
        require_number("every", self.every, 1, 1e9)
        require_point("rise", self.rise)
        require_point("fall", self.fall)

    @property
    def requirements(self) -> Requirements:
        return Requirements(STATISTICS, every=self.every)

    def init(self) -> State:
        return {"mu": float(self.mu_init), "seen": 0, **{statistic.name: 0.0 for statistic in STATISTICS}}

    def update(self, state: State, signals: Signals) -> Update:
        found = {statistic.name: finite(signals[statistic]) for statistic in STATISTICS}
        if signals.step % self.every or None in found.values():
            return Weights.convex(state["mu"]), dict(state), {"mix/mu": state["mu"]}
        state = {**state, "seen": state["seen"] + 1}
        for name, value in found.items():
            state[name] = self.ema * state[name] + (1.0 - self.ema) * max(value or 0.0, 0.0)
        correct = 1.0 - self.ema ** state["seen"]
        v_r, v_s, d2 = (state[statistic.name] / correct for statistic in STATISTICS)
        noise = d2 + v_s + v_r
        best = (self.a * d2 + v_r) / noise if noise > 0.0 else self.a
        target = (1.0 - self.blend) * best + self.blend * self._prior(signals)
        mu = min(max(target, state["mu"] - self.max_change), state["mu"] + self.max_change)
        state["mu"] = min(max(mu, self.mu_min), self.mu_max)
        metrics = {"mix/mu": state["mu"], "mix/mu_star": best, "mix/v_rl": v_r, "mix/v_sft": v_s, "mix/coef_gap": d2}
        return Weights.convex(state["mu"]), state, metrics

    def _prior(self, signals: Signals) -> float:
        rise, fall = (step_of(point, signals.total_steps) for point in (self.rise, self.fall))
        return cosine_decay(signals.step - rise, fall, self.prior_start, self.prior_stop)
