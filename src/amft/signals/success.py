"""How often each prompt was answered correctly."""

from __future__ import annotations

from .base import Cost, Signal

SUCCESS: Signal[tuple[float, ...]] = Signal(
    "success",
    "shares in [0, 1]",
    Cost.ROLLOUTS,
    "share of correct rollouts, one entry per prompt of this step",
    lambda moment: moment.success,
)
