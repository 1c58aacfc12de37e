"""The entropy bonus."""

from __future__ import annotations

from torch import Tensor

from ..batch import LossOut
from ..tensors import Reduction, masked, reduce


def entropy_loss(entropy: Tensor, mask: Tensor, *, count: float, reduction: Reduction) -> LossOut:
    """Minus the mean token entropy: `L_H = -(mean) H_bt`, so that descent explores.

    Args:
        entropy: [B, C] nats, with its graph (`tensors.logit_scores`).
        mask: [B, C], 1 on loss tokens.
        count: `tensors.reduction_count` over all micro-batches and ranks.
        reduction: which mean `count` stands for.
    """
    total = float((masked(entropy.detach(), mask) * mask).sum())
    return LossOut(reduce(-entropy, mask, reduction, count), {"entropy": (total, float(mask.sum()))})
