"""The imitation loss."""

from __future__ import annotations

from torch import Tensor

from ..batch import LossOut
from ..tensors import masked, reduce


def sft_loss(
    logps: Tensor,
    mask: Tensor,
    *,
    count: float,
    weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    mean_logps: Tensor | None = None,
) -> LossOut:
    """Weighted cross-entropy of the demonstration tokens, a mean over tokens.

    `L_SFT = -(1/count) sum_bt m_bt w_bt [(1 - s) log pi(y_bt) + s mean_v log pi(v)]`; eq 2 of arXiv 2508.06944 is
    w = 1, s = 0. The smoothing s is that of `torch.nn.functional.cross_entropy`. The weights do not enter the count.

    Args:
        logps: [B, C] log-probabilities of the demonstration, nats.
        mask: [B, C], 1 on loss tokens.
        count: loss tokens over all micro-batches and ranks.
        weights: [B, C] or [B, 1]; taken as constants.
        label_smoothing: s in [0, 1).
        mean_logps: [B, C] mean over the vocabulary of the log-probabilities; needed when s > 0.

    Raises:
        ValueError: label smoothing without `mean_logps`.
    """
    tokens = -logps
    if label_smoothing > 0.0:
        if mean_logps is None:
            raise ValueError("label_smoothing needs mean_logps; pass the mean over the vocabulary of the log-probs")
        tokens = (1.0 - label_smoothing) * tokens - label_smoothing * mean_logps
    if weights is not None:
        tokens = tokens * weights.detach()
    nll = float((masked(-logps.detach(), mask) * mask).sum())
    return LossOut(reduce(tokens, mask, "token", count), {"sft/loss": (nll, float(mask.sum()))})
