"""The policy-gradient loss. The published ones (`losses.choices`) are choices of its ratio, clipping and mean."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..batch import LossOut
from ..tensors import Reduction, reduce
from .ratio import Ratio, importance_ratio


def policy_loss(
    logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    count: float,
    reduction: Reduction,
    old_logps: Tensor | None = None,
    ratio: Ratio | Literal["none"] = "token",
    clip: tuple[float, float] | None = None,
    clipped: Literal["objective", "ratio"] = "objective",
    weights: Tensor | None = None,
) -> LossOut:
    """Clipped surrogate of minus the expected reward.

    `L = -(mean) min(w A, clamp(w, 1 - low, 1 + high) A)`, PPO's eq 7 (arXiv 1707.06347), with w = pi/pi_old per
    token or per row; without `clip` it is `-(mean) w A`; with ratio `none` it is `-(mean) A log pi`. With the ratio
    clipped instead of the objective it is `-(mean) sg(clamp(w, 1 - low, 1 + high)) A log pi`, CISPO's eq 4
    (arXiv 2506.13585): no token loses its gradient.

    Args:
        logps: [B, C] log-probabilities of the completions, nats.
        advantages: [B] or [B, C]; taken as constants.
        mask: [B, C], 1 on loss tokens.
        count: `tensors.reduction_count` over all micro-batches and ranks.
        reduction: which mean `count` stands for.
        old_logps: [B, C] under the policy that sampled; None: this policy did, so w = 1 and carries the gradient.
        ratio: what w is (`losses.ratio`), or `none`.
        clip: (low, high), the range of w around 1; not used by ratio `none`.
        clipped: what the range applies to.
        weights: [B, C] constants that multiply each token's gain (`losses.mismatch`); None is 1.
    """
    advantage = (advantages if advantages.dim() == 2 else advantages[:, None]).detach()
    factor = 1.0 if weights is None else weights.detach()
    if ratio == "none":
        return LossOut(reduce(-advantage * logps * factor, mask, reduction, count), {})
    weight = importance_ratio(logps, old_logps, mask, ratio)
    low, high = clip if clip is not None else (torch.inf, torch.inf)
    inside = weight.clamp(1.0 - low, 1.0 + high)
    if clipped == "ratio":
        gain = inside.detach() * advantage * logps
    else:
        gain = torch.minimum(weight * advantage, inside * advantage)
    return LossOut(
        reduce(-gain * factor, mask, reduction, count), _ratio_sums(weight.detach(), advantage, mask, low, high)
    )


def _ratio_sums(
    weight: Tensor, advantage: Tensor, mask: Tensor, low: float, high: float
) -> dict[str, tuple[float, float]]:
    """The ratio, and how often the clipping cuts the gradient: over tokens, or over rows for a ratio per row."""
    is_low = (weight < 1.0 - low) & (advantage < 0)
    is_high = (weight > 1.0 + high) & (advantage > 0)
    counted = mask if is_low.shape == mask.shape else torch.ones_like(weight)
    columns = torch.stack([is_low.float(), is_high.float(), weight.float().expand(is_low.shape)])
    total, n_low, n_high, ratio = torch.stack([counted.sum().float(), *(columns * counted).sum((1, 2))]).tolist()
    return {
        "clip_ratio/low_mean": (n_low, total),
        "clip_ratio/high_mean": (n_high, total),
        "clip_ratio/region_mean": (n_low + n_high, total),
        "ratio/mean": (ratio, total),
    }
