"""The losses of a step as functions of a micro-batch: which loss, not how much it weighs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor, nn

from ..balance.method import Method
from ..batch import Batch, LossOut, MetricSums
from ..losses.choices import POLICY_LOSSES, PolicyChoice, clip_range
from ..losses.entropy import entropy_loss
from ..losses.kl import kl_loss
from ..losses.mismatch import logp_differences, sampling_weights
from ..losses.offpolicy import off_policy_loss
from ..losses.policy import policy_loss
from ..losses.ratio import importance_ratio
from ..losses.sft import sft_loss
from ..losses.value import value_loss
from ..models.forward import Entropy, TokenScores, token_scores
from ..settings.config import AMFTConfig
from ..tensors import masked, reduction_count
from ..weighting.base import TokenInput, Tokens
from .critic import Critic

Loss: TypeAlias = Callable[[nn.Module, Batch, float], LossOut]
"""`loss(model, micro_batch, count)`; `count` is the global denominator of the whole step."""


@dataclass(frozen=True)
class Objective:
    """L_RL and L_SFT of eq 3 (arXiv 2508.06944), with the entropy and likelihood used to probe a policy.

    Every loss takes the model, a micro-batch and `count`, its denominator: `rl_count` or `token_count` added up over
    the micro-batches of all ranks, so that the gradients of parts add up to that of the whole step.
    """

    config: AMFTConfig
    method: Method
    critic: Critic | None = None
    """The value head, whose loss is part of the RL loss."""

    @property
    def choice(self) -> PolicyChoice:
        return POLICY_LOSSES[self.config.loss_type]

    @property
    def plain(self) -> Objective:
        """The same without the method's parts."""
        return Objective(self.config, Method(self.method.rule))

    @property
    def weighs_tokens(self) -> bool:
        """The imitation loss is not the plain mean over tokens."""
        asked, method = self.config.demonstrations, self.method
        weighs_rows = (asked.wrong_weight, asked.silent_weight) != (1.0, 1.0) or method.requirements.ageing is not None
        return method.token_weight is not None or method.demo_mixer.imitates == "rows" or weighs_rows

    def rl_count(self, batch: Batch) -> float:
        """This batch's part of the global count of `rl`."""
        return reduction_count(batch.completion_mask, self.choice.reduction, self.config.max_completion_length)

    def token_count(self, batch: Batch) -> float:
        """This batch's part of the global count of `sft` and `entropy`."""
        return reduction_count(batch.completion_mask, "token", 0)

    def rl(self, model: nn.Module, batch: Batch, count: float) -> LossOut:
        """Policy gradient, KL to the reference (weight beta), value loss and entropy bonus (their own), over one count.

        The KL k3 is weighted by the ratio, so that its gradient is that of KL(pi || pi_ref), as in TRL 1.16 by default.
        A KL taken off the rewards (k1) is not here: then the batch has no `ref_logps`.
        """
        config, choice, mask = self.config, self.choice, batch.completion_mask
        assert batch.advantages is not None
        scores = token_scores(
            model,
            batch,
            temperature=config.temperature,
            entropy="graph" if config.entropy_coef else "value",
            hidden=self.critic is not None,
        )
        assert scores.entropy is not None
        own, others = self._split(batch, scores)
        weights, measured = self.mismatch(batch, scores)
        out = policy_loss(
            scores.logps,
            own,
            mask,
            count=count,
            reduction=choice.reduction,
            old_logps=batch.old_logps,
            ratio=choice.ratio,
            clip=clip_range(choice.clip, config.epsilon, config.epsilon_high),
            clipped="ratio" if choice.clip == "ratio" else "objective",
            weights=weights,
        )
        sampled = mask if batch.demo is None else mask * (1.0 - batch.demo)
        entropy = float((masked(scores.entropy.detach(), sampled) * sampled).sum())
        sums = {**out.sums, **measured, "entropy": (entropy, float(sampled.sum()))}
        total = out.loss
        if others is not None and self.method.off_policy is not None:
            surrogate = self.method.off_policy(scores.logps)
            total = total + off_policy_loss(surrogate, others, mask, count=count, reduction=choice.reduction).loss
        if batch.ref_logps is not None:
            is_k3 = choice.penalty == "k3"
            kl = kl_loss(
                scores.logps,
                batch.ref_logps,
                mask,
                count=count,
                reduction=choice.reduction,
                weights=importance_ratio(scores.logps, batch.old_logps, mask, "token") if is_k3 else None,
                estimate="k3" if is_k3 else "k2",
            )
            total, sums = total + config.beta * kl.loss, sums | kl.sums
        if self.critic is not None:
            value = self._value(self.critic, scores, batch, count)
            total, sums = total + config.ppo.vf_coef * value.loss, sums | value.sums
        if config.entropy_coef:
            bonus = entropy_loss(scores.entropy, mask, count=count, reduction=choice.reduction)
            total = total + config.entropy_coef * bonus.loss
        return LossOut(total, sums)

    def _value(self, critic: Critic, scores: TokenScores, batch: Batch, count: float) -> LossOut:
        assert scores.hidden is not None
        assert batch.returns is not None
        return value_loss(
            critic.values(scores.hidden),
            batch.returns,
            batch.completion_mask,
            count=count,
            reduction=self.choice.reduction,
            old_values=batch.old_values,
            clip=self.config.ppo.cliprange_value,
        )

    def _split(self, batch: Batch, scores: TokenScores) -> tuple[Tensor, Tensor | None]:
        """[B] or [B, C] advantages of the ratio's tokens, and [B, C] of the off-policy surrogate's.

        Each is 0 on the other's tokens. Both losses then share one mask, so that a row of two authors is divided by its
        own length once.
        """
        advantages, method = batch.advantages, self.method
        assert advantages is not None
        if method.advantage is not None:
            advantages = method.advantage(_tokens(batch, scores))
        if batch.demo is None or method.off_policy is None:
            return advantages, None
        columns = advantages if advantages.dim() == 2 else advantages[:, None]
        return columns * (1.0 - batch.demo), columns * batch.demo

    def mismatch(self, batch: Batch, scores: TokenScores) -> tuple[Tensor | None, MetricSums]:
        """[B, C] weights for what the engine's policy is off the trainer's, None for 1, and metric sums.

        The policy that sampled is the one of this pass, unless the rollouts were used before and carry their own.
        """
        if batch.engine_logps is None:
            return None, {}
        asked, mask = self.config.importance_sampling, batch.completion_mask
        trainer = scores.logps.detach() if batch.old_logps is None else batch.old_logps
        sums = logp_differences(batch.engine_logps, trainer, mask)
        if not asked.correction:
            return None, sums
        weights, found = sampling_weights(
            trainer, batch.engine_logps, mask, mode=asked.mode, clip_min=asked.clip_min, clip_max=asked.clip_max
        )
        return weights, sums | found

    def _weights(self, batch: Batch, scores: TokenScores) -> Tensor | None:
        """[B, C] or [B, 1] constants: the rows' own weights times the method's."""
        rows = batch.weights
        if rows is not None and rows.dim() == 1:
            rows = rows[:, None]
        if self.method.token_weight is None:
            return rows
        tokens = self.method.token_weight(_tokens(batch, scores))
        return tokens if rows is None else rows * tokens

    def utility(self, model: nn.Module, batch: Batch, count: float) -> LossOut:
        """The policy-gradient surrogate of -U alone (eq 4), on rollouts for held-out prompts."""
        assert batch.advantages is not None
        scores = token_scores(model, batch, temperature=self.config.temperature)
        out = policy_loss(
            scores.logps,
            batch.advantages,
            batch.completion_mask,
            count=count,
            reduction=self.choice.reduction,
            ratio=self.choice.ratio,
            weights=self.mismatch(batch, scores)[0],
        )
        return LossOut(out.loss, {})

    def sft(self, model: nn.Module, batch: Batch, count: float) -> LossOut:
        """Imitation, eq 2; `sft/nll` says the plain likelihood where tokens or rows carry weights."""
        smoothing = self.config.label_smoothing
        weigh = self.method.token_weight
        entropy: Entropy = "value" if weigh is not None and TokenInput.ENTROPY in weigh.reads else "skip"
        scores = token_scores(model, batch, entropy=entropy, smoothing=smoothing > 0, accuracy=True)
        out = sft_loss(
            scores.logps,
            batch.completion_mask,
            count=count,
            weights=self._weights(batch, scores),
            label_smoothing=smoothing,
            mean_logps=scores.mean_logps,
        )
        assert scores.correct is not None
        right = float((scores.correct * batch.completion_mask).sum())
        sums: MetricSums = {"sft/token_accuracy": (right, float(batch.completion_mask.sum()))}
        return LossOut(
            out.loss,
            sums | ({"sft/nll": out.sums["sft/loss"]} if self.weighs_tokens else {}),
        )

    def likelihood(self, model: nn.Module, batch: Batch, count: float) -> LossOut:
        """Minus the mean log-likelihood of held-out demonstrations, the utility `likelihood`."""
        scores = token_scores(model, batch)
        return LossOut(sft_loss(scores.logps, batch.completion_mask, count=count).loss, {})

    def entropy(self, model: nn.Module, batch: Batch, count: float) -> LossOut:
        """Minus the mean token entropy H of the rollouts, so that its gradient is -grad H."""
        scores = token_scores(model, batch, temperature=self.config.temperature, entropy="graph")
        assert scores.entropy is not None
        return LossOut(entropy_loss(scores.entropy, batch.completion_mask, count=count, reduction="token").loss, {})


def _tokens(batch: Batch, scores: TokenScores) -> Tokens:
    return Tokens(
        logps=scores.logps.detach(),
        mask=batch.completion_mask,
        entropy=None if scores.entropy is None else scores.entropy.detach(),
        ref_logps=batch.ref_logps,
        teacher_logps=batch.teacher_logps,
        teacher_entropy=batch.teacher_entropy,
        advantages=batch.advantages,
        rewards=batch.rewards,
        demo=batch.demo,
    )
