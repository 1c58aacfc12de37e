"""What the balance rule asks of the policy: dU/dmu, dH/dmu and the target entropy H*."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..balance.base import Balance
from ..batch import Batch
from ..data.rewards import NOT_COLUMNS
from ..data.streams import derive_seed
from ..experience.rollouts import Collector, Experience
from ..experience.sources import Sources
from ..meta import Observation
from .learner import Learner
from .measures import cliffs_delta
from .objective import Objective

GRADED = 64
"""Demonstrations that are graded for `demo_gain`."""


class Beginning(NamedTuple):
    """What is measured once, when the single stage begins."""

    entropy_target: float
    """H*: mean token entropy of the policy's own rollouts for prompts that are not trained on, in nats."""
    demo_gain: float | None
    """See `balance.base.Signals`."""


@dataclass
class Probes:
    """Extra gradients dotted with the buffer of the previous step. Each leaves `p.grad` empty."""

    learner: Learner
    objective: Objective
    collector: Collector
    sources: Sources
    rule: Balance

    @property
    def utility(self) -> str:
        return getattr(self.rule, "utility", "lookahead")

    def before(self, stage_step: int) -> Observation | None:
        """dU/dmu by the utility `heldout` or `likelihood`, every `meta_every` steps; None for `lookahead`."""
        mix = self.learner.mix
        if self.utility == "lookahead" or mix is None or stage_step % self.learner.config.meta_every:
            return None
        if self.utility == "likelihood":
            assert self.sources.meta_demonstrations is not None
            batch = self.sources.meta_demonstrations.next(self.learner.config.num_demos)
            self.learner.gradient(self.objective.likelihood, batch, self.objective.token_count(batch))
        else:
            batch = self._held_out_rollouts("utility", stage_step)
            self.learner.gradient(self.objective.utility, batch, self.objective.rl_count(batch))
        return self._observe()

    def lookahead(self, experience: Experience) -> Observation | None:
        """dU/dmu by this step's RL gradient, which is in `p.grad` and stays there; fresh rollouts only."""
        mix = self.learner.mix
        return mix.observe() if mix is not None and self.utility == "lookahead" and experience.fresh else None

    def entropy_grad(self, experience: Experience) -> float | None:
        """dH/dmu on this step's rollouts, when the rule asks for it; one more backward pass."""
        if "entropy_grad" not in self.rule.needs or not experience.fresh:
            return None
        batch = experience.batch
        self.learner.gradient(self.objective.entropy, batch, self.objective.token_count(batch))
        found = self._observe()
        return None if found is None else found.dot

    def beginning(self) -> Beginning:
        """H* and the gain of the demonstrations, from one batch of rollouts for prompts that are not trained on."""
        batch = self._held_out_rollouts("entropy target", 0)
        _, sums = self.learner.gradient(self.objective.rl, batch, self.objective.rl_count(batch), scale=0.0)
        self.learner.clear()
        total, count = sums["entropy"]
        assert batch.rewards is not None
        return Beginning(total / max(count, 1.0), self._demo_gain(batch.rewards.tolist()))

    def _demo_gain(self, rewards: list[float]) -> float | None:
        demos, prompts, scorer = self.sources.demonstrations, self.sources.prompts, self.sources.scorer
        if "demo_gain" not in self.rule.needs or demos is None or prompts is None or scorer is None:
            return None
        # Demonstrations of a set of their own may lack the columns that a reward function reads.
        if prompts.rows[0].keys() - NOT_COLUMNS - demos.rows[0].keys():
            return None
        return cliffs_delta(demos.rewards(scorer, GRADED), [reward for reward in rewards if not math.isnan(reward)])

    def _held_out_rollouts(self, purpose: str, step: int) -> Batch:
        # A generator of their own: a rule that probes must not change the rollouts that another rule trains on.
        config = self.learner.config
        generator = torch.Generator().manual_seed(derive_seed(config.seed, purpose, step))
        return self.collector.collect(self.sources.meta, config.num_prompts, generator)

    def _observe(self) -> Observation | None:
        assert self.learner.mix is not None
        found = self.learner.mix.observe()
        self.learner.clear()
        return found
