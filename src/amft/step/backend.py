"""What the order of a step needs from whoever computes: our own trainer, or another library's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from ..balance.weights import Weights
from ..batch import MetricSums
from ..signals.base import Moment, Observation
from .branch import Branch

Rollouts = TypeVar("Rollouts")


class StepBackend(Protocol[Rollouts]):
    """Computes; the functions of `step/` say in which order. Gradients are in `p.grad`, reduced over ranks.

    `Rollouts` is what this backend's `collect` returns; the step only hands it on.
    """

    @property
    def imitates_rollout_rows(self) -> bool:
        """The imitation branch takes its rows from this step's rollouts, so imitation alone needs them too."""
        ...

    def collect(self, at: int) -> tuple[Rollouts, MetricSums]:
        """This step's rollouts, and what is known of them before any loss."""
        ...

    def exploration(self, rollouts: Rollouts) -> Branch:
        """The RL branch."""
        ...

    def imitation(self, rollouts: Rollouts | None) -> list[Branch]:
        """The imitation branches of this step, in the order of the run; call it once a step: their source moves on."""
        ...

    def plain_imitation(self) -> list[Branch]:
        """The same from the stream of all demonstrations, with the loss of eq 2, whatever the method."""
        ...

    def gradient(self, branch: Branch, scale: float = 1.0) -> tuple[float, MetricSums]:
        """Add the gradient of `scale * loss` to `p.grad`; the unscaled loss and metric sums, 0 without rows."""
        ...

    def rescale(self, factor: float) -> None:
        """Multiply `p.grad` in place."""
        ...

    def moment(self, at: int, rollouts: Rollouts | None, sums: MetricSums, demonstrations: Sequence[Branch]) -> Moment:
        """What signals may look at now."""
        ...

    def probe(self, at: int) -> Mapping[str, Observation]:
        """dU/dw of the previous step by extra data, where the utility asks for it; leaves `p.grad` empty."""
        ...

    def observe(self, rollouts: Rollouts) -> Mapping[str, Observation]:
        """dU/dw of the previous step from the RL gradient in `p.grad`, on fresh rollouts; `p.grad` stays."""
        ...

    def entropy_slopes(self, rollouts: Rollouts) -> Mapping[str, float]:
        """dH/dw of the previous step where the rule asks for it; leaves `p.grad` empty."""
        ...

    def update(self, weights: Weights, losses: Mapping[str, float]) -> float:
        """Clip, optimizer step, effect buffers through both Jacobians, `p.grad` cleared; the norm before clipping.

        A backend inside another library's loop leaves this to that loop and returns NaN.
        """
        ...
