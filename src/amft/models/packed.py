"""Attention over sequences that lie end to end in one row: none sees another, and none is padded.

Everything else in a model works token by token, so a row without padding is only a matter of attention. Here the row is
cut into its sequences: on a CPU each runs by itself, on other devices all run at once in a padded block, since many
small kernels would wait for one another. No mask is made: a block-diagonal one would have [tokens x tokens] entries.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from ..errors import ModelError
from .attention import not_plain

PACKED = "amft_packed"
"""The name that transformers knows it by."""

UNKNOWN = ("softcap", "s_aux", "position_bias")
"""What some models add to their attention and this one does not compute."""


def unpackable(model: PreTrainedModel) -> str | None:
    """Why this model cannot run on sequences laid end to end; None when it can."""
    taken = inspect.signature(model.forward).parameters
    missing = [name for name in ("position_ids", "logits_to_keep") if name not in taken]
    if missing:
        return f"its forward takes no {missing[0]}"
    if not getattr(model, "_supports_attention_backend", False):
        return "its attention cannot be replaced"
    return not_plain(model.config)


def check_packable(model: PreTrainedModel) -> None:
    """Raises: ModelError: see `unpackable`."""
    reason = unpackable(model)
    if reason:
        raise ModelError(f"padding_free: {type(model).__name__} does not fit: {reason}; leave padding_free out")


def is_packed(model: Any) -> bool:
    """Whether it was switched to `PACKED`, so that its rows must be laid end to end."""
    return getattr(getattr(model, "config", None), "_attn_implementation", None) == PACKED


def packed_attention(
    module: torch.nn.Module,  # noqa: ARG001
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    packed_lengths: Sequence[int] = (),
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each sequence.

    Args:
        module: not used.
        query: [1, heads, N, head_dim].
        key, value: [1, kv heads, N, head_dim].
        attention_mask: None; the lengths say everything.
        scaling: of the products.
        packed_lengths: tokens of each sequence, in order; they add up to N.
        others: what transformers hands to every attention.

    Returns:
        [1, N, heads, head_dim], and no weights.

    Raises:
        ModelError: the model's attention is of another kind.
    """
    assert attention_mask is None, "the lengths say everything"
    assert sum(packed_lengths) == query.shape[2] == key.shape[2], "the rows were not packed"
    given = [name for name in UNKNOWN if others.get(name) is not None]
    if given:
        raise ModelError(f"padding_free: the attention of this model has {given[0]}; leave padding_free out")
    attend = _one_by_one if query.device.type == "cpu" else _at_once
    return attend(query, key, value, packed_lengths, scaling).transpose(1, 2), None


def _one_by_one(query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], scale: float | None) -> Tensor:
    parts = (whole.split(list(lengths), 2) for whole in (query, key, value))
    return torch.cat([_causal(q, k, v, scale) for q, k, v in zip(*parts, strict=True)], 2)


def _at_once(query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], scale: float | None) -> Tensor:
    """Padded on the right, where a causal sequence never looks."""
    width = max(lengths)

    def block(whole: Tensor) -> Tensor:
        parts = whole[0].split(list(lengths), 1)
        return torch.stack([pad(part, (0, 0, 0, width - part.shape[1])) for part in parts])

    found = _causal(block(query), block(key), block(value), scale)
    return torch.cat([row[:, :length] for row, length in zip(found, lengths, strict=True)], 1)[None]


def _causal(query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
    grouped = query.shape[1] != key.shape[1]
    return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=grouped)


AttentionInterface.register(PACKED, packed_attention)
