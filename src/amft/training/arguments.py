"""The trainer's arguments: names of TRL's trainers taken where they mean the same, mistakes told in one line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel

from ..errors import ConfigError
from ..settings.config import AMFTConfig
from ..settings.groups import LoRASettings
from ..settings.validation_errors import nearest

NOT_OURS = {
    "compute_metrics": "a reward function scores eval_dataset too; leave it out",
    "data_collator": "rows are padded here; leave it out",
    "formatting_func": "write prompts into the column `prompt`",
    "optimizers": "choose one with optim and lr_scheduler_type in the config",
    "reward_processing_classes": "a reward must be a function; let it call your model",
    "rollout_func": "choose an engine in the config",
    "tokenizer": "its name is processing_class",
    "tools": "there are none; a task with several tries (docs/tasks.md) is nearest",
}
"""Arguments of TRL's trainers -> what to do instead."""

OWN = (
    "balance",
    "callbacks",
    "demonstrations",
    "eval_dataset",
    "peft_config",
    "processing_class",
    "reward_funcs",
    "task",
    "train_dataset",
    "val_dataset",
)


def settled_config(config: Any, args: Any, peft_config: Any) -> AMFTConfig:
    """One config from what was given as `config` or `args`, with the adapter of `peft_config`.

    Raises:
        ConfigError: both are given, or one is of another library; names the fix.
    """
    if config is not None and args is not None:
        raise ConfigError("args: the same as config, which is given too; leave one out")
    given = args if config is None else config
    if given is None:
        given = AMFTConfig()
    if not isinstance(given, AMFTConfig):
        raise ConfigError(
            f"args: a {type(given).__name__} cannot be read here; write amft.AMFTConfig(...), which takes the names of "
            "TRL's settings"
        )
    if peft_config is None:
        return given
    if given.lora is not None:
        raise ConfigError("peft_config: the config has lora already; leave one out")
    return given.model_copy(update={"lora": lora_of(peft_config)})


def lora_of(peft_config: Any) -> LoRASettings:
    """peft's `LoraConfig` as our settings.

    Raises:
        ConfigError: it is of another kind, or says something that an adapter here cannot do.
    """
    if type(peft_config).__name__ != "LoraConfig":
        raise ConfigError(f"peft_config: only LoRA adapters are trained, this is a {type(peft_config).__name__}")
    plain, read = vars(type(peft_config)()), {"r", "lora_alpha", "target_modules", "task_type"}
    for name in sorted(plain.keys() - read - {"base_model_name_or_path"}):
        if getattr(peft_config, name) != plain[name]:
            raise ConfigError(f"peft_config.{name}: {getattr(peft_config, name)!r} is not supported; leave it out")
    modules = peft_config.target_modules
    return LoRASettings(
        r=peft_config.r,
        alpha=float(peft_config.lora_alpha),
        target_modules="all-linear" if modules is None or modules == "all-linear" else sorted(modules),
    )


def settled_model(model: Any) -> str | PreTrainedModel:
    """A name, also where a path is given, or a loaded model.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(model, str | os.PathLike):
        return os.fspath(model)
    if not isinstance(model, PreTrainedModel):
        raise ConfigError(f"model: give nano, a directory or a transformers model, not a {type(model).__name__}")
    return model


def refuse_others(others: Mapping[str, Any]) -> None:
    """Arguments that the trainer does not know.

    Raises:
        ConfigError: there is one; names what to use.
    """
    for name in others:
        if name in AMFTConfig.model_fields:
            raise ConfigError(f"{name}: a setting; give it to AMFTConfig({name}=...)")
        raise ConfigError(f"{name}: {NOT_OURS.get(name) or f'unknown argument; {nearest(name, OWN)}'}")
