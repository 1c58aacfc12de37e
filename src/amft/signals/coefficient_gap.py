"""How differently the two losses weigh a token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Cost, Moment, Signal

if TYPE_CHECKING:
    from torch import Tensor


def coefficient_gap(demo_mask: Tensor, demo_weights: Tensor | None, rollout_mask: Tensor, advantages: Tensor) -> float:
    """`E (c_s - c_r)^2` over pairs of a demonstration token and a rollout token; 0 where either is missing.

    c is the factor of grad log pi in the loss: minus the weight of a demonstration token, minus the advantage of a
    rollout token (arXiv 2605.26184). With independent pairs it is `E c_s^2 - 2 E c_s E c_r + E c_r^2`.

    Args:
        demo_mask: [B, C].
        demo_weights: [B, C] or [B, 1]; None is 1.
        rollout_mask: [R, C].
        advantages: [R] or [R, C].
    """
    weights = demo_mask.new_ones(demo_mask.shape) if demo_weights is None else demo_weights.expand(demo_mask.shape)
    columns = advantages if advantages.dim() == 2 else advantages[:, None]
    s, r = -weights[demo_mask > 0], -columns.expand(rollout_mask.shape)[rollout_mask > 0]
    if not len(s) or not len(r):
        return 0.0
    return float(s.square().mean() - 2 * s.mean() * r.mean() + r.square().mean())


def _measure(moment: Moment) -> float | None:
    demos, rollouts = moment.demonstrations, moment.rollouts
    if demos is None or rollouts is None or rollouts.advantages is None:
        return None
    weights = moment.demo_weights()
    return coefficient_gap(demos.completion_mask, weights, rollouts.completion_mask, rollouts.advantages)


COEFFICIENT_GAP: Signal[float] = Signal(
    "coef_gap",
    "squared factors of grad log pi",
    Cost.DEMONSTRATIONS,
    "mean squared difference of the factors of grad log pi at a demonstration and at a rollout token (D2 of arXiv "
    "2605.26184)",
    _measure,
)
