"""An imitation step whenever enough failed prompts have gathered: ReLIFT, MIFO."""

from __future__ import annotations

from dataclasses import dataclass

from ..demo_mixing.checks import require_whole
from ..signals.base import Signals
from ..signals.past import BUFFERED
from .base import State, Update
from .checks import require_choice, require_number
from .requirements import Freeze, Requirements, SftOptimizer
from .weights import Weights


@dataclass(frozen=True)
class Interleave:
    """RL steps; once `size` demonstrations of failed prompts wait in the buffer, one step imitates them.

    arXiv 2506.07527 (ReLIFT). The step takes the first `num_demos` of the buffer, so `size` should equal it.

    Args:
        size: demonstrations that must be waiting.
        sft_optimizer: "own" gives imitation steps their own moments, "shared" does not.
        freeze: share of each tensor's entries, those that RL changed most, that an imitation step leaves alone (MIFO).
        history: decay in [0, 1) of the map of those changes.
    """

    size: int = 64
    sft_optimizer: SftOptimizer = "own"
    freeze: float = 0.0
    history: float = 0.9

    def __post_init__(self) -> None:
        require_whole("size", self.size, 1)
        require_choice("sft_optimizer", self.sft_optimizer, ("shared", "own"))
        require_number("freeze", self.freeze, 0.0, 1.0)
        require_number("history", self.history, 0.0, 1.0, below=True)

    @property
    def requirements(self) -> Requirements:
        freeze = Freeze(self.freeze, self.history) if self.freeze else None
        return Requirements((BUFFERED,), sft_optimizer=self.sft_optimizer, freeze=freeze)

    def init(self) -> State:
        return {}

    def update(self, state: State, signals: Signals) -> Update:
        waiting = signals[BUFFERED] or 0
        mu = 1.0 if waiting >= self.size else 0.0
        return Weights.convex(mu), dict(state), {"mix/mu": mu, "mix/buffered": float(waiting)}
