"""Names of TRL and transformers: taken where they mean the same here, else refused with what to use. No torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

BORROWED = {
    "ddp_timeout": "rank_timeout",
    "eval_steps": "eval.steps",
    "load_best_model_at_end": "checkpoint.keep_best",
    "save_only_model": "checkpoint.only_model",
    "save_steps": "checkpoint.steps",
    "save_total_limit": "checkpoint.total_limit",
    "warmup_steps": "lr_warmup_steps",
}
"""Their name -> ours, the value as it is."""

INSTEAD = {
    "dataloader_num_workers": "rows are read once, so there is nothing to load; leave it out",
    "deepspeed": "use parallel: fsdp2",
    "disable_dropout": "dropout is always off; leave it out",
    "eval_strategy": "eval.steps says when validation is scored; leave it out",
    "fp16": "its scaled gradients cannot be mixed; use bf16=True",
    "fsdp": "use parallel: fsdp2",
    "generation_batch_size": "use num_prompts and steps_per_generation",
    "importance_sampling_level": "use loss_type gspo for a ratio per sequence",
    "log_completions": "use sample_steps",
    "logging_dir": "trackers write below output_dir; leave it out",
    "logging_strategy": "metrics.jsonl has every step; logging_steps says what trackers get",
    "model_init_kwargs": "load the model yourself and give it in place of its name",
    "per_device_eval_batch_size": "evaluation makes its own batches; leave it out",
    "remove_unused_columns": "reward functions get every column; leave it out",
    "run_name": "the run is named by output_dir",
    "save_strategy": "checkpoint.steps says when; leave it out",
    "use_cpu": "the device is found by itself; hide GPUs with CUDA_VISIBLE_DEVICES=",
    "use_vllm": "use engine: vllm",
    "vllm_mode": "use engine_options.where",
    "warmup_ratio": "use lr_warmup_steps",
}
"""Their name -> what to do instead."""


OPTIMIZERS = {
    "adamw_torch": "adamw",
    "adamw_torch_fused": "adamw",
    "adamw_bnb_8bit": "adamw_8bit",
    "paged_adamw_32bit": "paged_adamw",
    "lion_32bit": "lion",
}
"""Their optimizers -> ours."""


def translated(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings under our names.

    Raises:
        ValueError: a name means something else here, or one setting is given under both names.
    """
    values = {name: value for name, value in given.items() if name not in INSTEAD or value not in (None, False)}
    for name in values.keys() & INSTEAD.keys():
        raise ValueError(f"{name}: {INSTEAD[name]}")
    for name in BORROWED.keys() & values.keys():
        _put(values, name, BORROWED[name], values.pop(name))
    if "bf16" in values:
        _put(values, "bf16", "dtype", "bfloat16" if values.pop("bf16") else "float32")
    for name, change in _VALUES.items():
        if name in values:
            values[name] = change(values[name])
    return _batch(values)


def _put(values: dict[str, Any], theirs: str, ours: str, value: Any) -> None:
    """Set `ours`, a key or `group.key`, unless it is there."""
    holder, _, inner = ours.partition(".")
    group = values.get(holder) if inner else values
    known = group.model_dump(exclude_unset=True) if isinstance(group, BaseModel) else dict(group or {})
    if (inner or holder) in known:
        raise ValueError(f"{theirs}: the same as {ours}, which is given too; leave one out")
    if inner:
        values[holder] = {**known, inner: value}
    else:
        values[holder] = float(value) if holder == "rank_timeout" else value


def _batch(values: dict[str, Any]) -> dict[str, Any]:
    """TRL counts completions of a device and forward passes, we prompts of a step and rows of a forward pass."""
    names = ("per_device_train_batch_size", "gradient_accumulation_steps")
    if not any(name in values for name in names):
        return values
    rows, parts = (values.pop(name, None) for name in names)
    group = values.get("num_generations", 8)
    if rows is None:
        raise ValueError(f"{names[1]}: give {names[0]} too, or num_prompts and micro_batch_size in place of both")
    parts = 1 if parts is None else parts
    if not all(isinstance(number, int) and number > 0 for number in (rows, parts, group)):
        raise ValueError(f"{names[0]}, {names[1]}: whole numbers from 1 on, got {rows!r}, {parts!r}")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(f"{names[0]}: a step is not counted by device here; give num_prompts and micro_batch_size")
    if rows * parts % group:
        raise ValueError(f"{names[0]}: {rows} x {parts} completions are no whole groups of num_generations {group}")
    _put(values, names[0], "num_prompts", rows * parts // group)
    _put(values, names[0], "micro_batch_size", rows)
    return values


def _trackers(value: Any) -> Any:
    if value is None or value == "none":
        return []
    return [value] if isinstance(value, str) else value


_VALUES: dict[str, Callable[[Any], Any]] = {
    "optim": lambda value: OPTIMIZERS.get(value, value) if isinstance(value, str) else value,
    "report_to": _trackers,
    "scale_rewards": lambda value: {True: "group", False: "none"}[value] if isinstance(value, bool) else value,
}
"""Ours and theirs by one name: their values -> ours."""
