"""A verifier gate that brakes where imitation no longer makes unseen right answers likelier."""

from __future__ import annotations

from dataclasses import dataclass

from ..signals.base import Signals
from ..signals.held_out_likelihood import HELD_OUT_LIKELIHOOD
from ..types import DEMO_WRONG, RL
from .amft_steps import finite
from .base import State, Update
from .checks import require_number
from .requirements import Requirements
from .verdict_classes import by_verdict, verdict_of_branch
from .weights import Weights


@dataclass(frozen=True)
class Brake:
    """`L = rl L_RL + b imitation L_right + b imitation L_silent`: b falls when few demonstrations are learned by heart.

    Every `every` steps the log-likelihood of held-out demonstrations that are right is measured. When it has fallen
    `falls` times in a row, b is multiplied by `factor`, and counting begins anew. House.

    Args:
        imitation: weight of right and silent demonstrations at the beginning, not negative.
        rl: weight of exploration, not negative.
        every: steps between two measurements.
        falls: in a row, that pull the brake.
        factor: of the brake, in [0, 1].
        ageing: a demonstration that was shown k times before counts `1 / (1 + k / ageing)`.
    """

    imitation: float = 0.7
    rl: float = 0.3
    every: int = 10
    falls: int = 2
    factor: float = 0.7
    ageing: float = 4.0

    def __post_init__(self) -> None:
        for name, value in {"imitation": self.imitation, "rl": self.rl}.items():
            require_number(name, value, 0.0, 1e6)
        require_number("falls", self.falls, 1, 1e6)
        require_number("factor", self.factor, 0.0, 1.0)
        _ = self.requirements  # which refuse an `every` or an ageing out of range

    @property
    def requirements(self) -> Requirements:
        return Requirements((HELD_OUT_LIKELIHOOD,), every=self.every, split=by_verdict, graded=True, ageing=self.ageing)

    def init(self) -> State:
        return {"last": None, "fallen": 0, "brake": 1.0}

    def update(self, state: State, signals: Signals) -> Update:
        last, fallen, brake = state["last"], state["fallen"], state["brake"]
        found, metrics = finite(signals[HELD_OUT_LIKELIHOOD]), {}
        if found is not None:
            fallen = fallen + 1 if last is not None and found < last else 0
            last, metrics["mix/held_out_likelihood"] = found, found
        if fallen >= self.falls:
            fallen, brake = 0, brake * self.factor
        weights = {b: brake * self.imitation * (verdict_of_branch(b) != DEMO_WRONG) for b in signals.branches}
        state = {"last": last, "fallen": fallen, "brake": brake}
        return Weights({**weights, RL: float(self.rl)}), state, {"mix/brake": brake, **metrics}
