"""Low-rank adapters (arXiv 2106.09685) through peft: added in place, saved alone, merged on request."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..errors import CheckpointError, ModelError

ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"


def add_lora(
    model: PreTrainedModel,
    *,
    r: int,
    alpha: float,
    target_modules: list[str] | str,
    seed: int,
    base: str,
) -> None:
    """`W x + (alpha / r) B A x` in place of `W x`; A is drawn, B is 0, everything else is frozen.

    The adapter is kept in float32 at least, whatever the frozen weights are in. It has no dropout: rollouts and
    training must see one policy.

    Args:
        model: changed in place.
        r: rank.
        alpha: scale, in units of r.
        target_modules: names of linear modules, as peft matches them, or `all-linear`.
        seed: of A.
        base: how `adapter_config.json` names the model underneath.

    Raises:
        ModelError: peft is missing, no module has such a name, or the model has an adapter already.
    """
    peft = _peft()
    if has_adapter(model):
        raise ModelError("model: it has an adapter already; make one model of the two with `amft merge`")
    settings = peft.LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=0.0,
        target_modules=target_modules,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():  # peft draws from the global generator
        torch.manual_seed(seed)
        try:
            _inject(model, settings)
        except ValueError as error:
            raise ModelError(f"lora.target_modules: {str(error).splitlines()[0]}") from None
    settings.base_model_name_or_path = base
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))


def has_adapter(model: nn.Module) -> bool:
    """Whether `add_lora` (or transformers) put an adapter into this model."""
    return bool(getattr(model, "_hf_peft_config_loaded", False))


def lora_rank(model: nn.Module) -> int:
    """r of the adapter in this model."""
    return int(cast(Any, model).peft_config["default"].r)


def is_adapter(directory: Path) -> bool:
    """Whether a model directory holds an adapter alone."""
    return (directory / ADAPTER_CONFIG).is_file() and not (directory / "config.json").is_file()


def base_of(directory: Path) -> str:
    """The model under an adapter, as its `adapter_config.json` names it.

    Raises:
        ModelError: it names none.
    """
    base = json.loads((directory / ADAPTER_CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not base:
        raise ModelError(f"{directory / ADAPTER_CONFIG}: base_model_name_or_path is empty; fill in the base model")
    return str(base)


def adapter_state(directory: Path) -> dict[str, Tensor]:
    """The tensors of a saved adapter, under the names its parameters have in a model.

    Raises:
        CheckpointError: the file is missing or is not an adapter.
    """
    path = directory / ADAPTER
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; the run was not one with lora")
    return {_name(key): value for key, value in load_file(path).items()}


def save_adapter(model: PreTrainedModel, directory: Path, state: Mapping[str, Tensor]) -> None:
    """Write an adapter in peft's layout, without peft's look-up of the base on the hub.

    Args:
        model: with the adapter.
        directory: exists.
        state: its parameters by name, whole and on the CPU.
    """
    tensors = {f"base_model.model.{name.replace('.default.', '.')}": value for name, value in state.items()}
    save_file({name: value.contiguous() for name, value in tensors.items()}, directory / ADAPTER, {"format": "pt"})
    settings = copy.copy(cast(Any, model).peft_config["default"])
    if isinstance(settings.target_modules, set):  # whose order is another one in every process
        settings.target_modules = sorted(settings.target_modules)
    settings.save_pretrained(str(directory))


@contextlib.contextmanager
def adapter_off(model: PreTrainedModel) -> Iterator[None]:
    """Inside, the model is the one under the adapter."""
    layers = _adapted(model)
    for layer in layers:
        layer.enable_adapters(enabled=False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(enabled=True)


def attach(model: PreTrainedModel, directory: Path) -> None:
    """Put a saved adapter into the model it was trained on, frozen.

    Raises:
        ModelError: peft is missing, or the adapter is no safetensors file, or not whole.
    """
    peft = _peft()
    if not (directory / ADAPTER).is_file():  # peft would read a pickle in its place
        raise ModelError(f"{directory}: no {ADAPTER} in it; adapters are read from safetensors only")
    _inject(model, peft.LoraConfig.from_pretrained(str(directory)))
    saved = adapter_state(directory)
    model.load_state_dict(saved, strict=False)
    adapter = {name: p.requires_grad_(False) for name, p in model.named_parameters() if "lora_" in name}
    if missing := sorted(adapter.keys() - saved.keys()):
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise ModelError(f"{directory / ADAPTER}: no {missing[0]}{more} in it, which adapter_config.json asks for")


def merge_into_base(model: PreTrainedModel, directory: Path) -> PreTrainedModel:
    """The model with a saved adapter added to its weights, in place: an ordinary model still."""
    adapted = copy.deepcopy(model)
    attach(adapted, directory)
    for layer in _adapted(adapted):
        layer.merge()
    state = adapted.state_dict()
    model.load_state_dict({name.replace(".base_layer.", "."): v for name, v in state.items() if "lora_" not in name})
    return model


def in_four_bits() -> Any:
    """Options of `from_pretrained` for QLoRA: the frozen weights in nf4 (arXiv 2305.14314), arithmetic in bfloat16.

    Raises:
        ModelError: bitsandbytes is missing.
    """
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise ModelError("lora.load_in_4bit needs bitsandbytes: pip install bitsandbytes, or set it to false") from None
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": quantization}


def _inject(model: PreTrainedModel, settings: Any) -> None:
    """Put the adapter's modules in, by peft alone: releases of transformers ask for a peft that is not out yet."""
    _peft().inject_adapter_in_model(settings, model)
    cast(Any, model)._hf_peft_config_loaded = True  # so transformers' save_pretrained writes the adapter alone


def _adapted(model: PreTrainedModel) -> list[Any]:
    """The modules that hold a part of the adapter."""
    kind = _peft().tuners.tuners_utils.BaseTunerLayer
    return [module for module in model.modules() if isinstance(module, kind)]


def _name(key: str) -> str:
    """peft's name in the file -> the parameter's: the adapter's own name, `default`, stands before the last word."""
    head, _, last = key.removeprefix("base_model.model.").rpartition(".")
    return f"{head}.default.{last}"


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise ModelError("lora needs peft: pip install 'amft[lora]', or set lora to null") from None
    return peft
