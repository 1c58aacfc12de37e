"""Loading a model and its tokenizer: safetensors only, no remote code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedModel,
)

from ..errors import ModelError
from .lora import attach, base_of, in_four_bits, is_adapter
from .pictures import Pictures, sees

NANO = Path(__file__).parent / "nano_base"
"""The shipped nano base."""


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a model directory (or hub name), with a pad token.

    Raises:
        ModelError: it cannot be loaded, or has no end-of-sequence token.
    """
    directory = _directory(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"{name}: the tokenizer cannot be loaded ({_first_line(error)})") from None
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{name}: the tokenizer has no eos_token, so no completion could end; set one and save it")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_pictures(name: str) -> Pictures | None:
    """The processor of a model directory (or hub name); None for a model of text.

    Raises:
        ModelError: it cannot be loaded, or is not one that `Pictures` reads.
    """
    directory = _directory(name)
    try:
        base = base_of(Path(directory)) if is_adapter(Path(directory)) else directory
        if not sees(AutoConfig.from_pretrained(_directory(base), trust_remote_code=False)):
            return None
        return Pictures(AutoProcessor.from_pretrained(directory, trust_remote_code=False))
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"{name}: the processor cannot be loaded ({_first_line(error)})") from None


def lend_template(tokenizer: Any, pictures: Pictures | None) -> None:
    """Some models keep the chat template with the processor alone; the tokenizer gets it where it has none."""
    if pictures is not None and not tokenizer.chat_template:
        tokenizer.chat_template = pictures.processor.chat_template


def load_model(name: str, dtype: torch.dtype = torch.float32, *, four_bits: bool = False) -> PreTrainedModel:
    """A causal language model, of text or pictures and text, with dropout off: rollouts and training see one policy.

    Args:
        name: `nano`, a model directory (or hub name), or a directory with an adapter alone, which is put on its base.
        dtype: of the weights.
        four_bits: quantize them, see `lora.in_four_bits`.

    Raises:
        ModelError: it cannot be loaded.
    """
    directory = _directory(name)
    if is_adapter(Path(directory)):
        model = load_model(base_of(Path(directory)), dtype, four_bits=four_bits)
        attach(model, Path(directory))
        return model
    options = in_four_bits() if four_bits else {}
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
        kind = AutoModelForImageTextToText if sees(config) else AutoModelForCausalLM
        model = kind.from_pretrained(directory, dtype=dtype, use_safetensors=True, trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"{name}: the model cannot be loaded ({_first_line(error)})") from None
    except Exception as error:  # safetensors raises its own kind for a damaged file
        if type(error).__module__.partition(".")[0] != "safetensors":
            raise
        raise ModelError(f"{name}: the weights are damaged ({_first_line(error)})") from None
    turn_dropout_off(model)
    return model


def turn_dropout_off(model: nn.Module) -> None:
    """Set every dropout of a model to 0, in its modules and in the attention layers' own settings."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            setattr(module, "attention_dropout", 0.0)  # noqa: B010  # the type of a module's attribute is Tensor


def stop_ids(model: PreTrainedModel, tokenizer: Any) -> list[int]:
    """Every token id that ends a completion."""
    ids = {tokenizer.eos_token_id}
    for source in (model.config, model.generation_config):
        value = getattr(source, "eos_token_id", None)
        ids |= set(value) if isinstance(value, list) else {value} - {None}
    return sorted(ids)


def keep_stops(model: PreTrainedModel, tokenizer: Any, stops: Sequence[int]) -> None:
    """Write into a model's own settings what ends a completion, so that the saved one stops by itself anywhere."""
    settings = model.generation_config
    if settings is None:
        return
    settings.eos_token_id = stops[0] if len(stops) == 1 else list(stops)
    if settings.pad_token_id is None:
        settings.pad_token_id = tokenizer.pad_token_id
    if getattr(model.config, "eos_token_id", 0) is None:
        model.config.eos_token_id = tokenizer.eos_token_id


def _directory(name: str) -> str:
    return str(NANO) if name == "nano" else os.fspath(name)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
