"""What a signal may look at in our own trainer; see `amft.signals.base.Moment`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from ..batch import Batch
from ..weighting.base import Tokens, Weighting


@dataclass
class StepMoment:
    """`Moment` over what the step has so far."""

    step: int
    past: Mapping[str, float]
    buffered: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    rollouts: Batch | None = None
    success: tuple[float, ...] | None = None
    demonstrations: Batch | None = None
    score: Callable[[Batch], Tensor] | None = None
    """[B, C] log-probabilities under the policy at temperature 1."""
    token_weight: Weighting | None = None
    held_out_rewards: Sequence[float] = ()
    paid: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    verdicts: Mapping[str, int] = field(default_factory=dict)
    likelihood: Callable[[], float | None] = lambda: None
    """Of held-out demonstrations; see `Moment`."""
    grade: Callable[[int], list[float] | None] | None = None

    def demo_logps(self) -> Tensor:
        """[B, C]; see `Moment`."""
        return self._scored

    @cached_property
    def _scored(self) -> Tensor:
        """[B, C], one forward pass."""
        assert self.demonstrations is not None
        assert self.score is not None
        return self.score(self.demonstrations)

    def demo_weights(self) -> Tensor | None:
        """[B, C] or [B, 1]; see `Moment`."""
        assert self.demonstrations is not None
        if self.token_weight is None:
            return None
        return self.token_weight(Tokens(self.demo_logps(), self.demonstrations.completion_mask))

    def held_out_likelihood(self) -> float | None:
        """See `Moment`."""
        return self.likelihood()

    def graded_demonstrations(self, n: int) -> list[float] | None:
        """See `Moment`."""
        return None if self.grade is None else self.grade(n)
