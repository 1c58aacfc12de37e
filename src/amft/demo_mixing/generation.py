"""One generation, prompt by prompt: what was sampled, what is explored and what is imitated. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from ..types import Sample


@dataclass(frozen=True)
class Generation:
    """What one generation trains on; every list has one entry per prompt, in order."""

    chosen: list[int]
    """Drawn rows of the prompts."""
    explore: list[list[Sample]]
    """Groups of the RL loss."""
    imitate: list[list[Sample]] | None
    """Rows of the imitation loss; None unless the demo mixer imitates `rows`."""
    sampled: list[list[Sample]]
    """Everything drawn from the policy, whether it is trained on or not."""
    hard: list[bool]
    """The prompt's demonstration goes to the end of the buffer."""
    knows_correct: bool = False
    """The scorer says what is correct."""

    def joined(self, other: Generation) -> Generation:
        """The prompts of both."""
        return Generation(
            self.chosen + other.chosen,
            self.explore + other.explore,
            None if self.imitate is None or other.imitate is None else self.imitate + other.imitate,
            self.sampled + other.sampled,
            self.hard + other.hard,
            self.knows_correct,
        )

    def picked(self, indices: Sequence[int]) -> Generation:
        """Some of the prompts, in this order."""
        return Generation(
            [self.chosen[i] for i in indices],
            [self.explore[i] for i in indices],
            None if self.imitate is None else [self.imitate[i] for i in indices],
            [self.sampled[i] for i in indices],
            [self.hard[i] for i in indices],
            self.knows_correct,
        )

    @property
    def rollouts(self) -> list[list[Sample]]:
        """Completions that are the policy's own from their first token."""
        return [[sample for sample in group if sample.is_rollout] for group in self.sampled]

    @property
    def tokens(self) -> int:
        """Tokens drawn."""
        return sum(sample.tokens - sample.prefix_len for sample in chain.from_iterable(self.sampled))
