"""Sizes of a decoder with gated feed-forward layers (Llama, Qwen2, Qwen3 and their like), read from config.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError

KNOWN: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-Math-1.5B": {
        "model_type": "qwen2",
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "Qwen/Qwen2.5-Math-7B": {
        "model_type": "qwen2",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "tie_word_embeddings": False,
    },
    "llava-hf/llava-1.5-7b-hf": {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 32064,
        "tie_word_embeddings": False,
    },
}
"""config.json of the hub models in `recipes/`, the keys that matter: a plan needs no network. Of LLaVA the decoder."""


@dataclass(frozen=True)
class Shape:
    """Sizes of one model, in elements."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    qkv_bias: bool
    qk_norm: bool

    @property
    def q(self) -> int:
        """Width of the queries of one token."""
        return self.heads * self.head_dim

    @property
    def kv(self) -> int:
        """Width of the keys of one token."""
        return self.kv_heads * self.head_dim

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """(output, input) of the linear modules of one layer."""
        h, i, q, kv = self.hidden, self.intermediate, self.q, self.kv
        return ((q, h), (kv, h), (kv, h), (h, q), (i, h), (i, h), (h, i))

    @property
    def layer(self) -> int:
        """Parameters of one layer."""
        vectors = 2 * self.hidden + (self.q + 2 * self.kv) * self.qkv_bias + 2 * self.head_dim * self.qk_norm
        return sum(rows * columns for rows, columns in self.linears) + vectors

    @property
    def embedding(self) -> int:
        """Parameters of the input embedding, and of an output layer that shares it."""
        return self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.layers * self.layer + self.embedding * (1 if self.tied else 2) + self.hidden

    def adapter(self, r: int) -> int:
        """Parameters of an adapter of rank r on every linear module of the layers."""
        return self.layers * sum(r * (rows + columns) for rows, columns in self.linears)


def read_shape(model: str, config_file: str | None = None) -> Shape:
    """The sizes of a model.

    Args:
        model: a model directory, `nano`, or a hub name in `KNOWN`.
        config_file: a config.json to read instead.

    Raises:
        ModelError: there is no config.json, or it is of another kind of model.
    """
    nano = Path(__file__).parents[1] / "models" / "nano_base"
    path = Path(config_file) if config_file else (nano if model == "nano" else Path(model)) / "config.json"
    if path.is_file():
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ModelError(f"{path}: not JSON ({error})") from None
        return shape_of(config, str(path))
    if config_file is None and model in KNOWN:
        return shape_of(KNOWN[model], model)
    raise ModelError(f"model: no {path}; give the model's config.json with --model-config")


def shape_of(config: dict[str, Any], source: str) -> Shape:
    """The sizes in a config.json that is already read.

    Raises:
        ModelError: a size is missing, or the layers are not of the known kind.
    """
    kind = str(config.get("model_type", ""))
    if kind not in ("llama", "qwen2", "qwen3", "mistral"):
        raise ModelError(f"{source}: model_type {kind!r} is not one a plan knows: llama, mistral, qwen2, qwen3")
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    missing = [name for name in names if not isinstance(config.get(name), int)]
    if missing:
        raise ModelError(f"{source}: no {missing[0]} in it")
    hidden, intermediate, layers, heads, vocab = (config[name] for name in names)
    return Shape(
        hidden=hidden,
        intermediate=intermediate,
        layers=layers,
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or hidden // heads,
        vocab=vocab,
        tied=bool(config.get("tie_word_embeddings", False)),
        qkv_bias=kind == "qwen2" or bool(config.get("attention_bias", False)),
        qk_norm=kind == "qwen3",
    )
