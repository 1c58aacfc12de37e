"""Schedules: pure functions from a step to a number."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from .errors import ConfigError


def linear_ramp(step: float, steps: float, start: float, stop: float) -> float:
    """`start` up to step 0, `stop` from step `steps` on, a straight line between."""
    done = _progress(step, steps)
    return (1.0 - done) * start + done * stop


def cosine_decay(step: float, steps: float, start: float, stop: float) -> float:
    """`start` up to step 0, `stop` from step `steps` on, half a cosine wave between."""
    left = 0.5 * (1.0 + math.cos(math.pi * _progress(step, steps)))
    return left * start + (1.0 - left) * stop


LR_SCHEDULES: dict[str, Callable[..., float]] = {
    "constant": partial(linear_ramp, start=1.0, stop=1.0),
    "linear": partial(linear_ramp, start=1.0, stop=0.0),
    "cosine": partial(cosine_decay, start=1.0, stop=0.0),
}
"""What follows the warm-up: (steps since its end, steps from its end to the run's) -> factor."""


def lr_factor(name: str, step: int, total_steps: int, warmup_steps: int) -> float:
    """Factor of the learning rate at a step, in [0, 1]; the numbers of transformers' schedulers of the same name.

    Args:
        name: `constant`, `linear` or `cosine`.
        step: optimizer steps done, 0 at the first. A warm-up starts at factor 0, so its first step moves nothing.
        total_steps: optimizer steps of the run.
        warmup_steps: steps of the straight line from 0 to 1 that comes first.

    Raises:
        ConfigError: unknown name.
    """
    if name not in LR_SCHEDULES:
        raise ConfigError(f"lr_scheduler_type '{name}' does not exist; use one of {', '.join(LR_SCHEDULES)}")
    if step < warmup_steps:
        return linear_ramp(step, warmup_steps, 0.0, 1.0)
    return LR_SCHEDULES[name](step - warmup_steps, total_steps - warmup_steps)


def _progress(step: float, steps: float) -> float:
    return min(1.0, max(0.0, step / steps)) if steps > 0 else 1.0
