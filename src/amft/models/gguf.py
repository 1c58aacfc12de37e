"""A GGUF file (llama.cpp's format, often quantized) as an ordinary model directory, with tokenizer and template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from ..errors import ModelError
from ..extras import require_extra

DIGIT_BY_DIGIT = ("smollm",)
"""Pre-tokenizers of GGUF that cut numbers into digits first, which transformers 5 leaves out when it reads the file."""


def require_gguf() -> None:
    """Check that what transformers reads such files with is installed.

    Raises:
        IntegrationError: it is not.
    """
    require_extra("reading a GGUF file", "smollm2", "gguf", "accelerate")


def convert_gguf(file: Path, output: Path, *, tokenizer_only: bool = False) -> None:
    """Write the tokenizer, and unless told otherwise the model in float32, as `save_pretrained` lays them out.

    The weights are those the file stands for, to the bit: quantized ones are multiplied out.

    Args:
        file: a `.gguf` file with a tokenizer in it.
        output: a directory that is there.
        tokenizer_only: leave the weights out.

    Raises:
        IntegrationError: see `require_gguf`.
        ModelError: the file cannot be read.
    """
    require_gguf()
    fields = _fields(file)
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
        model = None if tokenizer_only else _plain_model(file)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{file}: cannot be read as a model ({' '.join(str(error).split())})") from None
    if fields.get("tokenizer.ggml.pre") in DIGIT_BY_DIGIT:
        cut = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cut)
    if _END in fields:  # transformers 5.17 takes the token that begins a text for it
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(int(fields[_END]))
    tokenizer.model_max_length = fields["llama.context_length"]
    tokenizer.save_pretrained(output)
    _tidy(output / "tokenizer_config.json")
    if model is not None:
        model.save_pretrained(output)


def _fields(file: Path) -> dict[str, Any]:
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: not a GGUF file ({' '.join(str(error).split())})") from None
    return {name: reader.fields[name].contents() for name in _READ if name in reader.fields}


_END = "tokenizer.ggml.eos_token_id"
_READ = ("tokenizer.ggml.pre", "llama.context_length", _END)


def _plain_model(file: Path) -> PreTrainedModel:
    """The model without the mark `quantized`, with which transformers would not save it."""
    read = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, trust_remote_code=False
    )
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    model.load_state_dict(read.state_dict())
    model.generation_config.eos_token_id = config.eos_token_id
    model.generation_config.pad_token_id = config.pad_token_id
    return model


def _tidy(path: Path) -> None:
    """Drop what the tokenizer writes about the file it came from; rows are padded on the left, as decoding needs."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    kept = {name: value for name, value in settings.items() if name not in ("is_local", "local_files_only")}
    path.write_text(json.dumps({**kept, "padding_side": "left"}, indent=2) + "\n", encoding="utf-8")
