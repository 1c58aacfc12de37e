"""What a run reads its prompts with: a tokenizer and, for a vision-language model, its processor."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from ..errors import ConfigError
from ..models.load import lend_template, load_pictures, load_tokenizer
from ..models.pictures import Pictures, sees


def load_processing_class(model: str | PreTrainedModel, given: Any) -> tuple[Any, Pictures | None]:
    """The tokenizer, and what reads pictures if the model does.

    Args:
        model: name, or loaded.
        given: a tokenizer, a processor, or None for those saved with the model.

    Raises:
        ConfigError: nothing was given or saved.
        ModelError: what was saved cannot be loaded.
    """
    if given is not None:
        tokenizer, pictures = (given.tokenizer, Pictures(given)) if hasattr(given, "image_processor") else (given, None)
        lend_template(tokenizer, pictures)
        return tokenizer, pictures
    name = model if isinstance(model, str) else model.config._name_or_path
    if not name:
        raise ConfigError("processing_class: give the tokenizer, since the model was not loaded from a directory")
    tokenizer = load_tokenizer(name)
    may_see = isinstance(model, str) or sees(model.config)
    pictures = load_pictures(name) if may_see else None
    lend_template(tokenizer, pictures)
    return tokenizer, pictures
