"""How many rollouts earn something, apart for prompts with right, wrong and silent demonstrations."""

from __future__ import annotations

from collections.abc import Mapping

from .base import Cost, Signal

PAID: Signal[Mapping[str, tuple[float, float]]] = Signal(
    "paid",
    "rollouts",
    Cost.ROLLOUTS,
    "verdict on the demonstration of a rollout's prompt: rollouts of this step, and those with a reward above 0",
    lambda moment: moment.paid,
)
