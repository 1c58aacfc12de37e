"""How demonstrations enter a step: what a demo mixer is, what it may ask for, and what it hands back. No torch.

stream   a batch of their own, drawn from all demonstrations (AMFT, CHORD, GAC)
rows     sequences that the demo mixer chose for imitation this step (HPT, SRFT, UFT)
buffer   demonstrations of prompts that failed, first in first out (ReLIFT, MIFO)
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from ..types import Sample
from .generation import Generation

IMITATES = ("stream", "rows", "buffer")


@dataclass(frozen=True)
class Request:
    """One prompt to sample from."""

    prompt_index: int
    hint: tuple[int, ...] = ()
    """Tokens of the demonstration after the prompt that belong to it: graded, but without RL loss."""
    prefix: tuple[int, ...] = ()
    """Tokens of the demonstration that begin the completion."""


class SamplingContext(Protocol):
    """What a demo mixer may ask for. All sampling uses the run's own generator."""

    @property
    def n(self) -> int:
        """Completions per prompt."""
        ...

    @property
    def num_prompts(self) -> int:
        """Prompts of this generation."""
        ...

    @property
    def progress(self) -> tuple[int, int]:
        """Steps of the single stage done, and its length."""
        ...

    @property
    def random(self) -> random.Random:
        """Seeded by the run and the step, for draws that are not tokens."""
        ...

    def sample(self, requests: Sequence[Request], n: int) -> list[list[Sample]]:
        """`n` scored completions per request, in one call of the engine."""
        ...

    def answers(self, prompt_index: int) -> list[Sample]:
        """The scored demonstrations of a prompt; none when it has none that fits."""
        ...

    def informed(self, prompt_index: int, solution: str, template: str) -> tuple[int, ...]:
        """Token ids of the prompt with a solution in it; `template` has the fields {prompt} and {solution}."""
        ...

    def likelihood(self, samples: Sequence[Sample]) -> list[float]:
        """Mean log-probability per token of each completion under the policy as it is, nats."""
        ...

    def generation(
        self, explore: list[list[Sample]], imitate: list[list[Sample]] | None = None, hard: Collection[int] = ()
    ) -> Generation:
        """What this generation trains on; see `Generation`. `hard` are indices of prompts."""
        ...


@runtime_checkable
class DemoMixer(Protocol):
    """A way for demonstrations to enter: a frozen dataclass of its own settings."""

    imitates: ClassVar[str]
    """One of `IMITATES`."""
    needs_answers: ClassVar[bool]
    """Demonstrations are looked up by prompt; they are encoded only for a demo mixer that asks."""

    @property
    def pool(self) -> str:
        """Name of the advantage pool (`amft.pools`)."""
        ...

    def mix(self, context: SamplingContext) -> Generation:
        """The sequences of this generation, put together by `context.generation`."""
        ...
