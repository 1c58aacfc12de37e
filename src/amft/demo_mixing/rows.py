"""Demonstrations as rows of their prompt's group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import ConfigError
from .base import Request, SamplingContext
from .generation import Generation


@dataclass(frozen=True)
class DemoRow:
    """The group is `num_generations - 1` rollouts and one demonstration, scored by the same verifier (LUFFY).

    arXiv 2504.14945, section 3.1. A prompt without a demonstration keeps all its rollouts.

    Args:
        pool: advantages from the rewards of `all` rows, or of the `on_policy` rows alone.
    """

    pool: str = "all"
    imitates: ClassVar[str] = "stream"
    needs_answers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.pool not in ("all", "on_policy"):
            raise ConfigError(f"balance.pool must be one of 'all', 'on_policy', got {self.pool!r}")

    def mix(self, context: SamplingContext) -> Generation:
        answers = [context.answers(i)[:1] for i in range(context.num_prompts)]
        return context.generation(_beside(context, answers))


@dataclass(frozen=True)
class DemoRowImitated(DemoRow):
    """The same, and the demonstrations of the groups are imitated too (SRFT, arXiv 2506.19767)."""

    imitates: ClassVar[str] = "rows"

    def mix(self, context: SamplingContext) -> Generation:
        answers = [context.answers(i)[:1] for i in range(context.num_prompts)]
        return context.generation(_beside(context, answers), answers)


def _beside(context: SamplingContext, answers: list) -> list:  # type: ignore[type-arg]
    full = context.sample([Request(i) for i, found in enumerate(answers) if not found], context.n)
    short = context.sample([Request(i) for i, found in enumerate(answers) if found], context.n - 1)
    rollouts = {group[0].prompt_index: group for group in full + short}
    return [rollouts[i] + found for i, found in enumerate(answers)]
