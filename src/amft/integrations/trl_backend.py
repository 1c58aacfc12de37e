"""The computations of a step inside TRL's loop, which differentiates before it, and clips and steps after it."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..balance.weights import Weights
from ..batch import Batch, LossOut, MetricSums
from ..meta import MixGrad
from ..signals.base import Observation
from ..step.balancer import Balancer
from ..step.branch import Branch, means
from ..step.moment import StepMoment
from ..types import RL
from .imitation import Imitation


@dataclass(frozen=True)
class Window:
    """What TRL did for one optimizer step before it is our turn; the RL gradient is in `p.grad`."""

    fresh: bool
    """It began with new completions."""
    entropy: float
    """Mean token entropy of the completions, nats."""
    reward: float | None
    """Their mean reward."""


@dataclass
class TRLBackend:
    """See `StepBackend`. What TRL does itself is not done again; it makes the step when `gradients_apart` returns."""

    accelerator: Any
    arithmetic: Any
    """Opens the context of a forward pass (autocast)."""
    imitation_source: Imitation
    mix: MixGrad
    balancer: Balancer
    model: nn.Module | None = None
    """As TRL hands it to its training step."""
    window: Window | None = None
    verdicts: Mapping[str, int] = field(default_factory=dict)
    """Verdict -> demonstrations; empty where they are not graded."""
    drawn: Mapping[str, Sequence[Batch]] = field(default_factory=dict)
    """This step's demonstrations of this rank, by branch."""
    imitates_rollout_rows = False

    def collect(self, at: int) -> tuple[Window, MetricSums]:  # noqa: ARG002
        assert self.window is not None
        known = {"entropy": (self.window.entropy, 1.0)}
        return self.window, known if self.window.reward is None else known | {"reward": (self.window.reward, 1.0)}

    def exploration(self, rollouts: Window) -> Branch:  # noqa: ARG002
        return Branch(RL, None, _done_by_trl, 0.0)

    def imitation(self, rollouts: Window | None) -> list[Branch]:  # noqa: ARG002
        self.drawn, count = self.imitation_source.next(self.balancer.draw_weights())
        return [Branch(name, None, _done_by_trl, count) for name in self.imitation_source.branches]

    def plain_imitation(self) -> list[Branch]:
        return self.imitation(None)

    def gradient(self, branch: Branch, scale: float = 1.0) -> tuple[float, MetricSums]:
        """That of RL is there already; that of imitation is added by `Imitation.backward`."""
        assert scale == 1.0, "the gradients are kept apart"
        if branch.name == RL:
            return math.nan, {}
        assert self.model is not None
        if branch.name not in self.drawn:
            return 0.0, {}
        totals = self.imitation_source.backward(
            self.model,
            self.accelerator.device,
            self.drawn[branch.name],
            branch.count,
            arithmetic=self.arithmetic,
            defer=functools.partial(self.accelerator.no_sync, self.model),
        )
        nll, right, tokens = self.accelerator.reduce(totals, reduction="sum").tolist()
        return nll / branch.count, {"sft/token_accuracy": (right, tokens), "tokens/demo": (tokens, 1.0)}

    def rescale(self, factor: float) -> None:
        raise AssertionError(f"the gradients are kept apart, so none is scaled by {factor}")

    def moment(
        self,
        at: int,
        rollouts: Window | None,  # noqa: ARG002
        sums: MetricSums,
        demonstrations: Sequence[Branch],  # noqa: ARG002
    ) -> StepMoment:
        return StepMoment(at, self.balancer.past, 0, means(sums), verdicts=self.verdicts)

    def probe(self, at: int) -> Mapping[str, Observation]:  # noqa: ARG002
        return {}

    def observe(self, rollouts: Window) -> Mapping[str, Observation]:
        """Completions of the step before carry its noise; only a window that began with new ones counts."""
        return self.mix.observe() if rollouts.fresh else {}

    def entropy_slopes(self, rollouts: Window) -> Mapping[str, float]:  # noqa: ARG002
        return {}

    def update(self, weights: Weights, losses: Mapping[str, float]) -> float:  # noqa: ARG002
        """TRL clips (`_clip_grad_norm`) and steps; a callback then pushes the effects."""
        return math.nan


def _done_by_trl(model: nn.Module, batch: Batch, count: float) -> LossOut:  # noqa: ARG001
    raise AssertionError("TRL makes this loss")
