"""All checks on one trainer of ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..assembly.training import build_trainer
from ..settings.recipe import Recipe
from ..training.trainer import AMFTTrainer
from ..types import Answer
from .answer import AuditAnswer
from .gradients import check_arrivals, check_micro_batches
from .rehearsal import rehearse
from .rows import check_demonstrations_whole, check_prompts_alone
from .sums import check_accumulation, check_ranks
from .tokens import check_first_token, check_mask, check_token_mean

PLAIN: dict[str, Any] = {
    "dtype": "float32",
    "engine": "hf",
    "engine_options": None,
    "parallel": "single",
    "cpu_offload": False,
    "report_to": [],
}
"""Settings of a rehearsal: one process, no engine is started, and rounding hides nothing."""


def audit_trainer(trainer: AMFTTrainer) -> list[AuditAnswer]:
    """Try a trainer's accounts on a few rows of its own; it is not trained, and nothing is written.

    Rollouts are made up and rewards are given out evenly, so neither the engine nor a reward function is called. (For a
    rule that needs verdicts on demonstrations, the trainer called its reward functions when it was built.)

    Args:
        trainer: of one process, in float32 or float64.

    Raises:
        ConfigError: it runs on several processes or in bfloat16, or has nothing to train on.
    """
    on = rehearse(trainer)
    return [
        check_accumulation(on),
        check_micro_batches(on.losses),
        check_ranks(on),
        check_arrivals(on.losses),
        check_mask(on),
        check_token_mean(on),
        check_first_token(on),
        check_prompts_alone(on),
        check_demonstrations_whole(on),
    ]


def audit_recipe(recipe: Recipe) -> list[AuditAnswer]:
    """The same for a recipe's trainer, in one process and in float32; its reward functions grade no demonstration."""
    return audit_trainer(build_trainer(recipe.model_copy(update=PLAIN), [every_other]))


def every_other(completions: Sequence[Answer], **columns: Any) -> list[float]:  # noqa: ARG001
    """1, 0, 1, 0, ...: verdicts for rules that sort demonstrations by them."""
    return [float(i % 2 == 0) for i in range(len(completions))]
