"""Loading a model and its tokenizer: safetensors only, no remote code."""

from __future__ import annotations

import contextlib
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
    GenerationConfig,
    PreTrainedModel,
)
from transformers.utils import CONFIG_NAME, cached_file

from ..errors import ModelError
from .lora import attach, base_of, in_four_bits, is_adapter
from .pictures import Pictures, sees
from .whole import (
    check_architecture,
    check_depth,
    check_files,
    check_loading,
    check_sound,
    reading,
    unreported,
)

NANO = Path(__file__).parent / "nano_base"
"""The shipped nano base."""


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a model directory (or hub name), with a pad token.

    Raises:
        ModelError: it cannot be loaded, or has no end-of-sequence token.
    """
    directory = _directory(name)
    with reading(name, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
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
    with reading(name, "processor"):
        base = base_of(Path(directory)) if is_adapter(Path(directory)) else directory
        if not sees(AutoConfig.from_pretrained(_directory(base), trust_remote_code=False)):
            return None
        return Pictures(AutoProcessor.from_pretrained(directory, trust_remote_code=False))


def lend_template(tokenizer: Any, pictures: Pictures | None) -> None:
    """Some models keep the chat template with the processor alone; the tokenizer gets it where it has none."""
    if pictures is not None and not tokenizer.chat_template:
        tokenizer.chat_template = pictures.processor.chat_template


def load_model(
    name: str, dtype: torch.dtype = torch.float32, *, four_bits: bool = False, allow_missing: Sequence[str] = ()
) -> PreTrainedModel:
    """A causal language model, of text or pictures and text, with dropout off: rollouts and training see one policy.

    It is loaded whole or not at all: tensors that are missing, left over or of another shape, numbers that are not
    finite and weights in anything but safetensors are refused.

    Args:
        name: `nano`, a model directory (or hub name), or a directory with an adapter alone, which is put on its base.
        dtype: of the weights.
        four_bits: quantize them, see `lora.in_four_bits`.
        allow_missing: patterns of tensors that may be in the files or in the model alone; a missing one is drawn anew,
            the same at every loading.

    Raises:
        ModelError: it cannot be loaded, or not whole.
    """
    directory = _directory(name)
    if is_adapter(Path(directory)):
        base = base_of(Path(directory))
        if is_adapter(Path(_directory(base))):
            raise ModelError(f"{name}: its base {base} is an adapter too; merge that one first with `amft merge`")
        model = load_model(base, dtype, four_bits=four_bits, allow_missing=allow_missing)
        with reading(name, "adapter"), unreported():
            attach(model, Path(directory))
        check_sound(name, model)
        return model
    model = _load(name, directory, dtype, in_four_bits() if four_bits else {}, allow_missing)
    turn_dropout_off(model)
    check_sound(name, model)
    return model


def _load(
    name: str, directory: str, dtype: torch.dtype, options: dict[str, Any], allow_missing: Sequence[str]
) -> PreTrainedModel:
    with reading(name, "model"), contextlib.nullcontext() if allow_missing else unreported(), torch.random.fork_rng():
        torch.manual_seed(0)  # of missing tensors
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
        kind = AutoModelForImageTextToText if sees(config) else AutoModelForCausalLM
        packed = bool(options) or getattr(config, "quantization_config", None) is not None
        check_files(name, directory, config, None if allow_missing or packed else lambda: _skeleton(kind, config))
        model, found = kind.from_pretrained(
            directory,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are refused in our words
            output_loading_info=True,
            **options,
        )
    check_loading(name, found, allow_missing)
    check_architecture(name, config)
    loaded: PreTrainedModel = model
    return loaded


def _skeleton(kind: Any, config: Any, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """The model that a config describes, without memory."""
    with torch.device("meta"):
        model: PreTrainedModel = kind.from_config(config, dtype=dtype or config.dtype, trust_remote_code=False)
    return model


def load_skeleton(name: str) -> PreTrainedModel:
    """The model of a directory on torch's `meta` device: names, shapes and settings, and no weight is read.

    The headers of weight files that are there are compared with the config, as `load_model` does.

    Raises:
        ModelError: the directory cannot be read, or its parts contradict each other.
    """
    directory = _directory(name)
    _refuse_adapter(name, directory)
    with reading(name, "model"):
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
        check_files(name, directory, config, lambda: skeleton_of(config))
        model = skeleton_of(config)
        if (Path(directory) / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(directory)
    check_architecture(name, config)
    return model


def load_outline(name: str, dtype: torch.dtype) -> PreTrainedModel:
    """What `load_model` gives, on torch's `meta` device: no file of weights is opened.

    Args:
        name: a model directory (or hub name).
        dtype: of the weights that it stands for.

    Raises:
        ModelError: its config cannot be read, or it is an adapter.
    """
    directory = _directory(name)
    _refuse_adapter(name, directory)
    with reading(name, "model"):
        return skeleton_of(AutoConfig.from_pretrained(directory, trust_remote_code=False), dtype).eval()


def _refuse_adapter(name: str, directory: str) -> None:
    if is_adapter(Path(directory)):
        raise ModelError(f"{name}: it is an adapter on a base; make one model of the two with `amft merge`")


def skeleton_of(config: Any, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """The model that a config describes, without memory, in the class that `load_model` would choose."""
    model = _skeleton(AutoModelForImageTextToText if sees(config) else AutoModelForCausalLM, config, dtype)
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


def cached_model(name: str) -> str | None:
    """Where the cache of the hub holds a model, without asking the hub; None where it does not."""
    try:
        config = cached_file(name, CONFIG_NAME, local_files_only=True)
    except OSError:
        return None
    return None if config is None else str(Path(config).parent)


def _directory(name: str) -> str:
    directory = str(NANO) if name == "nano" else os.fspath(name)
    check_depth(name, Path(directory))
    return directory
