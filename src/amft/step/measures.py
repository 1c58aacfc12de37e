"""Scalars of one step's rollouts and demonstrations that balance rules read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..batch import Batch
from ..tensors import masked

TRIM = 0.1
"""Share of the rows left out at each end."""


def row_variance(batch: Batch) -> float:
    """Biased variance of the advantages over rows; a row of several values counts with their mean. 0 without rows."""
    assert batch.advantages is not None
    rows = batch.advantages
    if rows.dim() == 2:
        rows = (rows * batch.completion_mask).sum(1) / batch.completion_mask.sum(1).clamp(min=1.0)
    return float(rows.var(correction=0)) if len(rows) else 0.0


def trimmed_nll_variance(logps: Tensor, mask: Tensor) -> float:
    """Biased variance over rows of their mean NLL, `TRIM` of the rows left out at each end (arXiv 2605.26184).

    Args:
        logps: [B, C] nats.
        mask: [B, C]; rows without a loss token do not count.
    """
    tokens = mask.sum(1)
    rows = -(masked(logps, mask) * mask).sum(1)[tokens > 0] / tokens[tokens > 0]
    cut = int(TRIM * len(rows))
    kept = rows.sort().values[cut : len(rows) - cut]
    return float(kept.var(correction=0)) if len(kept) else 0.0


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
    weights = torch.ones_like(demo_mask) if demo_weights is None else demo_weights.expand(demo_mask.shape)
    columns = advantages if advantages.dim() == 2 else advantages[:, None]
    s, r = -weights[demo_mask > 0], -columns.expand(rollout_mask.shape)[rollout_mask > 0]
    if not len(s) or not len(r):
        return 0.0
    return float(s.square().mean() - 2 * s.mean() * r.mean() + r.square().mean())


def cliffs_delta(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Share of pairs in which ours is the larger, less the share in which it is the smaller; None without pairs.

    In [-1, 1]. Neither a shift nor a scale of the values changes it (N. Cliff, Psychological Bulletin 114, 1993).
    """
    if not ours or not theirs:
        return None
    gap = torch.tensor(ours, dtype=torch.float64)[:, None] - torch.tensor(theirs, dtype=torch.float64)
    return float(gap.sign().mean())
