"""Weights for rollouts that another program sampled: the engine's policy is not quite the trainer's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from torch import Tensor

from ..batch import MetricSums
from ..tensors import masked
from .ratio import MAX_LOG_RATIO

Mode: TypeAlias = Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]
"""Per token or per row; a ratio outside the range is set to its end (truncated), or to 0 (masked)."""

BOUNDS: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "truncate": lambda ratio, low, high: ratio.clamp(low, high),
    "mask": lambda ratio, low, high: ratio.masked_fill((ratio < low) | (ratio > high), 0.0),
}


def logp_differences(engine: Tensor, trainer: Tensor, mask: Tensor) -> MetricSums:
    """Metric sums of |engine - trainer| over the loss tokens that the engine said something of; empty when of none.

    Args:
        engine, trainer: [B, C] log-probabilities, nats, of the policy that sampled; NaN where the engine says nothing.
        mask: [B, C], 1 on loss tokens.
    """
    apart = (engine - trainer).abs()[~engine.isnan() & (mask != 0)]
    if not len(apart):
        return {}
    return {
        "sampling/logp_difference": (float(apart.sum()), float(len(apart))),
        "sampling/logp_difference_max": (float(apart.max()), 1.0),
    }


def sampling_weights(
    logps: Tensor,
    engine_logps: Tensor,
    mask: Tensor,
    *,
    mode: Mode = "token_truncate",
    clip_min: float | None = None,
    clip_max: float | None = 3.0,
) -> tuple[Tensor, dict[str, tuple[float, float]]]:
    """Truncated importance weights, `w = min(pi / pi_engine, clip_max)` (Ionides 2008), with TRL 1.16's four modes.

    Args:
        logps: [B, C] log-probabilities of the policy that sampled, by the trainer's forward, nats.
        engine_logps: [B, C] of the same policy, by the engine; NaN where it did not sample or does not say.
        mask: [B, C], 1 on loss tokens.
        mode: of what, and what happens outside the range.
        clip_min: the smallest weight; None is 0.
        clip_max: the largest weight; None does not limit it.

    Returns:
        [B, C] weights, 1 where the engine says nothing; and metric sums, over tokens or over rows.
    """
    level, _, outside = mode.partition("_")
    known = ~engine_logps.isnan() & (mask != 0)
    difference = masked(logps - engine_logps, known)
    counted = known
    if level == "sequence":
        difference, counted = difference.sum(-1, keepdim=True), known.any(-1, keepdim=True)
    ratio = difference.clamp(max=MAX_LOG_RATIO).exp()
    low, high = 0.0 if clip_min is None else clip_min, float("inf") if clip_max is None else clip_max
    weights = BOUNDS[outside](ratio, low, high)
    total = float(counted.sum())
    beyond = ((ratio < low) | (ratio > high)) & counted
    sums = {
        "sampling/importance_sampling_ratio/mean": (float((weights * counted).sum()), total),
        "sampling/importance_sampling_ratio/frac_clipped": (float(beyond.sum()), total),
    }
    return weights.expand(known.shape).masked_fill(~known, 1.0), sums
