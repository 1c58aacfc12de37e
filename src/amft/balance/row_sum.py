"""Constant weights where the RL losses of several rows are added up, as some published code has it."""

from __future__ import annotations

from dataclasses import dataclass

from ..signals.base import Signals
from .base import State, Update
from .checks import require_number
from .fixed import FixedWeights
from .weights import Weights


@dataclass(frozen=True)
class RowSumWeights(FixedWeights):
    """`L = row_sum rl L_RL + sft L_SFT`: with `row_sum` k, what a mean over micro-batches of k rows gives of row sums.

    The code of HPT (arXiv 2509.04419) adds up `sum_t / L_max` over the k rows of a micro-batch and takes the token
    mean of its demonstrations, so its RL loss is k times ours, whose mean is over rows too. There k is 8 or more.

    Args:
        sft: weight of the imitation loss, not negative.
        rl: weight of the RL loss, not negative.
        row_sum: rows whose RL losses are added up; 1 is their mean.
    """

    row_sum: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("row_sum", self.row_sum, 1, 65_536)

    def update(self, state: State, signals: Signals) -> Update:  # noqa: ARG002
        return Weights(sft=float(self.sft), rl=float(self.rl * self.row_sum)), dict(state), {}
