"""Demonstrations only where the policy failed: instead of its rollouts, or in the place of some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..types import Sample
from .base import Request, SamplingContext
from .checks import require_whole
from .generation import Generation

DEAD = 1e-8
"""A reward this small counts as none."""


def successes(group: Sequence[Sample]) -> int:
    """Correct rows."""
    return sum(sample.correct for sample in group)


def plain(context: SamplingContext) -> list[list[Sample]]:
    """A group of rollouts per prompt."""
    return context.sample([Request(i) for i in range(context.num_prompts)], context.n)


@dataclass(frozen=True)
class Switch:
    """A prompt with at most `gate` correct rollouts is imitated and not explored, another one explored (HPT).

    arXiv 2509.04419, the code's `switch`. A failed prompt without a demonstration is left as it is.

    Args:
        gate: correct rollouts up to which a prompt counts as failed.
    """

    gate: int = 0
    imitates: ClassVar[str] = "rows"
    needs_answers: ClassVar[bool] = True
    pool: ClassVar[str] = "all"

    def __post_init__(self) -> None:
        require_whole("gate", self.gate, -1)

    def mix(self, context: SamplingContext) -> Generation:
        groups = plain(context)
        shown = [context.answers(i)[:1] if self.failed(group) else [] for i, group in enumerate(groups)]
        return context.generation([[] if demo else group for demo, group in zip(shown, groups, strict=True)], shown)

    def failed(self, group: Sequence[Sample]) -> bool:
        return successes(group) <= self.gate


@dataclass(frozen=True)
class DeadReward(Switch):
    """As `Switch`, for prompts whose rewards are all zero (SuperRL, arXiv 2506.01096); `gate` is not used."""

    def failed(self, group: Sequence[Sample]) -> bool:
        return all(abs(sample.reward) <= DEAD for sample in group)


@dataclass(frozen=True)
class Injected:
    """Where fewer than one rollout in the group is correct, demonstrations take the place of the last ones (AMPO).

    arXiv 2510.02227. Of several demonstrations of a prompt, the `teachers` that the policy itself finds likeliest.

    Args:
        teachers: demonstrations put in, at most; one rollout stays at least.
    """

    teachers: int = 2
    imitates: ClassVar[str] = "stream"
    needs_answers: ClassVar[bool] = True
    pool: ClassVar[str] = "all"

    def __post_init__(self) -> None:
        require_whole("teachers", self.teachers, 1)

    def mix(self, context: SamplingContext) -> Generation:
        return context.generation([self._joined(context, i, group) for i, group in enumerate(plain(context))])

    def _joined(self, context: SamplingContext, i: int, group: list[Sample]) -> list[Sample]:
        answers = [] if successes(group) else context.answers(i)
        if not answers:
            return group
        likely = context.likelihood(answers)
        best = sorted(range(len(answers)), key=lambda i: -likely[i])[: min(self.teachers, len(group) - 1)]
        return group[: len(group) - len(best)] + [answers[i] for i in best]
