"""Attention over a prefix tree that lies in one line: each token sees its own node up to itself, and all nodes above.

Depth first, the tokens below a node stand right behind it. So attention is made of two kinds of blocks, both slices: a
square of each node with itself, causal, and a band of everything below a node with that node, not masked at all. Each
block gives an output and the logarithm of its sum of exponentials; together they are the softmax over the whole path.
On a GPU one call of FlexAttention does the same by a mask of blocks.

Notation: N tokens, h heads, d numbers a head.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.flex_attention import flex_attention_forward

from ..errors import ModelError
from .attention import not_plain
from .prefix_tree import PrefixTree

TREE = "amft_prefix_tree"
"""The name that transformers knows it by."""

UNKNOWN = ("softcap", "s_aux", "position_bias")
"""What some models add to their attention and this one does not compute."""

BY_PRODUCTS = range(2**13, 2**19)
"""Queries x keys of a block in half precision for which plain products are faster than the fused kernel; backward
they are for fewer too."""

LOG2_E = math.log2(math.e)


def unfit_for_tree(model: PreTrainedModel) -> str | None:
    """Why this model cannot run on rows that lie in a prefix tree; None when it can."""
    taken = inspect.signature(model.forward).parameters
    missing = [name for name in ("position_ids", "logits_to_keep") if name not in taken]
    if missing:
        return f"its forward takes no {missing[0]}"
    if not getattr(model, "_supports_attention_backend", False):
        return "its attention cannot be replaced"
    return not_plain(model.config)


def is_tree(model: Any) -> bool:
    """Whether it was switched to `TREE`, so that its rows must lie in a prefix tree."""
    return getattr(getattr(model, "config", None), "_attn_implementation", None) == TREE


def tree_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    prefix_tree: PrefixTree,
    tree_mask: BlockMask | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention of a whole line.

    Args:
        module: the attention layer.
        query: [1, h, N, d].
        key, value: [1, kv heads, N, d].
        attention_mask: None; the tree says everything.
        scaling: of the products; None is 1 / sqrt(d).
        prefix_tree: of N tokens.
        tree_mask: its `block_mask`, on a GPU.
        others: what transformers hands to every attention.

    Returns:
        [1, N, h, d], and no weights.

    Raises:
        ModelError: the model's attention is of another kind.
    """
    assert attention_mask is None, "the tree says everything"
    assert len(prefix_tree.tokens) == query.shape[2] == key.shape[2], "the rows lie otherwise"
    given = [name for name in UNKNOWN if others.get(name) is not None]
    if given:
        raise ModelError(f"the attention of this model has {given[0]}")
    scale = 1.0 / math.sqrt(query.shape[-1]) if scaling is None else scaling
    if torch.is_autocast_enabled(query.device.type):  # as `scaled_dot_product_attention` does by itself
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    if tree_mask is not None and query.dtype != torch.float64:  # FlexAttention has no float64
        return flex_attention_forward(module, query, key, value, tree_mask, scaling=scale)[0], None
    return tree_blocks(query, key, value, prefix_tree, scale), None


def tree_blocks(query: Tensor, key: Tensor, value: Tensor, tree: PrefixTree, scale: float) -> Tensor:
    """See `tree_attention`: [1, heads, N, d] each -> [1, N, h, d]."""
    lines = [states[0].transpose(0, 1) for states in (query, key, value)]
    return _Blocks.apply(*lines, tree, scale)[None]


class _Blocks(torch.autograd.Function):
    """The blocks of a tree, joined. The gradient of a block needs the joined output and sum only, not the block's own.

    With P_ij = exp(s q_i k_j - L_i), L_i the logarithm of the sum over the whole path, O = P V:
    `dV = P^T dO`, `dS = P * (dO V^T - rowsum(dO * O))`, `dQ = s dS K`, `dK = s dS^T Q` (FlashAttention, arXiv
    2205.14135, appendix B.2), block by block.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, tree: PrefixTree, scale: float) -> Tensor:
        """[N, heads, d] each -> [N, h, d]."""
        given = (query, key, value)
        query, key, value = _repeated(*given)
        wide = torch.promote_types(query.dtype, torch.float32)
        out, total = query.new_empty(query.shape, dtype=wide), query.new_empty(query.shape[:2], dtype=wide)
        for start, count, length in tree.squares:
            span = slice(start, start + count * length)
            found, logs = _block(*(_folded(x[span], count) for x in (query, key, value)), is_causal=True, scale=scale)
            _folded(out[span], count).copy_(found)
            total[span].view(count, length, -1).copy_(logs.transpose(1, 2))
        for start, stop, end in tree.bands:
            parts = (_folded(query[stop:end], 1), _folded(key[start:stop], 1), _folded(value[start:stop], 1))
            found, logs = _block(*parts, is_causal=False, scale=scale)
            _join(out[stop:end], total[stop:end], found[0].transpose(0, 1), logs[0].T)
        out = out.to(query.dtype)
        ctx.save_for_backward(*given, out, total)
        ctx.tree, ctx.scale = tree, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """[N, h, d] -> the same of queries, keys and values."""
        query, key, value, out, total = ctx.saved_tensors
        shape, grad = key.shape, grad.contiguous()
        query, key, value = _repeated(query, key, value)
        into = [torch.zeros_like(x) for x in (query, key, value)]

        def add(rows: slice, columns: slice, count: int, is_causal: bool) -> None:
            above = (_folded(x[rows], count) for x in (grad, query))
            below = (_folded(x[columns], count) for x in (key, value))
            logs = total[rows].view(count, -1, total.shape[1]).transpose(1, 2)
            own = [*above, *below, _folded(out[rows], count), logs]
            found = _block_gradient(own, is_causal=is_causal, scale=ctx.scale)
            for whole, span, part in zip(into, (rows, columns, columns), found, strict=True):
                _folded(whole[span], count).add_(part)

        for start, count, length in ctx.tree.squares:
            span = slice(start, start + count * length)
            add(span, span, count, True)
        for start, stop, end in ctx.tree.bands:
            add(slice(stop, end), slice(start, stop), 1, False)
        slopes, *others = into
        others = [each.view(*shape[:2], -1, shape[2]).sum(2) for each in others]
        return slopes, *others, None, None


def _repeated(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Keys and values [N, kv heads, d] once for every head that shares them: [N, h, d] each."""
    times = query.shape[1] // key.shape[1]
    return query, key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)


def _folded(line: Tensor, count: int) -> Tensor:
    """[count * length, h, d] -> [count, h, length, d], a view."""
    return line.view(count, -1, *line.shape[1:]).transpose(1, 2)


def _join(out: Tensor, total: Tensor, found: Tensor, logs: Tensor) -> None:
    """Put a further block, [n, h, d] and [n, h], to what stands, in place."""
    joined = torch.logaddexp(total, logs)
    out.mul_((total - joined).exp()[..., None]).add_(found * (logs - joined).exp()[..., None])
    total.copy_(joined)


def is_fused(query: Tensor, key: Tensor, backward: bool) -> bool:
    """Whether a block of queries [n, h, q, d] and keys [n, h, k, d] goes to the CPU's fused kernel."""
    pairs = query.shape[2] * key.shape[2]
    is_slow = pairs in BY_PRODUCTS or (backward and pairs < BY_PRODUCTS.start)
    return query.device.type == "cpu" and not (is_slow and query.dtype in (torch.bfloat16, torch.float16))


def _block(query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """Output [n, h, q, d] and logarithm of the sum of exponentials [n, h, q] of one block."""
    if is_fused(query, key, backward=False):
        # The kernel under `scaled_dot_product_attention`, which keeps the sums to itself.
        fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        found: tuple[Tensor, Tensor] = fused(query, key, value, 0.0, is_causal, scale=scale)
        return found
    scores = _scores(query, key, is_causal, scale)
    top = scores.amax(-1, keepdim=True)
    weights = scores.sub_(top).exp2_()
    total = weights.sum(-1, keepdim=True)
    return (weights.to(value.dtype) @ value) / total, (total.log2() + top)[..., 0] / LOG2_E


def _block_gradient(given: Sequence[Tensor], *, is_causal: bool, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of queries, keys and values of one block.

    Args:
        given: gradient of the output, queries, keys, values, output and logarithms of sums, the last two of the whole
            path; [n, h, q or k, d] each, but [n, h, q].
    """
    grad, query, key, value, out, logs = given
    if is_fused(query, key, backward=True):
        fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        found: tuple[Tensor, Tensor, Tensor] = fused(grad, query, key, value, out, logs, 0.0, is_causal, scale=scale)
        return found
    weights = _scores(query, key, is_causal, scale).sub_(logs[..., None] * LOG2_E).exp2_()
    inner = (grad.to(weights.dtype) * out).sum(-1, keepdim=True)
    slopes = (grad @ value.mT).to(weights.dtype).sub_(inner).mul_(weights).mul_(scale).to(query.dtype)
    return slopes @ key, slopes.mT @ query, weights.to(query.dtype).mT @ grad


def _scores(query: Tensor, key: Tensor, is_causal: bool, scale: float) -> Tensor:
    """[n, h, q, k] in units of log 2, float32 or wider, a fresh tensor.

    The powers are of 2, since torch's `exp` of float32 is 5 times slower on a CPU, and 13 times where entries are -inf.
    """
    scores = (query @ key.mT).to(torch.promote_types(query.dtype, torch.float32)).mul_(scale * LOG2_E)
    if is_causal:
        scores += torch.full(scores.shape[-2:], -torch.inf, dtype=scores.dtype, device=scores.device).triu_(1)
    return scores


def block_mask(tree: PrefixTree, device: torch.device) -> BlockMask:
    """FlexAttention's mask of a tree: which blocks of tokens see which, made once for all layers of a pass."""
    ends, n = torch.tensor(tree.ends, device=device), len(tree.ends)

    def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < ends[key])

    return create_block_mask(sees, 1, None, n, n, device=device, _compile=device.type == "cuda")


AttentionInterface.register(TREE, tree_attention)
