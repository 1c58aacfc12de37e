"""Both weights from the products of the two gradients: the step that gains most reward for its squared length."""

from __future__ import annotations

from dataclasses import dataclass

from ..signals.base import Signals
from ..types import RL
from .amft_steps import finite, moments, moments_start, noise_ratio
from .base import State, Update
from .checks import require_number
from .meta_gradient import MetaGradient
from .requirements import Requirements
from .weights import Weights


def best_pair(c: float, r: float, total_rl: float, total_sft: float) -> tuple[float, float]:
    """(w_sft, w_rl), up to a factor, that maximise `(w_sft c + w_rl r)^2 / E|w_sft g_sft + w_rl g_rl|^2`.

    `M w = (c, r)` with `M = [[T_sft, c], [c, T_rl]]`, so `w_sft ~ c (T_rl - r)` and `w_rl ~ r T_sft - c^2`.

    Args:
        c: product of the imitation gradient with the true gradient of the reward.
        r: squared norm of the true gradient of the reward.
        total_rl, total_sft: squared norms of the two gradients as they are, noise included.
    """
    return c * (total_rl - r), r * total_sft - c * c


@dataclass(frozen=True)
class GramPairRule:
    """`L = (1 - mu) L_RL + mu L_SFT` with the mu of `best_pair`, its four numbers running means. House.

    Products are in the optimizer's metric; c and r are taken between the gradients of two steps (`amft.meta.GramPair`).
    The optimizer sets the length of a step, so of the two weights only their ratio matters. Where r is less than `sure`
    standard errors above 0, or no weight comes out positive, mu is `fallback`.

    Args:
        decay: of the running means, in [0, 1).
        sure: standard errors.
        fallback: mu while nothing is known, in [0, 1].
        mu_min, mu_max: bounds of mu.
        meta_skip: first optimizer steps that are not measured.
    """

    decay: float = 0.97
    sure: float = 2.0
    fallback: float = 0.6
    mu_min: float = 0.05
    mu_max: float = 0.95
    meta_skip: int = 5

    def __post_init__(self) -> None:
        require_number("decay", self.decay, 0.0, 1.0, below=True)
        require_number("sure", self.sure, 0.0, 1e6)
        require_number("mu_max", self.mu_max, 0.0, 1.0)
        require_number("mu_min", self.mu_min, 0.0, self.mu_max)
        require_number("fallback", self.fallback, self.mu_min, self.mu_max)
        _ = self.requirements  # which refuse a meta_skip out of range

    @property
    def requirements(self) -> Requirements:
        return Requirements(meta_gradient=MetaGradient(utility="gram", skip=self.meta_skip))

    def init(self) -> State:
        return {"r": moments_start(), "c": 0.0, "total_rl": 0.0, "total_sft": 0.0}

    def update(self, state: State, signals: Signals) -> Update:
        (branch,) = signals.branches
        found = [
            finite(value)
            for seen in (signals.meta.get(RL), signals.meta.get(branch))
            for value in ((None, None) if seen is None else (seen.dot, seen.total))
        ]
        if None not in found:
            state = self._averaged(state, *(float(value or 0.0) for value in found))
        seen = state["r"]["seen"]
        if not seen:
            return Weights.convex(self.fallback), state, {"mix/mu": self.fallback}
        faded = 1.0 - self.decay**seen
        c, total_rl, total_sft = (state[name] / faded for name in ("c", "total_rl", "total_sft"))
        r, sure = state["r"]["mean"] / faded, noise_ratio(state["r"], self.decay)
        sft, rl = (max(weight, 0.0) for weight in best_pair(c, r, total_rl, total_sft))
        known = r > 0.0 and sure >= self.sure and sft + rl > 0.0
        mu = min(max(sft / (sft + rl), self.mu_min), self.mu_max) if known else self.fallback
        return Weights.convex(mu), state, {"mix/mu": mu, "mix/gram_c": c, "mix/gram_r": r, "mix/gram_snr": sure}

    def _averaged(self, state: State, r: float, total_rl: float, c: float, total_sft: float) -> State:
        new = {"c": c, "total_rl": total_rl, "total_sft": total_sft}
        means = {name: self.decay * state[name] + (1.0 - self.decay) * value for name, value in new.items()}
        return {"r": moments(state["r"], r, self.decay, self.decay, self.decay), **means}
