"""Masked means over tokens, and per-token scores of logits. Each is written once, here.

Notation: B rows, C completion tokens, V vocabulary. Half types are accumulated in float32; float64 stays float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

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


def logit_scores(
    logits: Tensor,
    ids: Tensor,
    *,
    temperature: float = 1.0,
    entropy: bool = False,
    mean: bool = False,
    first: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """What is wanted of softmax(logits / temperature), in one pass over the logits, and one more for the gradient.

    Nothing as large as the logits is kept for the backward pass but the logits themselves.

    Args:
        logits: [B, C, V].
        ids: [B, C] int64.
        temperature: divides the logits; positive.
        entropy: also `-sum_v p_v log p_v`, nats.
        mean: also the mean over the vocabulary of log p_v, for label smoothing.
        first: also whether `ids` are the first choices, 1 or 0; without a gradient.

    Returns:
        log p at `ids`, entropy, mean and first choices, [B, C] float32 or float64 each; None what is not wanted.
    """
    lines = logits.reshape(-1, logits.shape[-1]), ids.reshape(-1)
    found = _LogitScores.apply(*lines, temperature, entropy, mean, first)
    logps, entropies, means, firsts = (each.reshape(ids.shape) if each is not None else None for each in found)
    assert logps is not None
    return logps, entropies, means, firsts


class _LogitScores(torch.autograd.Function):
    """With l_v = log p_v, H the entropy, T the temperature and y the token:

    `T dl_y/dx_v = 1[v = y] - p_v`, `T dH/dx_v = -p_v (l_v + H)`, `T d(mean l)/dx_v = 1/V - p_v`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        ids: Tensor,
        temperature: float,
        with_entropy: bool,
        with_mean: bool,
        with_first: bool,
    ) -> tuple[Tensor | None, ...]:
        """[N, V] and [N] -> four times [N]."""
        picked, entropies, means, firsts = [], [], [], []
        for part, at in _chunks(logits, ids):
            if with_first:
                firsts.append((part.argmax(1) == at).float())
            logps = _logps(part, temperature)
            picked.append(logps.gather(1, at[:, None])[:, 0])
            if with_mean:
                means.append(logps.mean(1))
            if with_entropy:
                # A vocabulary entry switched off with a -inf logit has p log p = 0, not 0 * inf.
                finite = logps.clamp(min=torch.finfo(logps.dtype).min)
                entropies.append(-logps.exp_().mul_(finite).sum(1))
        found = tuple(torch.cat(parts) if parts else None for parts in (picked, entropies, means, firsts))
        if found[3] is not None:
            ctx.mark_non_differentiable(found[3])
        ctx.save_for_backward(logits, ids, found[1])
        ctx.temperature = temperature
        ctx.set_materialize_grads(False)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Four times [N], the last of no use -> [N, V]."""
        if all(each is None for each in grads[:3]):
            return (None,) * 6
        logits, ids, entropies = ctx.saved_tensors
        of_token, of_entropy, of_mean, _ = grads
        again, found = torch.is_grad_enabled(), []  # a second derivative goes through these lines: nothing in place
        for part, at, token, h, mean, entropy in _chunks(logits, ids, of_token, of_entropy, of_mean, entropies):
            logps = _logps(part, ctx.temperature)
            weight = -sum(each[:, None] for each in (token, mean) if each is not None)
            if h is not None:
                weight = weight - h[:, None] * (logps.clamp(min=torch.finfo(logps.dtype).min) + entropy[:, None])
            slope = logps.exp() * weight if again else logps.exp_().mul_(weight)
            if token is not None:
                slope.scatter_add_(1, at[:, None], token[:, None])
            if mean is not None:
                slope += mean[:, None] / part.shape[1]
            found.append((slope if ctx.temperature == 1.0 else slope.div_(ctx.temperature)).to(logits.dtype))
        return torch.cat(found) if len(found) > 1 else found[0], None, None, None, None, None


def _chunks(logits: Tensor, *others: Tensor | None) -> Iterator[tuple[Any, ...]]:
    """Rows of all, so many at a time that their logits are CHUNK_ELEMENTS at most; what is None stays None."""
    size = max(1, CHUNK_ELEMENTS // max(1, logits.shape[1]))
    for start in range(0, max(1, len(logits)), size):
        yield tuple(None if each is None else each[start : start + size] for each in (logits, *others))


def _logps(logits: Tensor, temperature: float) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return (wide if temperature == 1.0 else wide / temperature).log_softmax(-1)
