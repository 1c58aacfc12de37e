"""Where the engine `vllm` is for a run: the server, the folder it can read, and how weights get there."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from ..disk import OTHER_PLACE, disk_guard
from ..errors import ConfigError, ModelError
from ..models.lora import has_adapter, lora_rank
from ..rollout.vllm_server import (
    LORA_RANKS,
    OwnServer,
    RunningServer,
    Server,
    serve_arguments,
    serve_environment,
)
from ..settings.groups import EngineSettings
from .ranks import Ranks
from .served_policy import base_weights

ENGINE_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

RESERVED = {
    "api_key",
    "dtype",
    "generation_config",
    "host",
    "load_format",
    "logprobs_mode",
    "middleware",
    "model",
    "port",
    "served_model_name",
    "tokens_only",
    "weight_transfer_config",
    "worker_extension_cls",
}
"""Options of `vllm serve` that are ours to set."""


@dataclass
class VllmPlace:
    """What a run needs of its server."""

    server: Server | None
    """Of rank 0; None on the others."""
    folder: Path
    """Of rank 0, read by the server too; gone with this object."""
    backend: str
    """Of the weight transfer."""
    dtype: torch.dtype
    """Of the engine's weights."""


def build_place(
    model: PreTrainedModel, ranks: Ranks, dtype: torch.dtype, options: EngineSettings, max_batch: int
) -> VllmPlace:
    """A collective. Arguments as for `ServedSampler`; nothing is started yet.

    Raises:
        ConfigError: vLLM is missing, or an option does not fit.
        ModelError: vLLM does not take the model.
    """
    dtype = dtype if options.dtype is None else ENGINE_DTYPES[options.dtype]
    _check(model, dtype, options)
    base = base_weights(model, ranks, dtype) if has_adapter(model) and options.where == "own" else {}
    place = VllmPlace(None, Path(), _backend(model, options), dtype)
    if not ranks.is_main:
        return place
    with disk_guard(Path(options.exchange or tempfile.gettempdir()), cure=OTHER_PLACE):
        place.folder = Path(tempfile.mkdtemp(prefix="amft-vllm-", dir=options.exchange))
    weakref.finalize(place, shutil.rmtree, place.folder, ignore_errors=True)
    if options.where != "own":
        place.server = RunningServer(options.where)
        return place
    with disk_guard(place.folder, cure=OTHER_PLACE):
        (place.folder / "config.json").write_text(json.dumps(_config(model)), encoding="utf-8")
        if base:
            save_file(base, place.folder / "model.safetensors", {"format": "pt"})
    place.server = _own_server(model, place, options, max_batch)
    return place


def _own_server(model: PreTrainedModel, place: VllmPlace, options: EngineSettings, max_batch: int) -> Server:
    adapted, on_cpu = has_adapter(model), model.device.type == "cpu"
    arguments = serve_arguments(
        place.folder,
        dtype=str(place.dtype).removeprefix("torch."),
        max_batch=max_batch,
        backend=None if adapted else place.backend,
        lora_rank=lora_rank(model) if adapted else None,
        gpu_memory=None if on_cpu else options.gpu_memory,
        sleep=options.sleep,
        more=options.serve,
    )
    devices = None if on_cpu else options.devices or _own_gpu(os.environ, model.device)
    return OwnServer(arguments, serve_environment(os.environ, devices))


def _check(model: PreTrainedModel, dtype: torch.dtype, options: EngineSettings) -> None:
    if options.where == "own":
        package = importlib.util.find_spec("vllm")
        if package is None or package.origin is None:  # a folder is found too
            raise ConfigError("engine: vllm is not installed; `pip install 'amft[vllm]'` on Linux, or use decode or hf")
        if os.environ.get("LOCAL_WORLD_SIZE") != os.environ.get("WORLD_SIZE"):
            raise ConfigError(
                "engine_options.where: with several machines start `vllm serve` and give http://host:port"
            )
    if dtype not in ENGINE_DTYPES.values():
        raise ConfigError(f"engine: vllm has no {str(dtype).removeprefix('torch.')}; use decode or hf")
    for name in sorted(RESERVED & options.serve.keys()):
        raise ConfigError(f"engine_options.serve.{name}: is set by amft; leave it out")
    if getattr(model.config, "quantization_config", None) is not None:
        raise ModelError("engine vllm: weights in few bits cannot be pushed; use hf, or lora.load_in_4bit: false")
    if has_adapter(model) and lora_rank(model) > LORA_RANKS[-1]:
        raise ModelError(f"lora.r: vllm takes adapters up to rank {LORA_RANKS[-1]}; use a smaller one, or engine hf")
    if options.sleep and model.device.type == "cpu":
        raise ConfigError("engine_options.sleep: only the memory of a GPU can be given back; leave it false")


def _backend(model: PreTrainedModel, options: EngineSettings) -> str:
    if options.transfer != "auto":
        return options.transfer
    if model.device.type == "cpu":
        return "file"
    return "ipc" if options.where == "own" and options.devices is None else "nccl"


def _own_gpu(own: Mapping[str, str], device: torch.device) -> str:
    """The trainer's GPU, as CUDA_VISIBLE_DEVICES names it."""
    visible, index = own.get("CUDA_VISIBLE_DEVICES"), device.index or 0
    return visible.split(",")[index] if visible else str(index)


def _config(model: PreTrainedModel) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(model.config.to_json_string(use_diff=False))
    # FSDP2 changes a model's class, not what it is.
    return config | {"architectures": [type(model).__name__.removeprefix("FSDP")]}
