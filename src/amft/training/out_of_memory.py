"""Out of memory becomes one line that says where it happened and which settings take less. Nothing is tried again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

import torch

from ..errors import AMFTError, DeviceMemoryError
from ..settings.config import AMFTConfig

MEMORY_STAGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "amft.rollout": ("while sampling", ("num_prompts", "num_generations", "max_completion_length")),
    "amft.evaluation": ("while answering held-out problems", ("eval.problems", "max_completion_length")),
    "torch.optim": ("in the optimizer's step", ("optim", "lora", "parallel")),
    "amft.meta": ("in the buffers of the meta-gradient", ("balance", "lora", "parallel")),
    "amft.step": ("in a forward or backward pass", ("micro_batch_size", "gradient_checkpointing", "dtype")),
    "amft.models.load": ("while loading the model", ("dtype", "lora", "parallel")),
    "amft.checkpoints": ("while saving a checkpoint", ("checkpoint.only_model", "lora")),
}
"""Module in which memory ran out -> the words for it, and the settings that take less, the best one first."""

ELSEWHERE = ("while preparing the run", ("num_prompts", "micro_batch_size"))

MEMORY_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory", "bad_alloc")
"""Of torch's errors, which are plain RuntimeErrors on a CPU."""


@contextmanager
def memory_named(config: AMFTConfig) -> Iterator[None]:
    """Inside, running out of memory is one line.

    Raises:
        DeviceMemoryError: where memory ran out, and what to change.
    """
    try:
        yield
    except AMFTError:
        raise
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not _is_memory(error):
            raise
        where, settings = _stage(error.__traceback__)
        named = ", ".join(f"{name} ({_value(config, name)})" for name in _in_use(config, settings))
        raise DeviceMemoryError(
            f"out of memory {where}: change {named}; `amft plan RECIPE` says how much each takes"
        ) from error


def _in_use(config: AMFTConfig, settings: tuple[str, ...]) -> list[str]:
    rows, tokens = "micro_batch_size", "micro_batch_tokens"
    return [tokens if name == rows and config.micro_batch_tokens is not None else name for name in settings]


def _is_memory(error: BaseException) -> bool:
    return any(word in str(error).lower() for word in MEMORY_WORDS)


def _stage(trace: TracebackType | None) -> tuple[str, tuple[str, ...]]:
    """By the innermost frame that a stage owns."""
    found: tuple[str, tuple[str, ...]] = ELSEWHERE
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        found = next((stage for name, stage in MEMORY_STAGES.items() if f"{module}.".startswith(f"{name}.")), found)
        trace = trace.tb_next
    return found


def _value(config: AMFTConfig, name: str) -> object:
    value: object = config
    for part in name.split("."):
        value = getattr(value, part)
    if isinstance(value, dict):
        return value.get("rule")
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else value
