"""Experience: prompts drawn, demonstrations mixed in, advantages computed, cut into the steps that use them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..batch import Batch, MetricSums, pad_batch
from ..data.encoding import pixels_of
from ..data.streams import derive_seed
from ..demo_mixing.apart import Apart
from ..demo_mixing.base import DemoMixer
from ..demo_mixing.generation import Generation
from ..errors import ConfigError
from ..guests import call_guest
from ..pools import Groups
from ..settings.config import AMFTConfig
from ..types import Sample
from .advantage_estimator import AdvantageEstimator
from .ahead import AheadSampler, Flight
from .dynamic_sampling import replace_flat_groups
from .mismatch import with_engine_logps
from .rollout_metrics import penalise_overlong, rollout_metrics
from .sampling_context import LiveSamplingContext, Prompts, RolloutBackend
from .verdicts import PaidCounts, paid_by_verdict


@dataclass(frozen=True)
class Experience:
    """What one optimizer step explores, and the rows that its demo mixer gives to imitation."""

    batch: Batch
    fresh: bool
    """First use after a generation: only then may mu be updated (`docs/method.md`, traps)."""
    sums: MetricSums
    """Reward and length statistics; empty when the rollouts are re-used."""
    imitate: Batch | None = None
    """Rows for the imitation loss; None unless the demo mixer imitates `rows`."""
    success: tuple[float, ...] = ()
    """Share of correct rollouts per prompt."""
    paid: PaidCounts = field(default_factory=dict)
    """Verdict on the demonstration of a rollout's prompt -> (rollouts, those of them with a reward above 0)."""


@dataclass
class Collector:
    """Fills a window of `steps_per_generation * num_iterations` steps with one generation, and hands it out."""

    backend: RolloutBackend
    config: AMFTConfig
    score_old: Callable[[Batch], Tensor]
    """[B, C] log-probabilities of the policy as it is now, without graph."""
    score_reference: Callable[[Batch], Tensor] | None
    generator: torch.Generator
    score_values: Callable[[Batch], Tensor] | None = None
    """[B, C] of the value head; None for losses without one."""
    score_taught: Callable[[Batch], tuple[Tensor, Tensor]] | None = None
    """[B, C] log-probabilities and entropies of the policy as it is now, at temperature 1; for self-distillation."""
    demo_mixer: DemoMixer = field(default_factory=Apart)
    show: Callable[[Prompts, Generation], None] = lambda *_: None
    """Called with every generation that is trained on."""
    window: list[Experience] = field(default_factory=list)
    ahead: AheadSampler | None = None
    """Draws the next generation while this one trains; None: each is drawn when it is needed."""
    flight: Flight | None = None
    """What is drawn ahead."""
    buffer: list[int] = field(default_factory=list)
    """Rows of the prompts whose demonstrations wait to be imitated, first in first out."""

    @property
    def advantage_estimator(self) -> AdvantageEstimator:
        return AdvantageEstimator(self.config, self.score_old, self.score_reference, self.score_values)

    def next(self, prompts: Prompts, step: int = 0, total_steps: int = 1) -> Experience:
        """The experience of this step; generates when the window is empty.

        Args:
            prompts: where to draw from.
            step, total_steps: prompt_index in the single stage, for demo mixers with a schedule.
        """
        if not self.window:
            steps = self.config.steps_per_generation
            generation, sums = self._varied(prompts, self.config.num_prompts * steps, (step, total_steps))
            self.show(prompts, generation)
            self.buffer += [index for index, hard in zip(generation.chosen, generation.hard) if hard]
            if self.config.soft_punish_cache:
                generation, found = penalise_overlong(
                    generation, self.config.max_completion_length, self.config.soft_punish_cache
                )
                sums |= found
            verdicts = None if prompts.verdicts is None else [prompts.verdicts[i] for i in generation.chosen]
            self.window = self._cut(generation, steps, sums, verdicts)
        experience = self.window.pop(0)
        if self.ahead is not None and not self.window and step + 1 < total_steps:
            chosen = prompts.stream.take(self.config.num_prompts * self.config.steps_per_generation)
            flight = Flight(step + 1, chosen, [list(prompts.ids[i]) for i in chosen])
            self.flight = flight.begin(self.ahead, self.config, self.generator)
        return experience

    def collect(self, prompts: Prompts, n: int, generator: torch.Generator) -> Batch:
        """Plain rollouts for `n` prompts from the stream, outside the window, whatever the demo mixer."""
        found = self._generate(Apart(), prompts, prompts.stream.take(n), generator, (0, 1), random.Random(0))
        return self._explored(found, Apart.pool)[0]

    def _varied(self, prompts: Prompts, n: int, progress: tuple[int, int]) -> tuple[Generation, MetricSums]:
        """`n` groups to train on, by dynamic sampling where it is asked for."""
        draws = random.Random(derive_seed(self.config.seed, "compose", progress[0]))

        def draw(chosen: list[int]) -> Generation:
            return self._generate(self.demo_mixer, prompts, chosen, self.generator, progress, draws)

        def draw_more(k: int) -> Generation:
            return draw(prompts.stream.take(k))

        first, rounds = draw(self._chosen(prompts, n, progress[0])), self.config.dynamic_sampling_rounds
        return replace_flat_groups(first, draw_more, rounds=rounds) if rounds else (first, {})

    def _generate(
        self,
        demo_mixer: DemoMixer,
        prompts: Prompts,
        chosen: list[int],
        generator: torch.Generator,
        progress: tuple[int, int],
        draws: random.Random,
    ) -> Generation:
        context = LiveSamplingContext(self.backend, prompts, chosen, generator, draws, progress, self._likelihood)
        who = f"balance.demo_mixer: {type(demo_mixer).__name__}.mix"
        return call_guest(demo_mixer, who, ConfigError, lambda: demo_mixer.mix(context), timed=False)

    def _chosen(self, prompts: Prompts, n: int, step: int) -> list[int]:
        """Rows to sample for: those of the flight, whose completions are dropped if they are more than a step old."""
        if self.flight is None:
            return prompts.stream.take(n)
        flight, self.flight = self.flight, None
        if flight.step != step and self.ahead is not None:
            self.ahead.drop()
        return flight.chosen

    def take_buffered(self, prompts: Prompts, n: int) -> Batch:
        """The first `n` demonstrations of the buffer, which leave it."""
        taken, self.buffer = self.buffer[:n], self.buffer[n:]
        answers = prompts.answers or []
        chosen = [(prompts.ids[i], answer) for i in taken for answer in answers[i][:1]]
        seen = [prompts.rows[i]["prompt"] for i in taken for _ in answers[i][:1]]
        batch = pad_batch([ids for ids, _ in chosen], [answer for _, answer in chosen], self._pad_id)
        return replace(batch, pixel_values=pixels_of(seen, self.backend.pictures))

    def _likelihood(self, samples: Sequence[Sample]) -> list[float]:
        batch = self._padded(samples)
        totals = (self.score_old(batch) * batch.completion_mask).sum(1)
        return (totals / batch.completion_mask.sum(1).clamp(min=1.0)).tolist()

    def _cut(
        self, made: Generation, steps: int, sums: MetricSums, verdicts: Sequence[str | None] | None = None
    ) -> list[Experience]:
        """One generation -> the experience of each step that uses it, in order."""
        # All that depends on the policy that sampled (old log-probabilities, values) is computed here, once, before the
        # first of these steps moves it; only the first use of the rollouts counts as fresh.
        config, per_step = self.config, self.config.num_prompts
        batch, found = self._explored(made, self.demo_mixer.pool)
        sums = rollout_metrics(made) | found | sums
        if steps * config.num_iterations > 1:
            batch = replace(batch, old_logps=self.score_old(batch))
        if self.score_reference is not None and self.advantage_estimator.choice.penalty != "k1":
            batch = replace(batch, ref_logps=self.score_reference(batch))
        imitate = None if made.imitate is None else self._imitated(made.imitate)
        success = [sum(sample.correct for sample in group) / max(len(group), 1) for group in made.rollouts]
        parts = []
        for i in range(steps):
            first, last = i * per_step, (i + 1) * per_step
            rows = None if imitate is None else imitate.rows(*_span(made.imitate or [], first, last))
            explored = batch.rows(*_span(made.explore, first, last))
            paid = {} if verdicts is None else paid_by_verdict(made.rollouts[first:last], verdicts[first:last])
            parts.append(Experience(explored, False, {}, rows, tuple(success[first:last]), paid))
        parts *= config.num_iterations
        return [replace(part, fresh=i == 0, sums=sums if i == 0 else {}) for i, part in enumerate(parts)]

    def _explored(self, made: Generation, pool: str) -> tuple[Batch, MetricSums]:
        """Rows of the RL loss with their advantages, and metric sums."""
        # Weights of samples multiply advantages only after the groups were compared: the baseline sees plain rewards.
        samples = [sample for group in made.explore for sample in group]
        batch = with_engine_logps(self._padded(samples), samples)
        others = torch.tensor([not sample.is_rollout for sample in samples], dtype=torch.bool)
        rewards = torch.tensor([sample.reward for sample in samples], dtype=torch.float32)
        if self.config.mask_truncated_completions:
            kept = torch.tensor([sample.finished for sample in samples])
            batch = replace(batch, completion_mask=batch.completion_mask * kept[:, None])
        batch, sums = self.advantage_estimator.assign(
            batch, rewards, Groups(tuple(map(len, made.explore)), others, pool)
        )
        assert batch.advantages is not None
        weights = torch.tensor([sample.weight for sample in samples])
        if (weights != 1.0).any():
            columns = weights if batch.advantages.dim() == 1 else weights[:, None]
            batch = replace(batch, advantages=batch.advantages * columns)
        return replace(batch, rewards=rewards), sums

    def _imitated(self, groups: Sequence[Sequence[Sample]]) -> Batch:
        samples = [sample for group in groups for sample in group]
        batch = replace(self._padded(samples), demo=None, weights=torch.tensor([sample.weight for sample in samples]))
        if not any(sample.teacher_ids for sample in samples):
            return batch
        assert self.score_taught is not None, "a demo mixer that lets the policy teach itself"
        informed = self._padded([replace(sample, prompt_ids=sample.teacher_ids) for sample in samples])
        logps, entropy = self.score_taught(replace(informed, demo=None))
        return replace(batch, teacher_logps=logps, teacher_entropy=entropy)

    def _padded(self, samples: Sequence[Sample]) -> Batch:
        batch = pad_batch(
            [sample.prompt_ids for sample in samples],
            [sample.completion_ids for sample in samples],
            self._pad_id,
            [sample.mask for sample in samples],
        )
        if self.backend.pictures is not None:
            batch = replace(batch, pixel_values=self.backend.pictures.pixels([sample.picture for sample in samples]))
        prefix_lens = torch.tensor([sample.prefix_len for sample in samples])
        if not prefix_lens.any():  # so too when there are no samples
            return batch
        columns = torch.arange(batch.completion_mask.shape[1])
        return replace(batch, demo=(columns < prefix_lens[:, None]).float())

    @property
    def _pad_id(self) -> int:
        return int(self.backend.tokenizer.pad_token_id)

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors ([B, ...] as in `Batch`) and JSON of the steps still in the window, the buffer and the generator."""
        tensors = {"generator": self.generator.get_state()}
        for i, experience in enumerate(self.window):
            tensors |= {f"{i}.{name}": value for name, value in _tensors(experience.batch).items()}
            if experience.imitate is not None:
                tensors |= {f"{i}.imitate.{name}": value for name, value in _tensors(experience.imitate).items()}
        window = [
            {
                "fresh": part.fresh,
                "sums": {name: list(value) for name, value in part.sums.items()},
                "success": list(part.success),
                "paid": {verdict: list(counts) for verdict, counts in part.paid.items()},
            }
            for part in self.window
        ]
        state: dict[str, Any] = {"window": window, "buffer": list(self.buffer)}
        if self.flight is not None and self.ahead is not None:
            state["flight"] = self.flight.state_dict(self.ahead)
        return tensors, state

    def load_state_dict(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Continue inside a window, bit for bit; tensors are [B, ...] as in `Batch`."""
        self.generator.set_state(tensors["generator"].clone())
        self.buffer = list(state["buffer"])
        self.flight = None
        if state.get("flight") is not None and self.ahead is not None:
            self.flight = Flight.restored(self.ahead, self.config, self.generator, state["flight"])
        self.window = []
        for i, entry in enumerate(state["window"]):
            prefix = f"{i}."
            parts = {k.removeprefix(prefix): v.clone() for k, v in tensors.items() if k.startswith(prefix)}
            rows = {k.removeprefix("imitate."): v for k, v in parts.items() if k.startswith("imitate.")}
            batch = Batch(**{k: v for k, v in parts.items() if not k.startswith("imitate.")})
            sums = {name: (total, count) for name, (total, count) in entry["sums"].items()}
            imitate = Batch(**rows) if rows else None
            paid = {verdict: (rollouts, found) for verdict, (rollouts, found) in entry["paid"].items()}
            self.window.append(Experience(batch, entry["fresh"], sums, imitate, tuple(entry["success"]), paid))


def _span(groups: Sequence[Sequence[Sample]], first: int, last: int) -> tuple[int, int]:
    """Rows of the groups `first:last`."""
    start = sum(map(len, groups[:first]))
    return start, start + sum(map(len, groups[first:last]))


def _tensors(batch: Batch) -> dict[str, Tensor]:
    """[B, ...] by field."""
    return {name: value for name, value in vars(batch).items() if value is not None}
