"""The policy's entropy on its own answers."""

from __future__ import annotations

from .base import Cost, Signal

ENTROPY: Signal[float] = Signal(
    "entropy",
    "nats",
    Cost.ROLLOUTS,
    "mean token entropy H of this step's rollouts (eq 6 of arXiv 2508.06944)",
    lambda moment: moment.metrics.get("entropy"),
)
