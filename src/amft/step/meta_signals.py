"""What a rule asks beyond a step's own gradients: utilities on other data, dH/dw, and H* at the beginning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..balance.meta_gradient import MetaGradient
from ..batch import Batch
from ..data.rewards import NOT_COLUMNS
from ..data.streams import derive_seed
from ..experience.rollouts import Collector, Experience
from ..experience.sources import Sources
from ..signals.base import Cost, Observation
from .balancer import Balancer
from .learner import Learner
from .moment import StepMoment
from .objective import Objective

LIVE = ("lookahead", "gram")
"""Utilities that take the RL gradient of the step as it comes."""


@dataclass
class MetaSignals:
    """Extra gradients dotted with the effects of the previous steps. Each leaves `p.grad` empty."""

    learner: Learner
    objective: Objective
    collector: Collector
    sources: Sources
    wanted: MetaGradient | None
    """What the rule asks for; None: nothing."""

    def before(self, stage_step: int) -> Mapping[str, Observation]:
        """dU/dw by the utility `heldout` or `likelihood`, when it is due; nothing for `lookahead`."""
        wanted = self.wanted
        if wanted is None or wanted.utility in LIVE or stage_step % wanted.every:
            return {}
        if wanted.utility == "likelihood":
            assert self.sources.meta_demonstrations is not None
            (batch,) = self.sources.meta_demonstrations.next(self.learner.config.num_demos).values()
            self.learner.gradient(self.objective.likelihood, batch, self.objective.token_count(batch))
        else:
            batch = self._held_out_rollouts("utility", stage_step)
            self.learner.gradient(self.objective.utility, batch, self.objective.rl_count(batch))
        return self._observe()

    def lookahead(self, experience: Experience) -> Mapping[str, Observation]:
        """dU/dw by this step's RL gradient, which is in `p.grad` and stays there.

        Only on fresh rollouts: re-used ones carry the noise of the step before, so the estimate has the wrong sign and
        20 to 30 times the size (docs/method.md, traps).
        """
        mix = self.learner.mix
        is_due = self.wanted is not None and self.wanted.utility in LIVE and experience.fresh
        return mix.observe() if mix is not None and is_due else {}

    def entropy_slopes(self, experience: Experience) -> Mapping[str, float]:
        """dH/dw on this step's rollouts, when the rule asks for it; one more backward pass."""
        if self.wanted is None or not self.wanted.entropy or not experience.fresh:
            return {}
        batch = experience.batch
        self.learner.gradient(self.objective.entropy, batch, self.objective.token_count(batch))
        return {branch: found.dot for branch, found in self._observe().items()}

    def begin(self, balancer: Balancer) -> str | None:
        """Before the first step of the single stage: measure H* and the signals that are measured once, once.

        Both come from one batch of rollouts for prompts that are not trained on; the parameters stay as they are.

        Returns:
            What could not be measured, and the way out; None when nothing is missing.
        """
        asked = balancer.requirements
        once = asked.costs(Cost.BEGINNING)
        is_measured = bool(balancer.beginning) or not once
        if is_measured and not (asked.entropy_target and balancer.entropy_target is None):
            return None
        batch = self._held_out_rollouts("entropy target", 0)
        _, sums = self.learner.gradient(self.objective.rl, batch, self.objective.rl_count(batch), scale=0.0)
        self.learner.clear()
        total, count = sums["entropy"]
        if balancer.entropy_target is None:
            balancer.entropy_target = total / max(count, 1.0)
        assert batch.rewards is not None
        given = [reward for reward in batch.rewards.tolist() if not math.isnan(reward)]
        moment = StepMoment(0, {}, 0, held_out_rewards=given, grade=self._grade)
        balancer.beginning = {signal.name: signal.measure(moment) for signal in once}
        if any(value is None for value in balancer.beginning.values()):
            return "demonstrations cannot be graded: give them the columns that the reward function reads"
        return None

    def _grade(self, n: int) -> list[float] | None:
        demos, prompts, scorer = self.sources.demonstrations, self.sources.prompts, self.sources.scorer
        if demos is None or prompts is None or scorer is None:
            return None
        # Demonstrations of a set of their own may lack the columns that a reward function reads.
        if prompts.rows[0].keys() - NOT_COLUMNS - demos.rows[0].keys():
            return None
        return demos.rewards(scorer, n)

    def _held_out_rollouts(self, purpose: str, step: int) -> Batch:
        # A generator of their own: a rule that probes must not change the rollouts that another rule trains on.
        config = self.learner.config
        generator = torch.Generator().manual_seed(derive_seed(config.seed, purpose, step))
        return self.collector.collect(self.sources.meta, config.num_prompts, generator)

    def _observe(self) -> Mapping[str, Observation]:
        assert self.learner.mix is not None
        found = self.learner.mix.observe()
        self.learner.clear()
        return found
