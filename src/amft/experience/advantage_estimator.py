"""From the rewards of one generation to the advantages of its tokens, as the loss was published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from ..batch import Batch, MetricSums
from ..gae import generalized_advantages, token_rewards, whiten
from ..losses.choices import POLICY_LOSSES, PolicyChoice
from ..losses.value import explained_variance
from ..pools import Groups, pooled_advantages
from ..settings.config import AMFTConfig
from ..tensors import masked

TokenScorer: TypeAlias = Callable[[Batch], Tensor]
"""[B, C] numbers of the completion tokens, without graph."""


@dataclass
class AdvantageEstimator:
    """Fills in the `advantages` of a batch of whole groups."""

    config: AMFTConfig
    score_old: TokenScorer
    """Log-probabilities of the policy as it is now."""
    score_reference: TokenScorer | None
    """The same of the reference policy; None without a KL term."""
    score_values: TokenScorer | None = None
    """Of the value head; None for losses without one."""

    @property
    def choice(self) -> PolicyChoice:
        return POLICY_LOSSES[self.config.loss_type]

    def assign(self, batch: Batch, rewards: Tensor, groups: Groups | None = None) -> tuple[Batch, MetricSums]:
        """The batch with advantages, and metric sums.

        Args:
            batch: the completions of one prompt side by side.
            rewards: [B]; NaN abstains and gets advantage 0.
            groups: which rows are compared with which; default: `num_generations` rollouts per prompt.
        """
        if groups is None:
            n = self.config.num_generations
            groups = Groups((n,) * (len(batch) // n), torch.zeros(len(batch), dtype=torch.bool))
        penalty, sums = self._penalty(batch)
        given = batch.completion_mask * ~rewards.isnan()[:, None]
        if self.choice.credit == "token":
            batch, found = self._per_token(batch, token_rewards(rewards, given, penalty), given)
            return batch, sums | found
        return replace(batch, advantages=self._per_completion(rewards, penalty, given, groups, batch.demo)), sums

    def _penalty(self, batch: Batch) -> tuple[Tensor | None, MetricSums]:
        """[B, C] `beta (log pi - log pi_ref)`, where the rewards carry the KL."""
        if self.score_reference is None or self.choice.penalty != "k1":
            return None, {}
        mask = batch.completion_mask
        k1 = masked(self.score_old(batch) - self.score_reference(batch), mask)
        return self.config.beta * k1, {"kl": (float((k1 * mask).sum()), float(mask.sum()))}

    def _per_completion(
        self, rewards: Tensor, penalty: Tensor | None, mask: Tensor, groups: Groups, demo: Tensor | None
    ) -> Tensor:
        """[B], or [B, C] where rows have two authors or are whitened; `rewards` [B], the others [B, C]."""
        scale = self.config.scale_rewards or self.choice.scale
        assert self.choice.baseline != "value", "a value is one per token"
        pooled = pooled_advantages(
            rewards if penalty is None else rewards - penalty.sum(1),
            groups,
            scale="none" if scale == "whiten" else scale,
            baseline=self.choice.baseline,
        )
        found = pooled.own
        if demo is not None:
            found = torch.where(demo > 0, pooled.given[:, None], found[:, None])
        columns = found if found.dim() == 2 else found[:, None]
        return whiten(columns.expand(mask.shape), mask) if scale == "whiten" else found

    def _per_token(self, batch: Batch, rewards: Tensor, mask: Tensor) -> tuple[Batch, MetricSums]:
        """By GAE over the values, which are 0 and lambda 1 without a value head; all [B, C]."""
        config, scored = self.config, self.score_values is not None
        values = masked(self.score_values(batch), mask) if self.score_values is not None else torch.zeros_like(rewards)
        advantages, returns = generalized_advantages(
            rewards, values, mask, gamma=config.ppo.gamma if scored else 1.0, lam=config.ppo.lam if scored else 1.0
        )
        if (config.scale_rewards or self.choice.scale) == "whiten":
            advantages = whiten(advantages, mask)
        batch = replace(batch, advantages=advantages)
        if not scored:
            return batch, {}
        # A completion without a reward has no return, so the value head must not be fitted to it.
        return replace(batch, completion_mask=mask, old_values=values, returns=returns), _value_sums(
            values, returns, mask
        )


def _value_sums(values: Tensor, returns: Tensor, mask: Tensor) -> MetricSums:
    """All [B, C]."""
    explained = explained_variance(values, returns, mask)
    sums: MetricSums = {"value/mean": (float(values.sum()), float(mask.sum()))}
    return sums if explained is None else {**sums, "value/explained_variance": (explained, 1.0)}
