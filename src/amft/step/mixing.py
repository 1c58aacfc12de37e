"""One step's branches: which run, in which order, and with which weight. It knows parts, not names.

weights first    a rule that reads nothing of this step; a branch of weight 0 is not run
weights after    a rule that reads the rollouts; the RL gradient is scaled once its weight is known
apart            a rule that reads the meta-gradient; the two gradients are kept apart (docs/method.md)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from torch import Tensor

from ..balance.base import BEGINNING, DEMONSTRATIONS, GRADIENTS, ROLLOUTS, Signals, State, Weights
from ..balance.method import Method
from ..batch import Batch, MetricSums
from ..experience.rollouts import Collector, Experience
from ..experience.sampling_context import Prompts
from ..experience.sources import Sources
from ..meta import Observation
from ..weighting.base import Tokens
from .learner import Learner
from .measures import coefficient_gap, row_variance, trimmed_nll_variance
from .meta_signals import Probes
from .objective import Objective


class Made(NamedTuple):
    """What a step's gradients came to; they are in `p.grad`."""

    sums: MetricSums
    row: dict[str, Any]
    losses: dict[str, float]
    weights: Weights


@dataclass
class Mixing:
    """Fills `p.grad` with the weighted gradients of one step."""

    learner: Learner
    objective: Objective
    collector: Collector
    probes: Probes
    sources: Sources
    method: Method
    score_reference: Callable[[Batch], Tensor] | None
    """[B, C] log-probabilities of demonstrations under the reference, for token weights that need them."""
    seen: Callable[[Batch], None]
    """Called with the rollouts before anything is made of them."""
    entropy_target: float | None = None
    demo_gain: float | None = None
    state: State = field(default_factory=dict)
    past: dict[str, float] = field(default_factory=dict)
    """Values of `balance.base.PAST`."""

    def __post_init__(self) -> None:
        self.state = self.method.rule.init()

    def begin(self) -> str | None:
        """Before the first step of the single stage: measure H* and `demo_gain` for a rule that reads them.

        Returns:
            What could not be measured, and the way out; None when nothing is missing.
        """
        needs = self.method.rule.needs
        if not (needs & BEGINNING or (needs & (GRADIENTS | {"entropy"}) and self.entropy_target is None)):
            return None
        target, self.demo_gain = self.probes.beginning()
        self.entropy_target = target if self.entropy_target is None else self.entropy_target
        if self.demo_gain is None and needs & BEGINNING:
            return "demonstrations cannot be graded: give them the columns that the reward function reads"
        return None

    def warmup(self) -> Made:
        """Plain imitation of the stream, whatever the method: all rules start alike."""
        demos = self._streamed()
        assert demos is not None
        loss, sums = self.learner.gradient(self.objective.plain.sft, demos, self.objective.token_count(demos))
        sums.pop("sft/loss", None)
        return Made(sums | _read(demos), {"mix/mu": 1.0}, {"sft/loss": loss}, Weights(1.0, 0.0))

    def step(self, at: int, total: int) -> Made:
        """One step of the single stage, the `at`-th of `total`."""
        if self.learner.mix is not None:
            return self._apart(at, total)
        if self.method.rule.needs & (ROLLOUTS | DEMONSTRATIONS):
            return self._after(at, total)
        weights, row = self._weigh(self._signals(at, total))
        routed = bool(weights.sft) and self.method.demo_mixer.imitates == "rows"
        experience = self._collect(at, total) if weights.rl or routed else None
        return self._run(weights, row, experience, self._imitated(experience) if weights.sft else None)

    def made_step(self, made: Made, norm: float) -> None:
        """Remember what the next step may ask about this one.

        Args:
            made: what `warmup` or `step` returned.
            norm: of the gradient before clipping.
        """
        known = {"policy_loss": made.losses.get("policy_loss"), "sft_loss": made.losses.get("sft/loss")}
        known["sft_grad_norm"] = made.row.get("mix/grad_norm_sft")
        if made.weights.sft and not made.weights.rl:
            known["sft_grad_norm"] = norm / made.weights.sft
        self.past |= {name: float(value) for name, value in known.items() if value is not None and math.isfinite(value)}

    def _run(self, weights: Weights, row: dict[str, Any], experience: Experience | None, demos: Batch | None) -> Made:
        """Weights first, then one gradient; a branch of weight 0 costs nothing."""
        sums: MetricSums = {}
        losses: dict[str, float] = {}
        if experience is not None:
            sums |= experience.sums
            if weights.rl:
                losses["policy_loss"], found = self._rl(experience, weights.rl)
                sums |= found
        if weights.sft:
            losses["sft/loss"], found = self._sft(demos, weights.sft)
            sums |= found
        return Made(sums, row, losses, weights)

    def _after(self, at: int, total: int) -> Made:
        """The RL gradient first, scaled in place when its weight is known."""
        experience = self._collect(at, total)
        losses: dict[str, float] = {}
        losses["policy_loss"], sums = self._rl(experience)
        sums |= experience.sums
        demos = self._imitated(experience) if self.method.rule.needs & DEMONSTRATIONS else None
        signals = self._signals(at, total, experience, sums)
        if demos is not None and at % self.method.every == 0:
            nll_var, coef_gap = self._measured(experience, demos)
            signals = replace(signals, nll_var=nll_var, coef_gap=coef_gap)
        weights, row = self._weigh(signals)
        if weights.rl:
            self.learner.rescale(weights.rl)
        else:
            self.learner.clear()
        if weights.sft:
            demos = self._imitated(experience) if demos is None else demos
            losses["sft/loss"], found = self._sft(demos, weights.sft)
            sums |= found
        return Made(sums, row, losses, weights)

    def _measured(self, experience: Experience, demos: Batch) -> tuple[float, float]:
        """The signals `nll_var` and `coef_gap`, by one forward pass without gradient."""
        logps, mask = self.learner.logps(self.learner.model, demos, 1.0), demos.completion_mask
        weigh, batch = self.method.token_weight, experience.batch
        assert batch.advantages is not None
        weights = None if weigh is None else weigh(Tokens(logps, mask))
        gap = coefficient_gap(mask, weights, batch.completion_mask, batch.advantages)
        return trimmed_nll_variance(logps, mask), gap

    def _apart(self, at: int, total: int) -> Made:
        """The two gradients apart, mu moved between them (docs/method.md, one step in order)."""
        mix = self.learner.mix
        assert mix is not None
        probed = self.probes.before(at)
        experience = self._collect(at, total)
        entropy_grad = self.probes.entropy_grad(experience)
        policy_loss, sums = self._rl(experience)
        sums |= experience.sums
        observed = self.probes.lookahead(experience) or probed
        weights, row = self._weigh(self._signals(at, total, experience, sums, observed, entropy_grad))
        mix.stash()
        imitation, found = self._sft(self._imitated(experience))
        mixed = self.learner.combine(weights)
        row |= {"mix/grad_norm_sft": mixed.norm_sft, "mix/grad_norm_rl": mixed.norm_rl, "mix/grad_cos": mixed.cos}
        if self.entropy_target is not None:
            row["entropy_target"] = self.entropy_target
        return Made(sums | found, row, {"policy_loss": policy_loss, "sft/loss": imitation}, weights)

    def _signals(
        self,
        at: int,
        total: int,
        experience: Experience | None = None,
        sums: MetricSums | None = None,
        observed: Observation | None = None,
        entropy_grad: float | None = None,
    ) -> Signals:
        found = means(sums or {})
        return Signals(
            at,
            total,
            entropy=found.get("entropy"),
            entropy_target=self.entropy_target,
            demo_gain=self.demo_gain,
            reward=found.get("reward"),
            success=None if experience is None else experience.success,
            advantage_var=None if experience is None else row_variance(experience.batch),
            meta_grad=None if observed is None else observed.dot,
            meta_cos=None if observed is None else observed.cos,
            entropy_grad=entropy_grad,
            buffered=len(self.collector.buffer),
            **self.past,
        )

    def _weigh(self, signals: Signals) -> tuple[Weights, dict[str, Any]]:
        weights, self.state, row = self.method.rule.update(self.state, signals)
        if weights.rl != 1.0 - weights.sft:
            row = {"mix/weight_rl": weights.rl, **row}
        return weights, {"mix/mu": weights.sft, **row}

    def _collect(self, at: int, total: int) -> Experience:
        experience = self.collector.next(self._prompts, at, total)
        self.seen(experience.batch)
        return experience

    def _rl(self, experience: Experience, scale: float = 1.0) -> tuple[float, MetricSums]:
        count = self.objective.rl_count(experience.batch)
        return self.learner.gradient(self.objective.rl, experience.batch, count, scale)

    def _sft(self, batch: Batch | None, scale: float = 1.0) -> tuple[float, MetricSums]:
        if batch is None:
            return 0.0, {}
        if self.score_reference is not None:
            batch = replace(batch, ref_logps=self.score_reference(batch))
        loss, sums = self.learner.gradient(self.objective.sft, batch, self.objective.token_count(batch), scale)
        likelihood = sums.pop("sft/loss", None)
        if likelihood is not None and self.objective.weighs_tokens:
            sums["sft/nll"] = likelihood
        return loss, sums | _read(batch)

    def _imitated(self, experience: Experience | None) -> Batch | None:
        """The demonstrations of this step, from where the demo mixer takes them."""
        return {
            "stream": self._streamed,
            "rows": lambda: None if experience is None else experience.imitate,
            "buffer": lambda: self.collector.take_buffered(self._prompts, self.learner.config.num_demos),
        }[self.method.demo_mixer.imitates]()

    def _streamed(self) -> Batch | None:
        found = self.sources.demonstrations
        return None if found is None else found.next(self.learner.config.num_demos)

    @property
    def _prompts(self) -> Prompts:
        assert self.sources.prompts is not None
        return self.sources.prompts

    def state_dict(self) -> dict[str, Any]:
        """JSON values."""
        beginning = {"entropy_target": self.entropy_target, "demo_gain": self.demo_gain}
        return {"balance": self.state, "past": self.past, **beginning}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue a run."""
        self.state, self.past = state["balance"], dict(state.get("past", {}))
        self.entropy_target, self.demo_gain = state["entropy_target"], state.get("demo_gain")


def _read(demos: Batch) -> MetricSums:
    prompts = float(demos.attention_mask.sum() - demos.tokens)
    return {"tokens/demo": (float(demos.tokens), 1.0), "tokens/demo_prompt": (prompts, 1.0)}


def means(sums: MetricSums) -> dict[str, float]:
    """Metrics from (sum, count); one that was never counted is absent."""
    return {name: total / count for name, (total, count) in sums.items() if count}
