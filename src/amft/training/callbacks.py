"""Callbacks of transformers around our steps: the same events, arguments and requests as in its `Trainer`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..errors import ConfigError
from ..settings.config import AMFTConfig

METRIC = "success"
"""What `EarlyStoppingCallback` watches: success on validation, `eval_success` among the metrics of `on_evaluate`."""


class Callbacks:
    """Tells callbacks what happens, and keeps what they ask for in `control`.

    Args:
        callbacks: instances or classes of `transformers.TrainerCallback`.
        config: settings.
        given: keywords that every event gets besides, such as `model`.
        is_main: this process writes files.

    Raises:
        ConfigError: one is not a callback.
    """

    def __init__(self, callbacks: Sequence[Any], config: AMFTConfig, given: Mapping[str, Any], *, is_main: bool):
        self.callbacks = [_checked(callback) for callback in callbacks]
        self.given = given
        self.every = config.logging_steps
        self.arguments = callback_arguments(config)
        self.control = TrainerControl()
        self.state = TrainerState(
            max_steps=config.max_steps,
            logging_steps=config.logging_steps,
            eval_steps=config.eval.steps,
            save_steps=config.checkpoint.steps,
            is_local_process_zero=is_main,
            is_world_process_zero=is_main,
        )

    def tell(self, event: str, **more: Any) -> None:
        """Call `event` of every callback in turn."""
        for callback in self.callbacks:
            answer = getattr(callback, event)(self.arguments, self.state, self.control, **self.given, **more)
            self.control = self.control if answer is None else answer

    def begin_step(self, done: int) -> None:
        """Before a step. Args: done: optimizer steps done."""
        self.state.global_step = done
        self.control.should_log = self.control.should_evaluate = self.control.should_save = False
        self.tell("on_step_begin")

    def end_step(self, done: int) -> None:
        """After it."""
        self.state.global_step = done
        self.tell("on_step_end")

    def log(self, row: Mapping[str, Any]) -> None:
        """A step's metrics, every `logging_steps` and when it is asked for."""
        if self.callbacks and (self.control.should_log or self.state.global_step % self.every == 0):
            logs = dict(row)
            self.state.log_history.append({**logs, "step": self.state.global_step})
            self.tell("on_log", logs=logs)

    def evaluated(self, metrics: Mapping[str, float], best: Mapping[str, float] | None) -> None:
        """After an evaluation. Args: metrics: by our names. best: `step` and `score` of the best validation so far."""
        found = dict(metrics)
        if (score := metrics.get("eval/val/success")) is not None:
            found[f"eval_{METRIC}"] = score
        self.tell("on_evaluate", metrics=found)
        # After the callbacks, as in transformers: early stopping compares with the best before this one.
        if best is not None:
            self.state.best_metric, self.state.best_global_step = best["score"], int(best["step"])


def callback_arguments(config: AMFTConfig) -> Any:
    """`TrainingArguments` as callbacks read them: its fields with its defaults, and what this run knows better."""
    fields = dataclasses.fields(TrainingArguments)
    plain = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
    own = {name: value for name, value in config.model_dump().items() if name in plain}
    return SimpleNamespace(
        **{
            **plain,
            **own,
            "output_dir": config.output_dir,
            "eval_strategy": "steps" if config.eval.steps else "no",
            "eval_steps": config.eval.steps,
            "save_strategy": "steps" if config.checkpoint.steps else "no",
            "save_steps": config.checkpoint.steps,
            "save_total_limit": config.checkpoint.total_limit,
            "load_best_model_at_end": config.checkpoint.keep_best,
            "metric_for_best_model": METRIC,
            "greater_is_better": True,
            "bf16": config.dtype == "bfloat16",
        }
    )


def _checked(callback: Any) -> TrainerCallback:
    made = callback() if isinstance(callback, type) else callback
    if not isinstance(made, TrainerCallback):
        raise ConfigError(f"callbacks: a {type(made).__name__} is no transformers.TrainerCallback; derive it from that")
    return made
