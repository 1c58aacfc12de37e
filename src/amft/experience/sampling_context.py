"""One generation at work: what a demo mixer asks for is sampled and scored here."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..data.encoding import encode_prompt, picture_of, pixels_of
from ..data.prompt_text import informed_prompt
from ..data.rewards import RewardBatch, Scorer
from ..data.streams import RowStream
from ..demo_mixing.base import Request
from ..demo_mixing.generation import Generation
from ..errors import RewardNotFiniteError
from ..models.pictures import Pictures
from ..rollout.base import Sampler
from ..rollout.multi_turn import decode, multi_turn_rollouts
from ..settings.config import AMFTConfig
from ..tasks.base import TriesTask
from ..types import Answer, Row, Sample, Sampling

SUCCESS_ABOVE = 0.5
"""A reward above this is a success where the scorer does not say what is correct."""


@dataclass(frozen=True)
class Prompts:
    """Prompts to explore: rows, their token ids, and the order they are drawn in."""

    rows: Sequence[Row]
    ids: Sequence[Sequence[int]]
    stream: RowStream
    answers: Sequence[Sequence[tuple[int, ...]]] | None = None
    """Completions of each prompt's demonstrations; None when nobody asked for them."""
    verdicts: Sequence[str | None] | None = None
    """On each prompt's own demonstration, None where it has none; None when nobody asked for verdicts."""


@dataclass
class RolloutBackend:
    """What sampling and scoring need, whatever the demo mixer."""

    sampler: Sampler
    scorer: Scorer
    tokenizer: Any
    config: AMFTConfig
    seconds: dict[str, float] = field(default_factory=lambda: {"generate": 0.0, "reward": 0.0})
    """Seconds spent since the clock was started."""
    pictures: Pictures | None = None
    """Of a model that reads them."""

    def start_clock(self) -> dict[str, float]:
        """Set the seconds to 0; they go on counting in what is returned."""
        self.seconds = {"generate": 0.0, "reward": 0.0}
        return self.seconds

    @property
    def task(self) -> Any:
        """What the scorer grades; None for reward functions."""
        return getattr(self.scorer, "task", None)


@dataclass
class LiveSamplingContext:
    """`demo_mixing.base.SamplingContext` over the run's sampler and scorer; remembers what it sampled."""

    backend: RolloutBackend
    prompts: Prompts
    chosen: list[int]
    """Drawn rows of the prompts."""
    generator: torch.Generator
    random: random.Random
    progress: tuple[int, int]
    score_samples: Callable[[Sequence[Sample]], list[float]]
    """Mean log-probability per token under the policy as it is."""
    sampled: list[list[Sample]] = field(default_factory=list)
    """Everything drawn so far, per prompt."""
    knows_correct: bool = False

    def __post_init__(self) -> None:
        self.sampled = [[] for _ in self.chosen]

    @property
    def n(self) -> int:
        return self.backend.config.num_generations

    @property
    def num_prompts(self) -> int:
        return len(self.chosen)

    def sample(self, requests: Sequence[Request], n: int) -> list[list[Sample]]:
        """See `SamplingContext`; a completion that grows beyond `max_completion_length` by what it was given is cut."""
        if not requests or n < 1:
            return [[] for _ in requests]
        started = time.perf_counter()
        talks = isinstance(self.backend.task, TriesTask) and self.backend.task.max_attempts > 1
        samples, answers = self._talked(requests, n) if talks else self._drawn(requests, n)
        self.backend.seconds["generate"] += time.perf_counter() - started
        samples = self._scored(samples, answers)
        for sample in samples:
            self.sampled[sample.prompt_index].append(sample)
        return [samples[i * n : (i + 1) * n] for i in range(len(requests))]

    def _drawn(self, requests: Sequence[Request], n: int) -> tuple[list[Sample], list[Answer]]:
        contexts = [(*self.prompts.ids[self.chosen[r.prompt_index]], *r.hint) for r in requests]
        found = self.backend.sampler.generate(
            [[*context, *r.prefix] for context, r in zip(contexts, requests)],
            sampling_of(self.backend.config, n),
            self.generator,
            *([] if (pixels := self._pixels(requests)) is None else [pixels]),
        )
        samples = []
        for i, drawn in enumerate(found):
            request, context = requests[i // n], contexts[i // n]
            whole = (*request.prefix, *drawn.completion_ids)
            kept = whole[: self.backend.config.max_completion_length]
            finished = drawn.finished and len(kept) == len(whole)
            prefix_len = len(request.prefix)
            logps = drawn.logps[: max(len(kept) - prefix_len, 0)]
            samples.append(
                Sample(
                    context,
                    kept,
                    prompt_index=request.prompt_index,
                    prefix_len=prefix_len,
                    hint=request.hint,
                    finished=finished,
                    logps=logps,
                    picture=self._picture(request.prompt_index),
                )
            )
        return samples, self._texts(samples)

    def _talked(self, requests: Sequence[Request], n: int) -> tuple[list[Sample], list[Answer]]:
        """Whole episodes; what a completion was given begins its first answer."""
        backend = self.backend
        transcripts = multi_turn_rollouts(
            backend.sampler,
            backend.tokenizer,
            backend.task,
            [self.prompts.rows[self.chosen[r.prompt_index]] for r in requests],
            [(*self.prompts.ids[self.chosen[r.prompt_index]], *r.hint) for r in requests],
            [r.prefix for r in requests],
            sampling=sampling_of(self.backend.config, n),
            generator=self.generator,
            pixels=self._pixels(requests),
        )
        samples = [
            Sample(
                talk.prompt_ids,
                tuple(talk.ids),
                prompt_index=requests[i // n].prompt_index,
                prefix_len=len(requests[i // n].prefix),
                hint=requests[i // n].hint,
                finished=talk.finished,
                text=talk.text,
                mask=tuple(talk.mask),
                logps=tuple(talk.logps) if any(logp == logp for logp in talk.logps) else (),
                picture=self._picture(requests[i // n].prompt_index),
            )
            for i, talk in enumerate(transcripts)
        ]
        return samples, [talk.answers for talk in transcripts]

    def _picture(self, prompt_index: int) -> Any:
        return picture_of(self.prompts.rows[self.chosen[prompt_index]]["prompt"])

    def _pixels(self, requests: Sequence[Request]) -> Tensor | None:
        """[R, 3, H, W] pictures of the requests' prompts; None for prompts of text."""
        return pixels_of(
            [self.prompts.rows[self.chosen[r.prompt_index]]["prompt"] for r in requests], self.backend.pictures
        )

    def answers(self, prompt_index: int) -> list[Sample]:
        """See `SamplingContext`."""
        index = self.chosen[prompt_index]
        found = self.prompts.answers[index] if self.prompts.answers is not None else []
        prompt = tuple(self.prompts.ids[index])
        picture = self._picture(prompt_index)
        samples = [
            Sample(prompt, answer, prompt_index=prompt_index, prefix_len=len(answer), picture=picture)
            for answer in found
        ]
        return self._scored(samples, self._texts(samples))

    def informed(self, prompt_index: int, solution: str, template: str) -> tuple[int, ...]:
        """See `SamplingContext`; of a conversation, the last message is rewritten."""
        backend, row = self.backend, self.prompts.rows[self.chosen[prompt_index]]
        prompt = informed_prompt(row["prompt"], solution, template)
        trusted = backend.config.trust_special_tokens
        return tuple(encode_prompt(backend.tokenizer, prompt, backend.pictures, trusted=trusted))

    def likelihood(self, samples: Sequence[Sample]) -> list[float]:
        """See `SamplingContext`."""
        return self.score_samples(samples) if samples else []

    def _texts(self, samples: Sequence[Sample]) -> list[Answer]:
        return [*decode(self.backend.tokenizer, [sample.hint + sample.completion_ids for sample in samples])]

    def _scored(self, samples: list[Sample], answers: Sequence[Answer]) -> list[Sample]:
        if not samples:
            return []
        started = time.perf_counter()
        rows = [self.prompts.rows[self.chosen[sample.prompt_index]] for sample in samples]
        scores = self.backend.scorer.score(rows, answers, [sample.completion_ids for sample in samples])
        self.backend.seconds["reward"] += time.perf_counter() - started
        _check_finite(rows, answers, scores)
        self.knows_correct = scores.correct is not None
        return [
            _marked(sample, answer, scores, i) for i, (sample, answer) in enumerate(zip(samples, answers, strict=True))
        ]

    def generation(
        self, explore: list[list[Sample]], imitate: list[list[Sample]] | None = None, hard: Collection[int] = ()
    ) -> Generation:
        """See `SamplingContext`."""
        waits = [prompt_index in hard for prompt_index in range(self.num_prompts)]
        return Generation(self.chosen, explore, imitate, self.sampled, waits, knows_correct=self.knows_correct)


def sampling_of(config: AMFTConfig, n: int) -> Sampling:
    """How rollouts are drawn, `n` a prompt."""
    return Sampling(
        n,
        config.max_completion_length,
        config.temperature,
        config.top_p,
        config.top_k,
        config.max_transcript_length,
    )


def _check_finite(rows: Sequence[Row], answers: Sequence[Answer], scores: RewardBatch) -> None:
    bad = next((i for i, reward in enumerate(scores.rewards) if math.isinf(reward)), None)
    if bad is None:
        return
    names = [name for name, values in scores.parts.items() if math.isinf(values[bad])]
    raise RewardNotFiniteError(
        f"{' and '.join(names) or 'the weighted sum of rewards'} gave completion {bad + 1} a reward that is NaN, "
        "infinite or too large",
        {
            "completion": bad + 1,
            "prompts": [str(row["prompt"]) for row in rows],
            "texts": list(answers),
            "rewards": scores.rewards,
            "parts": scores.parts,
        },
    )


def _marked(sample: Sample, answer: Answer, scores: RewardBatch, i: int) -> Sample:
    reward = scores.rewards[i]
    return replace(
        sample,
        text=answer if isinstance(answer, str) else sample.text,
        reward=reward,
        correct=scores.correct[i] if scores.correct is not None else reward > SUCCESS_ABOVE,
        outcome=scores.outcomes[i] if scores.outcomes is not None else None,
        reward_parts={name: values[i] for name, values in scores.parts.items()},
        metrics={} if scores.metrics is None else scores.metrics[i],
    )
