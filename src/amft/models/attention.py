"""Which attention kernel a model runs.

On a CPU the fused kernel (`sdpa`) decodes fastest (about 15 % more tokens per second than `eager`), while its backward
pass is slow: training runs faster with `eager`. Each phase asks for its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from ..errors import ModelError


@contextmanager
def attention(model: PreTrainedModel, implementation: str) -> Iterator[None]:
    """Run the body with `implementation` (`sdpa`, `eager`, ...); the previous one returns afterwards, errors included.

    Raises:
        ModelError: the model does not have that implementation or cannot switch.
    """
    previous = _current(model.config)
    _switch(model, implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(previous)


def not_plain(config: PreTrainedConfig) -> str | None:
    """Why this is not a text model whose layers all attend to everything before; None when it is."""
    if config.is_encoder_decoder:
        return "it is an encoder-decoder"
    if config.get_text_config(decoder=True) is not config:
        return "it is not a plain text model"
    if any(type(layer) is not DynamicLayer for layer in DynamicCache(config=config).layers):
        return "its cache is not plain keys and values in every layer"
    return None


def _current(config: Any) -> str | dict[str, Any]:
    """The implementation of the model and of each of its parts, in the form `set_attn_implementation` reads."""
    parts = {key: getattr(config, key) for key in config.sub_configs}
    if not any(parts.values()):
        return config._attn_implementation
    return {"": config._attn_implementation, **{key: _current(part) for key, part in parts.items() if part is not None}}


def _switch(model: PreTrainedModel, implementation: str) -> None:
    try:
        model.set_attn_implementation(implementation)
    except (ValueError, ImportError) as error:
        raise ModelError(f"attention: {type(model).__name__} has no {implementation!r}: {error}") from error
    if model.config._attn_implementation != implementation:
        raise ModelError(f"attention: {type(model).__name__} cannot switch to {implementation!r} after loading")
