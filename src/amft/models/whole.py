"""A model directory is read whole or not at all: what its files must hold, and what must come out of them."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

from ..errors import AMFTError, ModelError

MOST_LAYERS = 10_000
"""Of any model there is; a config that says more would fill the memory while it is read."""

PROBED = 4
"""Tokens of the forward pass that shows whether a model computes numbers."""


@contextmanager
def reading(name: str, what: str) -> Iterator[None]:
    """Inside, whatever another library raises over a user's files becomes one line.

    Raises:
        ModelError: names the model, what of it was read, and the first line of the cause.
    """
    try:
        yield
    except (AMFTError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # configs and templates are hostile input: anything can come of them
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise ModelError(f"{name}: the {what} cannot be loaded ({type(error).__name__}: {first[:200]})") from error


@contextmanager
def unreported() -> Iterator[None]:
    """Inside, transformers prints no table of what a loading lacked; ours is one line."""
    logger = logging.getLogger("transformers.modeling_utils")

    def is_no_report(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    logger.addFilter(is_no_report)
    try:
        yield
    finally:
        logger.removeFilter(is_no_report)


def check_depth(name: str, directory: Path) -> None:
    """Refuse a local config.json with layers beyond all reason, before a list of them is made.

    Raises:
        ModelError: it is not JSON of a model, or has too many layers.
    """
    file = directory / "config.json"
    if not file.is_file():
        return
    with reading(name, "config.json"):
        written = dict(json.loads(file.read_text(encoding="utf-8")))
    for part in (written, *(value for value in written.values() if isinstance(value, dict))):
        for key, value in part.items():
            if "layer" in key and isinstance(value, int) and value > MOST_LAYERS:
                raise ModelError(f"{name}: config.json has {key} {value}; at most {MOST_LAYERS} make sense")


def check_files(name: str, directory: str, config: PretrainedConfig, skeleton: Callable[[], nn.Module] | None) -> None:
    """The weights are safetensors and nothing else, and about as many as the config describes.

    Args:
        name: for messages.
        directory: model directory or hub name.
        config: read from it.
        skeleton: makes the model without memory (device `meta`), for its size; None where the files hold something
            packed, or less than the model on purpose.

    Raises:
        ModelError: a file of another kind, or of another size than the config says.
    """
    files = _weight_files(name, directory, getattr(config, "transformers_weights", None))
    if skeleton is None or not files:
        return
    shapes = [shape for file in files for shape in _shapes(file)]
    layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    if isinstance(layers, int) and layers > len(shapes):  # before anything of that depth is built
        raise ModelError(f"{name}: config.json has {layers} layers and the weight files {len(shapes)} tensors")
    held, described = sum(map(math.prod, shapes)), sum(part.numel() for part in skeleton().parameters())
    if described > 2 * held:
        raise ModelError(
            f"{name}: config.json describes {described} parameters and the weight files hold {held}; "
            "they do not belong together"
        )


def check_loading(name: str, found: Mapping[str, Any], allowed: Sequence[str]) -> None:
    """Every tensor of the model came from the files, and every tensor of the files went into the model.

    Args:
        name: for messages.
        found: what `from_pretrained` tells: `missing_keys`, `unexpected_keys`, `mismatched_keys`.
        allowed: patterns (`lm_head.*`) of tensors that may be in one of the two alone.

    Raises:
        ModelError: the tensors that do not fit, and how to allow them.
    """
    if mismatched := sorted(found["mismatched_keys"]):
        key, held, wanted = mismatched[0]
        raise ModelError(
            f"{name}: {key} is {list(held)} in the weight files and {list(wanted)} by config.json"
            f"{_more(len(mismatched))}; they do not belong together"
        )
    kinds = {"missing_keys": "missing from the weight files", "unexpected_keys": "of no use to this architecture"}
    for kind, words in kinds.items():
        if left := sorted(key for key in found[kind] if not any(fnmatch(key, pattern) for pattern in allowed)):
            raise ModelError(
                f"{name}: {left[0]}{_more(len(left))} {words}; repair the directory, or name them in allow_missing "
                "if this is meant"
            )


def check_architecture(name: str, config: PretrainedConfig) -> None:
    """The class that `architectures` names is of the family that `model_type` names.

    Raises:
        ModelError: they contradict each other.
    """
    for written in config.architectures or ():
        kind = getattr(transformers, str(written), None)
        family = getattr(kind, "config_class", None)
        if family is not None and family is not type(config):
            raise ModelError(
                f"{name}: config.json says model_type {config.model_type} and architectures {written}; correct one"
            )


@torch.no_grad()
def check_sound(name: str, model: PreTrainedModel) -> None:
    """Weights and tables are finite, and so is what one forward pass computes.

    Raises:
        ModelError: what is not.
    """
    for kind, tensors in (("weight", model.named_parameters()), ("table", model.named_buffers())):
        for key, tensor in tensors:
            if tensor.is_floating_point() and tensor.device.type != "meta" and not _finite(tensor):
                fix = "the files are damaged" if kind == "weight" else "see the rope settings in config.json"
                raise ModelError(f"{name}: the {kind} {key} is not finite; {fix}")
    ids = torch.zeros(1, PROBED, dtype=torch.long, device=model.device)
    with reading(name, "model does not compute, it"):
        logits = model(input_ids=ids, use_cache=False).logits
    if not _finite(logits):
        raise ModelError(f"{name}: one forward pass gives logits that are not finite; see config.json and the weights")


def check_tokenizer(name: str, tokenizer: Any, model: PreTrainedModel) -> None:
    """Every token that text, the chat template, the padding or an end can bring has a row in the embedding.

    A special token beyond it that nothing writes is left alone: published models have one.

    Raises:
        ModelError: a token without a row.
    """
    rows = model.get_input_embeddings().num_embeddings
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    template = str(tokenizer.chat_template or "")
    named = {tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token}
    for token, number in tokenizer.get_vocab().items():
        if number >= rows and (token not in special or token in named or token in template):
            raise ModelError(
                f"{name}: the tokenizer's token {token!r} is number {number} and the model has {rows}; "
                "they do not belong together"
            )


def _weight_files(name: str, directory: str, explicit: Any) -> list[Path]:
    """Those that transformers will read; none where a model of the hub is still to be fetched in parts.

    Raises:
        ModelError: an index names something else than safetensors.
    """
    wanted = [explicit] if explicit else [SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME]
    for file in wanted:
        found = cached_file(directory, file, _raise_exceptions_for_missing_entries=False)
        if found is None:
            continue
        if not file.endswith(".json"):
            return [Path(found)]
        with reading(name, file):
            parts = sorted(set(json.loads(Path(found).read_text(encoding="utf-8"))["weight_map"].values()))
        for part in parts:
            if not part.endswith(".safetensors") or Path(part).name != part:
                raise ModelError(
                    f"{name}: {file} names {part[:80]!r}; weights are read from safetensors files beside it"
                )
        paths = [Path(found).with_name(part) for part in parts]
        return paths if all(path.exists() for path in paths) else []
    return []


def _shapes(file: Path) -> list[list[int]]:
    if not file.is_file():
        raise ModelError(f"{file}: not an ordinary file")
    with reading(str(file), "weights"), safe_open(file, "pt") as tensors:
        return [tensors.get_slice(key).get_shape() for key in tensors.keys()]  # noqa: SIM118  # no mapping


def _finite(tensor: torch.Tensor) -> bool:
    # A sum is one number to look at and needs no memory of the tensor's size; only where it is not finite, all are.
    return bool(tensor.sum(dtype=torch.float64).isfinite()) or bool(tensor.isfinite().all())


def _more(count: int) -> str:
    return f" and {count - 1} more" if count > 1 else ""
