"""The learning rate of each step, by the schedulers of transformers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from transformers import get_scheduler

from ..errors import ConfigError

FOLLOW_METRIC = ("reduce_lr_on_plateau", "greedy")
NO_OPTIONS = ("constant", "constant_with_warmup", "linear")


class LRSchedule:
    """Factor of the learning rate at each step, by the scheduler of this name in `transformers.get_scheduler`.

    `constant` and `linear` warm up too. Two names have no plan but follow a metric: `reduce_lr_on_plateau` and `greedy`
    read what `observe` is told, and take more as better unless `mode: min` is among the options.

    Args:
        name: as in `transformers.SchedulerType`.
        options: what only this scheduler takes, for example `min_lr`.
        learning_rate: what the factor multiplies; options such as `min_lr` are rates, not factors.
        total_steps: optimizer steps of the run.
        warmup_steps: steps of the straight line from 0 to 1 that comes first.

    Raises:
        ConfigError: unknown name, an option is missing, unknown or out of range, or a warm-up has no effect.
    """

    def __init__(
        self, name: str, options: Mapping[str, Any], learning_rate: float, total_steps: int, warmup_steps: int
    ):
        self.follows_metric = name in FOLLOW_METRIC
        self._learning_rate, self._observed = learning_rate, list[float]()
        if self.follows_metric and warmup_steps:
            raise ConfigError(f"lr_warmup_steps: {name} has no warm-up; leave it at 0")
        if name in NO_OPTIONS and options:
            raise ConfigError(f"lr_scheduler_kwargs: {name} takes none, not {', '.join(options)}; leave them out")
        try:
            self._scheduler = _scheduler(name, dict(options), learning_rate, total_steps, warmup_steps)
            tried = [self.factor(step) for step in {0, min(warmup_steps, total_steps - 1), total_steps - 1}]
            if not all(math.isfinite(factor) and factor >= 0 for factor in tried):
                raise ValueError(f"gives the learning rate the factors {tried}")
        except (ArithmeticError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"lr_scheduler_type {name} with lr_scheduler_kwargs {dict(options)}: {' '.join(str(error).split())}"
            ) from None

    def factor(self, step: int) -> float:
        """What to multiply the learning rate with at a step.

        Args:
            step: optimizer steps done, 0 at the first. A warm-up starts at factor 0, so its first step moves nothing.
        """
        if self.follows_metric:
            return float(self._scheduler.optimizer.param_groups[0]["lr"]) / self._learning_rate
        return float(self._scheduler.lr_lambdas[0](step))

    def observe(self, metric: float) -> None:
        """Tell a scheduler that follows a metric its next value; others do not listen."""
        if self.follows_metric:
            self._observed.append(metric)
            self._scheduler.step(metric)

    def state_dict(self) -> dict[str, list[float]]:
        """What was observed so far; all else follows from it."""
        return {"observed": list(self._observed)}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        """Make a new schedule what another was."""
        for metric in state["observed"]:
            self.observe(metric)


def _scheduler(name: str, options: dict[str, Any], learning_rate: float, total_steps: int, warmup_steps: int) -> Any:
    """The scheduler of an optimizer that trains nothing."""
    total: int | None = total_steps
    if name == "constant":
        name = "constant_with_warmup"
    elif name == "linear":
        # The same line, rounded as everywhere in amft: 1 - done, where their `linear` has left / all.
        name, options, learning_rate = "polynomial", {"lr_end": 0.0, "power": 1.0}, 1.0
    elif name in FOLLOW_METRIC:
        options = {"mode": "max"} | options
    elif "num_stable_steps" in options:
        total = None  # it would be ignored, with a warning
    nothing = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=learning_rate)
    return get_scheduler(name, nothing, warmup_steps, total, scheduler_specific_kwargs=options)
