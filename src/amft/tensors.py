"""Masked means over tokens, and per-token scores of logits. Each is written once, here.

Notation: B rows, C completion tokens, V vocabulary. Half types are accumulated in float32; float64 stays float64.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Reduction: TypeAlias = Literal["token", "sequence", "constant"]
"""`token`: every loss token weighs the same (DAPO). `sequence`: every row weighs the same (GRPO).
`constant`: a fixed length per row, so that a row's length does not change its tokens' weight (Dr. GRPO)."""

TensorGroups: TypeAlias = dict[str, dict[str, Tensor]]
"""Group, for example `optimizer` -> name -> tensor; what a checkpoint holds."""

CHUNK_ELEMENTS = 2**24
"""Logits turned into log-probabilities at once: 64 MiB of float32."""


def masked(values: Tensor, mask: Tensor) -> Tensor:
    """`values` with exact zeros, and zero gradient, where `mask` is 0, whatever stood there."""
    return values.expand(mask.shape).masked_fill(mask == 0, 0.0)


def reduce(values: Tensor, mask: Tensor, how: Reduction, count: float) -> Tensor:
    """Sum of the loss tokens over an explicit global count.

    `sum over rows b of s_b / count`, with `s_b = sum_t m_bt v_bt`, divided by the row's own number of loss tokens
    for `sequence`. Being a sum over rows, it adds up over micro-batches and ranks that share one `count`.

    Args:
        values: [B, C], or [B, 1] for one value per row.
        mask: [B, C], 1 on loss tokens.
        how: which mean `count` stands for.
        count: `reduction_count` summed over all micro-batches and ranks. Not positive: the result is 0.

    Returns:
        Scalar with its graph; exactly 0 when no token counts, never NaN.
    """
    rows = (masked(values, mask) * mask).sum(-1)
    if how == "sequence":
        rows = rows / mask.sum(-1).clamp(min=1.0)
    return rows.sum() / count if count > 0 else rows.sum() * 0.0


def reduction_count(mask: Tensor, how: Reduction, max_length: int) -> float:
    """This batch's part of the global `count` of `reduce`; add it over micro-batches and ranks.

    Args:
        mask: [B, C], 1 on loss tokens.
        how: `token` counts loss tokens; `sequence` counts all rows, those without a loss token too (as TRL does,
            so that masking a truncated row does not raise the weight of the others); `constant` is B * max_length.
        max_length: tokens per row that `constant` assumes; the other two ignore it.
    """
    if how == "token":
        return float(mask.sum())
    return float(mask.shape[0] * (max_length if how == "constant" else 1))


def selected_logps(logits: Tensor, ids: Tensor, *, temperature: float = 1.0) -> Tensor:
    """log softmax(logits / temperature) at `ids`.

    Args:
        logits: [B, C, V].
        ids: [B, C] int64.
        temperature: divides the logits; positive.

    Returns:
        [B, C], float32 or float64.
    """

    def pick(part: Tensor, at: Tensor) -> Tensor:
        return _logps(part, temperature).gather(-1, at[:, None])[:, 0]

    return _by_chunk(pick, logits, ids)


def mean_logps(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Mean over the vocabulary of log softmax(logits / temperature), for label smoothing. [B, C, V] -> [B, C]."""
    return _by_chunk(lambda part: _logps(part, temperature).mean(-1), logits)


def token_entropy(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Entropy in nats of softmax(logits / temperature), `-sum_v p_v log p_v`. [B, C, V] -> [B, C]."""

    def entropy(part: Tensor) -> Tensor:
        logps = _logps(part, temperature)
        # A vocabulary entry switched off with a -inf logit has p log p = 0, not 0 * inf.
        return -(logps.exp() * logps.clamp(min=torch.finfo(logps.dtype).min)).sum(-1)

    return _by_chunk(entropy, logits)


def _logps(logits: Tensor, temperature: float) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return (wide if temperature == 1.0 else wide / temperature).log_softmax(-1)


def _by_chunk(score: Callable[..., Tensor], logits: Tensor, *others: Tensor) -> Tensor:
    """`score` on [N, V] slices of the logits (and [N] of the others); one slice's log-probabilities alive at a time."""
    width = logits.shape[-1]
    size = max(1, CHUNK_ELEMENTS // max(1, width))
    parts = [logits.reshape(-1, width).split(size), *(other.reshape(-1).split(size) for other in others)]
    if len(parts[0]) == 1:
        scores = score(*(part[0] for part in parts))
    else:
        again = partial(checkpoint, score, use_reentrant=False, preserve_rng_state=False)
        scores = torch.cat([again(*part) for part in zip(*parts, strict=True)])
    return scores.reshape(logits.shape[:-1])
