"""Demonstrations in a batch of their own; every group is the policy's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import Request, SamplingContext
from .generation import Generation


@dataclass(frozen=True)
class Apart:
    """`num_generations` rollouts per prompt, and demonstrations from a stream of their own."""

    imitates: ClassVar[str] = "stream"
    needs_answers: ClassVar[bool] = False
    pool: ClassVar[str] = "all"

    def mix(self, context: SamplingContext) -> Generation:
        return context.generation(context.sample([Request(i) for i in range(context.num_prompts)], context.n))
