"""Sizes of a decoder with gated feed-forward layers (Llama, Qwen2, Qwen3 and their like), read from config.json.

It may stand behind a tower that sees, as in LLaVA.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ModelError
from .tower import Linears, Tower, adapter_size, tower_of

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
        "model_type": "llava",
        "text_config": {"model_type": "llama", "vocab_size": 32064},
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 336,
            "patch_size": 14,
        },
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": False,
    },
}
"""config.json of the hub models in `recipes/`, the keys that matter: a plan needs no network."""

LLAMA = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
"""What a `text_config` leaves out when it is Llama's own default."""


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
    tower: Tower | None = None
    """What sees, before the decoder; None: a model of text."""

    @property
    def q(self) -> int:
        """Width of the queries of one token."""
        return self.heads * self.head_dim

    @property
    def kv(self) -> int:
        """Width of the keys of one token."""
        return self.kv_heads * self.head_dim

    @property
    def linears(self) -> Linears:
        """Of one layer."""
        h, i, q, kv = self.hidden, self.intermediate, self.q, self.kv
        attention = {"q_proj": (q, h), "k_proj": (kv, h), "v_proj": (kv, h), "o_proj": (h, q)}
        return {**attention, "gate_proj": (i, h), "up_proj": (i, h), "down_proj": (h, i)}

    @property
    def layer(self) -> int:
        """Parameters of one layer."""
        vectors = 2 * self.hidden + (self.q + 2 * self.kv) * self.qkv_bias + 2 * self.head_dim * self.qk_norm
        return sum(rows * columns for rows, columns in self.linears.values()) + vectors

    @property
    def embedding(self) -> int:
        """Parameters of the input embedding, and of an output layer that shares it."""
        return self.vocab * self.hidden

    @property
    def ends(self) -> int:
        """Parameters before and after the layers."""
        return self.embedding * (1 if self.tied else 2) + self.hidden

    @property
    def decoder(self) -> int:
        """Parameters, tower and projector apart."""
        return self.layers * self.layer + self.ends

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.decoder + (0 if self.tower is None else self.tower.parameters)

    def adapter(self, r: int, names: Collection[str] | None = None) -> int:
        """Parameters of an adapter of rank r on linear modules of these names; None: on all but the output layer."""
        sees = 0 if self.tower is None else self.tower.adapter(r, names)
        return self.layers * adapter_size(self.linears, r, names) + sees


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
    if kind == "llava":
        return _with_tower(config, source)
    if kind not in ("llama", "qwen2", "qwen3", "mistral"):
        raise ModelError(f"{source}: model_type {kind!r} is not one a plan knows: llama, llava, mistral, qwen2, qwen3")
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


def _with_tower(config: dict[str, Any], source: str) -> Shape:
    text = config.get("text_config") or {}
    defaults = LLAMA if text.get("model_type", "llama") == "llama" else {}
    tied = bool(config.get("tie_word_embeddings") or text.get("tie_word_embeddings"))
    decoder = shape_of({"model_type": "llama", **defaults, **text, "tie_word_embeddings": tied}, source)
    return replace(decoder, tower=tower_of(config, decoder.hidden, source))
