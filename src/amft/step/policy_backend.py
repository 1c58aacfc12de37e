"""The step's computations in our own trainer: learner, objective, collector and sources behind one door."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ..balance.method import Method
from ..balance.weights import Weights
from ..batch import Batch, MetricSums
from ..experience.rollouts import Collector, Experience
from ..experience.sources import Sources
from ..signals.base import Observation
from ..types import RL
from .balancer import Balancer
from .branch import Branch, means
from .learner import Learner
from .meta_signals import MetaSignals
from .moment import StepMoment
from .objective import Loss, Objective


@dataclass
class PolicyBackend:
    """See `StepBackend`."""

    learner: Learner
    objective: Objective
    collector: Collector
    meta_signals: MetaSignals
    sources: Sources
    method: Method
    balancer: Balancer
    score_reference: Callable[[Batch], Tensor] | None
    """[B, C] log-probabilities of demonstrations under the reference, for token weights that need them."""
    seen: Callable[[Batch], None]
    """Called with the rollouts before anything is made of them."""
    accept: Callable[[Mapping[str, float]], bool] = lambda _: True
    """Called with losses and gradient norm; False refuses the step."""
    step: int = 0
    """Optimizer steps done, warm-up included."""

    @property
    def imitates_rollout_rows(self) -> bool:
        return self.method.demo_mixer.imitates == "rows"

    def collect(self, at: int) -> tuple[Experience, MetricSums]:
        assert self.sources.prompts is not None
        experience = self.collector.next(self.sources.prompts, at, self.balancer.total_steps)
        self.seen(experience.batch)
        return experience, experience.sums

    def exploration(self, rollouts: Experience) -> Branch:
        return Branch(RL, rollouts.batch, self.objective.rl, self.objective.rl_count(rollouts.batch))

    def imitation(self, rollouts: Experience | None) -> list[Branch]:
        source = self.method.demo_mixer.imitates
        if source == "stream":
            return self._branches(
                self._streamed(self.method.requirements.ageing),
                self.objective.sft,
                reads_reference=self._weighs_reference,
            )
        if source == "buffer":
            assert self.sources.prompts is not None
            rows: Batch | None = self.collector.take_buffered(self.sources.prompts, self.learner.config.num_demos)
        else:
            rows = None if rollouts is None else rollouts.imitate
        (branch,) = self.balancer.branches  # `check_sources` refuses classes of demonstrations for these demo mixers
        return self._branches({branch: rows}, self.objective.sft, reads_reference=self._weighs_reference)

    def plain_imitation(self) -> list[Branch]:
        return self._branches(self._streamed(), self.objective.plain.sft, reads_reference=False)

    def _streamed(self, ageing: float | None = None) -> Mapping[str, Batch | None]:
        found = self.sources.demonstrations
        if found is None:
            return {}
        return found.next(self.learner.config.num_demos, ageing, self.balancer.draw_weights())

    def _branches(self, rows: Mapping[str, Batch | None], loss: Loss, *, reads_reference: bool) -> list[Branch]:
        count = sum(self.objective.token_count(batch) for batch in rows.values() if batch is not None)
        return [Branch(name, rows.get(name), loss, count, reads_reference) for name in self.balancer.branches]

    @property
    def _weighs_reference(self) -> bool:
        return self.score_reference is not None

    def gradient(self, branch: Branch, scale: float = 1.0) -> tuple[float, MetricSums]:
        batch = branch.batch
        if batch is None:
            return 0.0, {}
        if branch.reads_reference:
            assert self.score_reference is not None
            batch = replace(batch, ref_logps=self.score_reference(batch))
        loss, sums = self.learner.gradient(branch.loss, batch, branch.count, scale)
        return loss, sums if branch.name == RL else sums | _tokens_read(batch)

    def rescale(self, factor: float) -> None:
        if factor:
            self.learner.rescale(factor)
        else:
            self.learner.clear()

    def moment(
        self, at: int, rollouts: Experience | None, sums: MetricSums, demonstrations: Sequence[Branch]
    ) -> StepMoment:
        shown = [branch.batch for branch in demonstrations if branch.batch is not None]
        return StepMoment(
            at,
            self.balancer.past,
            len(self.collector.buffer),
            means(sums),
            None if rollouts is None else rollouts.batch,
            None if rollouts is None else rollouts.success,
            shown[0] if len(shown) == 1 else None,
            lambda batch: self.learner.logps(self.learner.model, batch, 1.0),
            self.method.token_weight,
            paid={} if rollouts is None else rollouts.paid,
            verdicts={} if self.sources.demonstrations is None else self.sources.demonstrations.verdicts,
            likelihood=self._held_out_likelihood,
        )

    def _held_out_likelihood(self) -> float | None:
        """Nats per token, one forward pass."""
        shown = self.sources.verified
        if shown is None:
            return None
        batch = shown.of(shown.encoded.rows)
        logps = self.learner.logps(self.learner.model, batch, 1.0)
        return float((logps * batch.completion_mask).sum() / batch.completion_mask.sum())

    def probe(self, at: int) -> Mapping[str, Observation]:
        return self.meta_signals.before(at)

    def observe(self, rollouts: Experience) -> Mapping[str, Observation]:
        return self.meta_signals.lookahead(rollouts)

    def entropy_slopes(self, rollouts: Experience) -> Mapping[str, float]:
        return self.meta_signals.entropy_slopes(rollouts)

    def update(self, weights: Weights, losses: Mapping[str, float]) -> float:
        return self.learner.update(self.step, weights, lambda norm: self.accept({**losses, "grad_norm": norm}))


def _tokens_read(demos: Batch) -> MetricSums:
    prompts = float(demos.attention_mask.sum() - demos.tokens)
    return {"tokens/demo": (float(demos.tokens), 1.0), "tokens/demo_prompt": (prompts, 1.0)}
