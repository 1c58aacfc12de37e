"""Prompts whose completions are drawn while the step before trains: one step off-policy, weighed by what engine says.

The rollouts of step t are drawn from the policy before step t - 1. Each carries the log-probabilities of that policy,
so the truncated importance weights of the RL loss (`losses.mismatch`) correct it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ..settings.config import AMFTConfig
from ..types import Sampling
from .sampling_context import sampling_of


class AheadSampler(Protocol):
    """What `distributed.served_sampler.ServedSampler` can do beyond a sampler; see there."""

    def begin(self, prompts: Sequence[Sequence[int]], sampling: Sampling, generator: torch.Generator) -> None: ...

    def drawn(self) -> list[Any]: ...

    def put_back(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, generator: torch.Generator, found: list[Any]
    ) -> None: ...

    def drop(self) -> None: ...


@dataclass
class Flight:
    """One generation on its way."""

    step: int
    """Of the single stage, that will use it."""
    chosen: list[int]
    """Rows of the prompts."""
    prompts: list[list[int]]
    """Their token ids."""

    def begin(self, sampler: AheadSampler, config: AMFTConfig, generator: torch.Generator) -> Flight:
        """Have it drawn. Rollouts that begin with more than the prompt are drawn when they are needed."""
        sampler.begin(self.prompts, sampling_of(config, config.num_generations), generator)
        return self

    def state_dict(self, sampler: AheadSampler) -> dict[str, Any]:
        """JSON, with the completions: the policy that drew them will be gone."""
        return {**vars(self), "found": sampler.drawn()}

    @classmethod
    def restored(
        cls, sampler: AheadSampler, config: AMFTConfig, generator: torch.Generator, state: dict[str, Any]
    ) -> Flight:
        """The flight that was saved, with its completions."""
        flight = cls(state["step"], state["chosen"], state["prompts"])
        asked = sampling_of(config, config.num_generations)
        sampler.put_back(flight.prompts, asked, generator, state["found"])
        return flight
