"""A branch of a step, and what a step came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..balance.weights import Weights
from ..batch import Batch, MetricSums
from .objective import Loss


@dataclass(frozen=True)
class Branch:
    """One term of `sum_k w_k L_k`: its rows and its loss, without its weight."""

    name: str
    """`rl`, `sft` or `sft/CLASS`."""
    batch: Batch | None
    """All rows of the step on every rank; None: nothing to learn in this step."""
    loss: Loss
    count: float
    """What the loss is divided by: the global count of the step over all micro-batches and ranks. Imitation branches
    share the count of all demonstrations, so that their weights are comparable."""
    reads_reference: bool = False
    """The loss reads log-probabilities of the reference policy."""


@dataclass
class StepResult:
    """What a step came to."""

    weights: Weights
    row: dict[str, Any]
    """Metrics that are known as they stand."""
    losses: dict[str, float]
    """Unweighted losses by metric name."""
    sums: MetricSums
    grad_norm: float = 0.0
    """Of the mixed gradient, before clipping."""

    @property
    def metrics(self) -> dict[str, Any]:
        """One line of metrics.jsonl, in its order."""
        return self.row | means(self.sums) | self.losses


def means(sums: MetricSums) -> dict[str, float]:
    """Metrics from (sum, count); one that was never counted is absent."""
    return {name: total / count for name, (total, count) in sums.items() if count}


def added(sums: MetricSums, more: MetricSums) -> MetricSums:
    """Both, added up where a metric is in both."""
    joined = dict(sums)
    for name, (total, count) in more.items():
        before = joined.get(name, (0.0, 0.0))
        joined[name] = (before[0] + total, before[1] + count)
    return joined
