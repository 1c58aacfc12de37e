"""The implicit reward: imitation read as ascent on a reward of its own (arXiv 2508.06944, section on SFT)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..batch import Batch
from ..experience.sources import Demonstrations
from ..tensors import TensorGroups
from .learner import Learner

GROUP = "implicit_reference"
"""Name of the reference weights in a checkpoint."""


@dataclass
class ImplicitReward:
    """Measures `r(x, y) = beta (log pi(y|x) - log pi_ref(y|x))`, nats, with pi_ref the policy after the warm-up.

    Demonstrations are always the same ones, rollouts those of the step, both before the step moves the policy. Costs
    one more copy of the trained parameters and, when it is due, four forward passes.
    """

    learner: Learner
    demonstrations: Demonstrations | None
    every: int
    """Steps between measurements; 0 never."""
    beta: float
    reference: dict[str, Tensor] = field(default_factory=dict)
    """Trained parameters of pi_ref by name; empty before `begin`."""
    found: dict[str, float] = field(default_factory=dict)
    """What was measured in this step, by metric name."""
    is_due: bool = False

    def begin(self) -> None:
        """Take the policy as it is for the reference; at the end of the warm-up."""
        if self.every:
            self.reference = {name: p.detach().clone() for name, p in self._trained()}

    def start_step(self, step: int) -> None:
        """Measure the demonstrations where it is due. Args: step: optimizer steps done, this one included."""
        self.found, self.is_due = {}, bool(self.reference) and step % self.every == 0
        source = self.demonstrations
        if self.is_due and source is not None:
            rows = source.encoded.rows
            n = self.learner.config.num_demos
            self.found["implicit_reward/demo"] = self._mean(source.of(rows[:: max(1, len(rows) // n)][:n]))

    def see(self, rollouts: Batch) -> None:
        """Measure this step's rollouts where it is due; rows that a demonstrator began are left out."""
        kept = range(len(rollouts)) if rollouts.demo is None else (rollouts.demo.sum(1) == 0).nonzero()[:, 0].tolist()
        if not self.is_due or not len(kept):
            return
        self.found["implicit_reward/rollout"] = self._mean(rollouts.take([*kept]))
        if (demo := self.found.get("implicit_reward/demo")) is not None:
            self.found["implicit_reward/margin"] = demo - self.found["implicit_reward/rollout"]

    def _mean(self, batch: Batch) -> float:
        """Over rows, of the sum over their completion tokens."""
        learner, model = self.learner, self.learner.model
        now = learner.logps(model, batch, 1.0)
        with self._as_reference():
            before = learner.logps(model, batch, 1.0)
        return self.beta * float(((now - before) * batch.completion_mask).sum(1).mean())

    @contextmanager
    def _as_reference(self) -> Iterator[None]:
        """While open, the model has the reference's weights."""
        held = {name: p.data for name, p in self._trained()}
        for name, p in self._trained():
            p.data = self.reference[name]
        try:
            yield
        finally:
            for name, p in self._trained():
                p.data = held[name]

    def _trained(self) -> Iterator[tuple[str, Any]]:
        return ((name, p) for name, p in self.learner.model.named_parameters() if p.requires_grad)

    def state_dict(self) -> TensorGroups:
        """The reference's weights, [*] as their parameters."""
        return {GROUP: self.reference} if self.reference else {}

    def load_state_dict(self, tensors: TensorGroups) -> None:
        """Continue where `state_dict` was taken; weights are [*] as their parameters."""
        saved = tensors.get(GROUP, {})
        self.reference = {
            name: torch.empty_like(p).copy_(saved[name]).detach() for name, p in self._trained() if name in saved
        }
