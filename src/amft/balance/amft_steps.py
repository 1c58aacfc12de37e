"""The three ways AMFT turns a meta-gradient into a step of mu, and the running moments behind them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from .base import State

LOGIT_EDGE = 1e-3
"""The logit treats a mu nearer to 0 or 1 than this as this."""
OUTLIER, OUTLIER_AFTER = 10.0, 5
"""After this many observations, one larger than OUTLIER root mean squares enters the averages as that large."""
LAMBDA = 0.1
"""Default weight of `entropy="measured"`, utility per square nat."""
ABSURD = 1e100
"""A signal beyond this counts as not finite: its square would overflow."""


def finite(value: float | None) -> float | None:
    """The value, or None when it is absent, not finite or absurd."""
    return float(value) if value is not None and abs(value) < ABSURD else None


def gap_between(target: float | None, found: float | None) -> float:
    """`target - found`; 0 where either is absent."""
    wanted, measured = finite(target), finite(found)
    return 0.0 if wanted is None or measured is None else wanted - measured


def moments_start() -> State:
    """No observation yet: Adam's two moments (`m`, `v`) and the running mean and mean square of `noise_ratio`."""
    return {"seen": 0, "m": 0.0, "v": 0.0, "mean": 0.0, "square": 0.0}


def moments(state: State, gradient: float, beta1: float, beta2: float, decay: float) -> State:
    """The state after one more observation: exponential averages that start at 0, outliers limited."""
    seen = state["seen"]
    if seen >= OUTLIER_AFTER and state["v"] > 0.0:
        limit = OUTLIER * math.sqrt(state["v"] / (1.0 - beta2**seen))
        gradient = min(max(gradient, -limit), limit)
    return {
        **state,
        "seen": seen + 1,
        "m": beta1 * state["m"] + (1.0 - beta1) * gradient,
        "v": beta2 * state["v"] + (1.0 - beta2) * gradient**2,
        "mean": decay * state["mean"] + (1.0 - decay) * gradient,
        "square": decay * state["square"] + (1.0 - decay) * gradient**2,
    }


def noise_ratio(state: State, decay: float) -> float:
    """|running mean| / its standard error: how sure the sign of the meta-gradient is.

    With weights w_i of the bias-corrected exponential average, `sum w_i^2 = W = (1-b)(1+b^n) / ((1+b)(1-b^n))`; the
    variance of one observation is `(E g^2 - (E g)^2) / (1 - W)` and that of the mean W times it. 0 before two
    observations; at most 1e6.
    """
    seen = state["seen"]
    if seen < 2 or state["mean"] == 0.0:
        return 0.0
    faded = decay**seen
    weight = (1.0 - decay) * (1.0 + faded) / ((1.0 + decay) * (1.0 - faded))
    mean, square = state["mean"] / (1.0 - faded), state["square"] / (1.0 - faded)
    error = math.sqrt(max(square - mean**2, 0.0) * weight / (1.0 - weight)) if weight < 1.0 else math.inf
    return min(abs(mean) / error, 1e6) if error > 0.0 else 1e6


class MuStep(NamedTuple):
    """One `mu_update`: the coordinate it moves, its step, and its default step sizes in that coordinate."""

    coordinate: Callable[[float], float]
    inverse: Callable[[float], float]
    step: Callable[[State, float, float | None, float, float], float]
    eta_mu: float
    eta_h: float


def _same(mu: float) -> float:
    return mu


def _logit(mu: float) -> float:
    mu = min(max(mu, LOGIT_EDGE), 1.0 - LOGIT_EDGE)
    return math.log(mu / (1.0 - mu))


def _sigmoid(x: float) -> float:
    return 0.5 * (1.0 + math.tanh(0.5 * x))


def _gradient(_state: State, gradient: float, _cosine: float | None, _beta1: float, _beta2: float) -> float:
    return gradient


def _adam(state: State, _gradient: float, _cosine: float | None, beta1: float, beta2: float) -> float:
    if state["v"] <= 0.0:
        return 0.0
    m_hat, v_hat = state["m"] / (1.0 - beta1 ** state["seen"]), state["v"] / (1.0 - beta2 ** state["seen"])
    return float(m_hat / math.sqrt(v_hat))


def _cosine(_state: State, _gradient: float, cosine: float | None, _beta1: float, _beta2: float) -> float:
    return cosine or 0.0


STEPS = {
    "paper": MuStep(_same, _same, _gradient, eta_mu=1e-4, eta_h=5e-4),
    "normalized": MuStep(_logit, _sigmoid, _adam, eta_mu=1.0, eta_h=2e-3),
    "cosine": MuStep(_logit, _sigmoid, _cosine, eta_mu=1.0, eta_h=2e-3),
}
"""eta_h of the logit forms is the paper's at mu = 1/2, where dx = 4 dmu."""
