"""A recipe on so many devices: does it fit, how long is a step, and what to change when it does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..balance.registry import build_method
from ..errors import ConfigError
from ..settings.config import AMFTConfig
from ..weighting.base import TokenInput
from .devices import Device
from .memory import SAMPLED_TOGETHER, Load, Memory, memory_of
from .packing import budgeted, fullest
from .seconds import Seconds, Work, seconds_of
from .shape import Shape

HEADROOM = 0.92
"""Share of a device's memory that can be planned with: allocators leave gaps."""

BUDGET_STEP = 256
"""Tokens."""


@dataclass(frozen=True)
class Plan:
    """Memory and time of one step of a recipe."""

    shape: Shape
    device: Device
    devices: int
    memory: Memory
    seconds: Seconds
    fits: bool
    micro_batch_tokens: int | None
    """The largest setting of this name that fits with all else as it is; None: not even one row does."""
    changes: list[dict[str, Any]]
    """When it does not fit: settings to change, `peak` bytes with each one alone, and with all up to it."""


def plan_step(
    config: AMFTConfig, shape: Shape, device: Device, devices: int, mean: tuple[float, float] | None = None
) -> Plan:
    """The plan of a recipe.

    Args:
        config: a recipe or the trainer's settings.
        shape: the model.
        device: one of them.
        devices: how many.
        mean: tokens of a prompt and of a completion, for rows without padding; None: as many as are allowed.

    Raises:
        ConfigError: the layout does not fit the number of devices, the type is float64, or mean lengths are out of
            range or given for rows that are padded, or a prompt has no room for a picture.
    """
    if config.dtype == "float64":
        raise ConfigError("dtype: float64 is for tests; a plan knows float32 and bfloat16")
    if config.parallel == "single" and devices > 1:
        raise ConfigError(f"parallel: single, but --gpus {devices}; use auto, ddp or fsdp2")
    if config.parallel == "fsdp2":
        config.shards(devices)
    _check_mean(config, shape, mean)
    _check_pictures(config, shape)
    settings = config.model_dump(include=set(AMFTConfig.model_fields))
    memory, seconds = _measure(settings, shape, device, devices, mean)
    fits = memory.peak <= HEADROOM * device.memory
    budget = token_budget(settings, shape, device, devices, mean)
    changes = [] if fits else list(_changes(settings, shape, device, devices, mean))
    return Plan(shape, device, devices, memory, seconds, fits, budget, changes)


def _moments(settings: Mapping[str, Any], shape: Shape) -> float:
    """Optimizer state per trained parameter, in floats; of paged optimizers too, which may leave the device."""
    if settings["optim"] == "muon":  # two where AdamW steps, on the embedding and the output layer
        ends = shape.embedding * (1 if shape.tied else 2) if settings["lora"] is None else 0
        return 1 + ends / shape.parameters
    known = {"adamw": 2, "adam": 2, "sgd": 1 if settings["sgd_momentum"] else 0, "adafactor": 0, "lion": 1}
    return (known | {"adamw_8bit": 0.5, "paged_adamw": 2, "paged_adamw_8bit": 0.5})[settings["optim"]]


def load_of(
    settings: Mapping[str, Any], shape: Shape, device: Device, devices: int, mean: tuple[float, float] | None
) -> Load:
    """What a step of these settings asks of one device."""
    lora, method = settings["lora"], build_method(dict(settings["balance"]))
    half = settings["dtype"] == "bfloat16" or (settings["dtype"] == "auto" and not device.host)
    sharded = settings["parallel"] == "fsdp2"
    meta = method.requirements.meta_gradient
    buffers = 0.0 if meta is None else meta.buffers * method.requirements.classes
    if method.requirements.teacher is not None:  # a shadow: weights, gradient, optimizer state
        buffers += 2 + _moments(settings, shape)
    longest = (settings["max_prompt_length"], settings["max_completion_length"])
    sampled = -(-settings["num_prompts"] * settings["num_generations"] // devices)
    demos = -(-settings["num_demos"] // devices)
    moments = _moments(settings, shape)
    share, together = max(sampled, demos), min(sampled, SAMPLED_TOGETHER)
    # Engine `decode`, which reads no pictures, runs the prompt of a group once.
    groups = -(-together // settings["num_generations"])
    names = None if lora is None or lora["target_modules"] == "all-linear" else lora["target_modules"]
    tokens, means = settings["micro_batch_tokens"], mean or longest
    if tokens is None:
        rows = min(settings["micro_batch_size"], share)
        packing = fullest(rows, share, *means, longest=longest, dealt=devices > 1)
    else:
        rows = max(1, min(share, tokens // sum(longest)))
        packing = budgeted(tokens, share, *means, longest=longest)
    return Load(
        rows=rows,
        prompt=longest[0],
        completion=longest[1],
        sampled=sampled,
        trained=shape.parameters if lora is None else shape.adapter(lora["r"], names),
        width=2 if lora is not None and half and not sharded else 4,
        half=half,
        moments=moments,
        buffers=buffers,
        sharded=sharded,
        shards=devices // settings["replicate"] if sharded else 1,
        layered=settings["rollout_gather"] == "layer",
        offload=settings["cpu_offload"],
        recompute=settings["gradient_checkpointing"],
        # The implicit reward keeps trained weights only, so an adapter's are next to nothing.
        references=0
        if lora is not None
        else bool(settings["beta"] or TokenInput.REFERENCE in method.token_inputs)
        + bool(settings["implicit_reward"]["steps"]),
        fused=not device.host,
        packing=packing if settings["prefix_tree"] and shape.tower is None else None,
        copied=half
        and lora is None
        and not sharded
        and settings["rollout_weights"] == "auto"
        and settings["engine"] != "vllm",
        served=settings["engine"] == "vllm",
        prefilled=groups if settings["engine"] != "hf" else together,
        pictures=sampled + demos if device.host else max(rows, together),
        saves_behind=settings["checkpoint"]["async_save"] and device.host,
        saves_state=not settings["checkpoint"]["only_model"],
        trains_tower=names is None or shape.tower is None or bool({*names} & {*shape.tower.linears}),
    )


def token_budget(
    settings: Mapping[str, Any], shape: Shape, device: Device, devices: int, mean: tuple[float, float] | None
) -> int | None:
    """The largest `micro_batch_tokens` with which a step fits, in BUDGET_STEPs; None: not even one row fits."""
    longest = settings["max_prompt_length"] + settings["max_completion_length"]
    rows = max(settings["num_prompts"] * settings["num_generations"], settings["num_demos"])

    def fits(steps: int) -> bool:
        asked = {**settings, "micro_batch_tokens": steps * BUDGET_STEP}
        return _measure(asked, shape, device, devices, mean)[0].peak <= HEADROOM * device.memory

    low, high = -(-longest // BUDGET_STEP), -(-rows * longest // (devices * BUDGET_STEP)) + 1
    if not fits(low):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low * BUDGET_STEP


def _check_mean(config: AMFTConfig, shape: Shape, mean: tuple[float, float] | None) -> None:
    if mean is None:
        return
    if shape.tower is not None:
        raise ConfigError("mean lengths: rows with pictures are padded to the longest; leave them out")
    if not config.prefix_tree:
        raise ConfigError("mean lengths: rows are padded to the longest; set prefix_tree: true, or leave them out")
    for name, value in zip(("prompt", "completion"), mean, strict=True):
        limit = getattr(config, f"max_{name}_length")
        if not 0 < value <= limit:
            raise ConfigError(f"--mean-{name} {value:g}: must be above 0 and at most max_{name}_length = {limit}")


def _check_pictures(config: AMFTConfig, shape: Shape) -> None:
    tower = shape.tower
    if tower is None:
        return
    if tower.tokens >= config.max_prompt_length:
        raise ConfigError(
            f"max_prompt_length: {config.max_prompt_length}, but a picture alone takes {tower.tokens} tokens"
        )


def _measure(
    settings: Mapping[str, Any], shape: Shape, device: Device, devices: int, mean: tuple[float, float] | None
) -> tuple[Memory, Seconds]:
    load = load_of(settings, shape, device, devices, mean)
    meta = build_method(dict(settings["balance"])).requirements.meta_gradient
    work = Work(
        sampled=settings["num_prompts"] * settings["num_generations"],
        demos=settings["num_demos"],
        passes=2 if meta is not None and meta.entropy else 1,
        length=sum(mean or (load.prompt, load.completion)),
    )
    return memory_of(shape, load, device.runtime), seconds_of(shape, load, work, device, devices)


def _changes(
    settings: dict[str, Any], shape: Shape, device: Device, devices: int, mean: tuple[float, float] | None
) -> Iterator[dict[str, Any]]:
    """Settings in the order of what they cost; ends with the first set that fits."""
    together = dict(settings)
    before = _measure(settings, shape, device, devices, mean)[0].peak

    def budget(chosen: Mapping[str, Any]) -> int | None:
        return token_budget({**settings, **chosen}, shape, device, devices, mean)

    for change in _options(settings, devices, shape.tower is None, budget):
        alone, _ = _measure({**settings, **change}, shape, device, devices, mean)
        joined, _ = _measure({**together, **change}, shape, device, devices, mean)
        if joined.peak >= before:
            continue
        change = {key: value for key, value in change.items() if not value == settings[key] == together[key]}
        together, before = {**together, **change}, joined.peak
        fits = joined.peak <= HEADROOM * device.memory
        yield {"set": change, "peak_alone": alone.peak, "peak_together": joined.peak, "fits": fits}
        if fits:
            return


def _options(
    settings: Mapping[str, Any], devices: int, reads_text: bool, budget: Callable[[Mapping[str, Any]], int | None]
) -> Iterator[dict[str, Any]]:
    half = {"dtype": "bfloat16"} if settings["dtype"] == "float32" else {}
    if half:
        yield half
    if (tokens := budget(half)) is not None:
        yield {"micro_batch_tokens": tokens}
    if settings["micro_batch_size"] > 1:
        yield {"micro_batch_size": max(1, settings["micro_batch_size"] // 4)}
    if not settings["gradient_checkpointing"]:
        yield {"gradient_checkpointing": True}
    if settings["micro_batch_size"] > 4:
        yield {"micro_batch_size": 1}
    if devices > 1 and settings["parallel"] != "fsdp2":
        yield {"parallel": "fsdp2"}
    if settings["replicate"] > 1:
        yield {"replicate": 1}
    if devices > 1 and settings["engine"] != "vllm" and reads_text:
        yield {"parallel": "fsdp2", "rollout_gather": "layer"}
    if settings["num_prompts"] > 4:
        yield {"num_prompts": settings["num_prompts"] // 4}
    if settings["lora"] is None:
        if not settings["cpu_offload"]:
            yield {"parallel": "fsdp2", "cpu_offload": True}
        yield {
            "lora": {"r": 16, "alpha": 32.0, "target_modules": "all-linear", "load_in_4bit": False},
            "parallel": "auto",
            "replicate": 1,
            "rollout_gather": "model",
            "cpu_offload": False,
        }
    if settings["max_completion_length"] > 1024:
        yield {"max_completion_length": settings["max_completion_length"] // 2}
