"""Small random models of ordinary families, for demonstrations and tests. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from ..errors import ModelError

FAMILIES: dict[str, tuple[Callable[..., Any], Callable[..., PreTrainedModel]]] = {
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
}


def tiny_model(
    family: str = "qwen3",
    *,
    vocab_size: int,
    hidden_size: int = 64,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    intermediate_size: int | None = None,
    max_positions: int = 512,
    tie: bool = True,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> PreTrainedModel:
    """A causal language model with random weights; the same arguments give the same weights.

    The weights are drawn in float32 by transformers' own initialisation under a forked generator, so torch's global
    random state is left as it was.

    Args:
        family: `qwen3`, `qwen2` or `llama`.
        vocab_size: V, rows of the embedding.
        hidden_size: width; a multiple of `heads`.
        layers: transformer blocks.
        heads: query heads; a multiple of `kv_heads`.
        kv_heads: key and value heads.
        intermediate_size: width of the feed-forward block; default 3 * hidden_size.
        max_positions: longest sequence, in tokens.
        tie: the output head shares the embedding.
        seed: of the weights.
        dtype: of the returned weights.

    Raises:
        ModelError: the family is unknown or the sizes do not divide.
    """
    if family not in FAMILIES:
        raise ModelError(f"family: {family!r} is unknown; choose one of {', '.join(FAMILIES)}")
    if hidden_size % (2 * heads):
        raise ModelError(f"hidden_size: {hidden_size} must be a multiple of 2 * heads = {2 * heads}")
    if heads % kv_heads:
        raise ModelError(f"heads: {heads} must be a multiple of kv_heads = {kv_heads}")
    make_config, make_model = FAMILIES[family]
    config = make_config(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=hidden_size // heads,
        intermediate_size=3 * hidden_size if intermediate_size is None else intermediate_size,
        max_position_embeddings=max_positions,
        tie_word_embeddings=tie,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make_model(config)
    return model.to(dtype).eval()
