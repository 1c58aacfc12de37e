"""Two learned scales, one per loss: SuperRL's hybrid actor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ..signals.base import Signals
from ..signals.past import POLICY_LOSS, SFT_LOSS
from .amft_steps import finite
from .base import State, Update
from .checks import require_number
from .requirements import Requirements
from .weights import Weights


@dataclass(frozen=True)
class LogSigma:
    """`L = exp(-2 s_rl) L_RL + exp(-2 s_sft) L_SFT + s_rl + s_sft`, both s learned by gradient descent.

    arXiv 2506.01096 (as arXiv 1705.07115). The gradient of s is `1 - 2 exp(-2 s) L`; the losses of a step move s
    before the next one, which is descent on both at once. The losses are clamped to [-clamp, clamp].

    Args:
        s_rl, s_sft: where they start.
        s_min, s_max: bounds of both.
        lr: step size of both.
        decay: factor of the step size after each step.
        clamp: largest size of a loss that moves s.
    """

    s_rl: float = 0.0
    s_sft: float = 1.0
    s_min: float = -2.0
    s_max: float = 5.0
    lr: float = 0.01
    decay: float = 0.99
    clamp: float = 100.0
    requirements: ClassVar[Requirements] = Requirements((POLICY_LOSS, SFT_LOSS))

    def __post_init__(self) -> None:
        require_number("s_max", self.s_max, -10.0, 10.0)
        require_number("s_min", self.s_min, -10.0, self.s_max)
        require_number("s_rl", self.s_rl, self.s_min, self.s_max)
        require_number("s_sft", self.s_sft, self.s_min, self.s_max)
        require_number("lr", self.lr, 0.0, 1e3)
        require_number("decay", self.decay, 0.0, 1.0)
        require_number("clamp", self.clamp, 0.0, 1e12)

    def init(self) -> State:
        return {"s_rl": float(self.s_rl), "s_sft": float(self.s_sft), "lr": float(self.lr), "at": 0}

    def update(self, state: State, signals: Signals) -> Update:
        state = {**state, "at": state["at"] + 1}
        if state["at"] > 1:  # before the first step of the single stage there is only the warm-up's loss
            state["s_rl"] = self._moved(state["s_rl"], state["lr"], finite(signals[POLICY_LOSS]))
            state["s_sft"] = self._moved(state["s_sft"], state["lr"], finite(signals[SFT_LOSS]))
            state["lr"] *= self.decay
        weights = Weights(sft=math.exp(-2.0 * state["s_sft"]), rl=math.exp(-2.0 * state["s_rl"]))
        return weights, state, {"mix/s_rl": state["s_rl"], "mix/s_sft": state["s_sft"]}

    def _moved(self, s: float, lr: float, loss: float | None) -> float:
        if loss is None:
            return s
        loss = min(max(loss, -self.clamp), self.clamp)
        return min(max(s - lr * (1.0 - 2.0 * math.exp(-2.0 * s) * loss), self.s_min), self.s_max)
