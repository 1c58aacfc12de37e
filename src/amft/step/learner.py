"""The policy and its optimizer: gradients of one loss at a time, and one guarded update."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from ..balance.weights import Weights
from ..batch import Batch, MetricSums
from ..distributed.micro_batch_limit import Limit, RowLimit, TokenLimit
from ..distributed.parallel import Parallel
from ..distributed.rank_partition import micro_batches
from ..distributed.whole_state import full
from ..meta import MixGrad
from ..models.forward import Entropy, TokenScores, token_scores
from ..settings.config import AMFTConfig
from ..tensors import TensorGroups
from ..types import RL
from .critic import Critic
from .lr_schedule import LRSchedule
from .objective import Loss
from .optimizers import PolicyOptimizer
from .row_layout import RowLayout


@dataclass
class Learner:
    """One policy in training. Losses go through `gradient`, which adds to `p.grad`; `update` makes the step."""

    model: PreTrainedModel
    optimizer: PolicyOptimizer
    mix: MixGrad | None
    """Keeps the gradients of the branches apart; None when the rule needs no meta-gradient."""
    config: AMFTConfig
    parallel: Parallel
    rows: RowLayout
    critic: Critic | None = None
    """The value head of PPO; None for losses without one."""
    learning_rate: float = 0.0
    """Of the last step."""

    def __post_init__(self) -> None:
        config = self.config
        plan = config.max_steps, config.lr_warmup_steps
        self.schedule = LRSchedule(config.lr_scheduler_type, config.lr_scheduler_kwargs, config.learning_rate, *plan)

    def gradient(
        self, loss: Loss, batch: Batch, count: float, scale: float = 1.0, model: PreTrainedModel | None = None
    ) -> tuple[float, MetricSums]:
        """Add the gradient of `scale * loss` to `p.grad`, micro-batch by micro-batch, summed over ranks.

        Args:
            loss: a method of `Objective`.
            batch: all rows of this branch, on every rank; none gives no gradient.
            count: global denominator over all micro-batches and ranks.
            scale: weight of the loss.
            model: whose gradient; None is the policy's.

        Returns:
            The unscaled loss and its metric sums over all micro-batches and ranks.
        """
        ranks, value = self.parallel.ranks, 0.0
        sums: MetricSums = {}
        critic = self.critic.reducing() if self.critic else contextlib.nullcontext()
        model = model or self.model
        parts = self._parts(model, batch)
        with self.parallel.reducing(model), critic, self.rows.open(model):
            for number, (_, part) in enumerate(parts, 1):
                if number == len(parts):
                    self.parallel.last_comes(model)
                with self.autocast():
                    out = loss(model, part.to(self.parallel.device), count)
                (scale * out.loss).backward()
                value += float(out.loss.detach())
                for name, (total, n) in out.sums.items():
                    before = sums.get(name, (0.0, 0.0))
                    sums[name] = (before[0] + total, before[1] + n)
        value, *flat = ranks.all_sum([value, *(number for name in sorted(sums) for number in sums[name])])
        pairs = zip(flat[::2], flat[1::2], strict=True)
        return value, {**sums, **dict(zip(sorted(sums), pairs, strict=True))}

    def logps(self, model: torch.nn.Module, batch: Batch, temperature: float | None = None) -> torch.Tensor:
        """[B, C] log-probabilities of a batch under a model, as the training forward would compute them.

        Args:
            model: the policy or a reference.
            batch: rows.
            temperature: divides the logits; None is that of the rollouts.
        """
        temperature = self.config.temperature if temperature is None else temperature
        return self._scores(model, batch, lambda scores: scores.logps, temperature)

    def entropies(self, batch: Batch, temperature: float) -> torch.Tensor:
        """[B, C] token entropy of the policy, nats; arguments as in `logps`."""

        def read(scores: TokenScores) -> torch.Tensor:
            """[B, C]."""
            assert scores.entropy is not None
            return scores.entropy

        return self._scores(self.model, batch, read, temperature, entropy="value")

    def values(self, batch: Batch) -> torch.Tensor:
        """[B, C] what the value head says of the state before each token."""
        critic = self.critic
        assert critic is not None

        def read(scores: TokenScores) -> torch.Tensor:
            """[B, C]."""
            assert scores.hidden is not None
            return critic.values(scores.hidden)

        return self._scores(self.model, batch, read, self.config.temperature, hidden=True)

    @torch.no_grad()
    def _scores(
        self,
        model: torch.nn.Module,
        batch: Batch,
        read: Callable[[TokenScores], torch.Tensor],
        temperature: float,
        hidden: bool = False,
        entropy: Entropy = "skip",
    ) -> torch.Tensor:
        """[B, C] of a whole batch, computed micro-batch by micro-batch on every rank and summed over ranks."""
        dtype = torch.float64 if self.config.dtype == "float64" else torch.float32
        out = torch.zeros_like(batch.completion_mask, dtype=dtype)
        parts = self._parts(model, batch)
        with self.rows.open(model):
            for rows, part in parts:
                with self.autocast():
                    at = part.to(self.parallel.device)
                    found = read(token_scores(model, at, temperature=temperature, hidden=hidden, entropy=entropy))
                out[rows, : found.shape[1]] = found[: len(rows)].to(out)
        return self.parallel.ranks.sum_(out)

    def _parts(self, model: torch.nn.Module, batch: Batch) -> list[tuple[list[int], Batch]]:
        """This rank's micro-batches; the first ones of a run are computed in both layouts and compared."""

        def logps(part: Batch) -> torch.Tensor:
            """[B, C]."""
            with self.autocast():
                return token_scores(model, part.to(self.parallel.device)).logps

        parts, limit = micro_batches(batch, self._limit, self.parallel.ranks), self._limit
        if parts:
            self.rows.check(model, batch, parts[0][1], logps)
        return parts if self._limit == limit else micro_batches(batch, self._limit, self.parallel.ranks)

    @property
    def _limit(self) -> Limit:
        tokens = self.config.micro_batch_tokens
        return RowLimit(self.config.micro_batch_size) if tokens is None else TokenLimit(tokens, self.rows.wanted)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """bfloat16 arithmetic over float32 master weights, when asked for."""
        if self.config.dtype != "bfloat16":
            return contextlib.nullcontext()
        return torch.autocast(self.model.device.type, torch.bfloat16)

    def clear(self) -> None:
        """Forget all gradients."""
        for p in self.model.parameters():
            p.grad = None
        if self.critic is not None:
            self.critic.clear()

    @torch.no_grad()
    def rescale(self, factor: float) -> None:
        """Multiply `p.grad` in place: the weight of a branch, known after its backward."""
        found = [p.grad for p in self.model.parameters() if p.grad is not None]
        if found and factor != 1.0:
            torch._foreach_mul_(found, factor)
        if self.critic is not None:
            self.critic.rescale(factor)

    def update(self, step: int, weights: Weights, accept: Callable[[float], bool]) -> float:
        """Clip, ask, step. A refused step changes no parameter and forgets the meta-gradient's buffers.

        Args:
            step: optimizer steps done before this one; sets the learning rate.
            weights: of this step. A step without exploration may be made by another optimizer; and the value head
                belongs to the RL loss, so its gradient takes that weight where the gradients were kept apart.
            accept: called with the gradient norm before clipping; False refuses the step.

        Returns:
            The gradient norm before clipping.
        """
        factor = self.schedule.factor(step)
        self.learning_rate = self.config.learning_rate * factor
        self.optimizer.set_learning_rate(self.learning_rate)
        if self.critic is not None and self.mix is not None:
            self.critic.rescale(weights[RL])
        norm = self._clip()
        if accept(norm):
            self.optimizer.step(imitates=not weights.explores)
            if self.critic is not None:
                self.critic.step(factor)
            if self.mix is not None:
                self.mix.after_step()
        elif self.mix is not None:
            self.mix.discard()
        self.clear()
        return norm

    def _clip(self) -> float:
        """The policy's norm; a critic's in its place when that one is not finite, so that the step is refused."""
        own = self.critic.clip() if self.critic is not None else 0.0
        norm = self._clip_policy()
        return norm if math.isfinite(own) else own

    def _clip_policy(self) -> float:
        limit = self.config.max_grad_norm
        if self.mix is not None:
            return self.mix.clip_(limit)
        trained = [p for p in self.model.parameters() if p.grad is not None]
        return float(full(torch.nn.utils.clip_grad_norm_(trained, float("inf") if limit is None else limit)))

    def state_dict(self) -> TensorGroups:
        """Optimizer, meta-gradient and value-head tensors, by name of the parameter."""
        meta = {} if self.mix is None else self.mix.state_dict()
        critic = {} if self.critic is None else {"critic": self.critic.state_dict()}
        return {**self.optimizer.tensors(), "meta": meta, **critic}

    def load_state_dict(self, tensors: TensorGroups) -> None:
        """Continue where `state_dict` was taken."""
        self.optimizer.load_tensors(tensors)
        if self.mix is not None and "meta" in tensors:
            self.mix.load_state_dict(tensors["meta"])
        if self.critic is not None:
            self.critic.load_state_dict(tensors["critic"])
