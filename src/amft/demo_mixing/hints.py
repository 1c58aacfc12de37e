"""Demonstrations as hints in the prompt: they help the rollout and carry no RL loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..schedules import cosine_decay
from ..types import Sample
from .base import Request, SamplingContext
from .checks import require_whole
from .generation import Generation
from .prefix import require_share


@dataclass(frozen=True)
class Hinted:
    """All rollouts of a prompt see the first k of `segments` parts of its demonstration, and those parts are imitated.

    UFT, arXiv 2505.16984: `k ~ Binomial(segments, p)`, p falling from `start` to `stop` by half a cosine over the
    first `share` of the single stage; then no hints. The demonstration is cut into parts of equal length, and its
    last token never is a hint.

    Args:
        segments: parts of a demonstration.
        start, stop: probability of each part, at the start and at the end.
        share: of the single stage that has hints.
    """

    segments: int = 5
    start: float = 0.95
    stop: float = 0.05
    share: float = 0.6
    imitates: ClassVar[str] = "rows"
    needs_answers: ClassVar[bool] = True
    pool: ClassVar[str] = "all"

    def __post_init__(self) -> None:
        require_whole("segments", self.segments, 1)
        for name in ("start", "stop", "share"):
            require_share(name, getattr(self, name))

    def mix(self, context: SamplingContext) -> Generation:
        hints = [self._hint(context, i) for i in range(context.num_prompts)]
        groups = context.sample([Request(i, hint=hint) for i, hint in enumerate(hints)], context.n)
        shown = []
        for i, hint in enumerate(hints):
            samples = context.answers(i)[:1] if hint else []
            shown.append(
                [
                    Sample(sample.prompt_ids, hint, prompt_index=i, prefix_len=len(hint), picture=sample.picture)
                    for sample in samples
                ]
            )
        return context.generation(groups, shown)

    def _hint(self, context: SamplingContext, i: int) -> tuple[int, ...]:
        done, total = context.progress
        p = cosine_decay(done, self.share * total, self.start, self.stop)
        k = sum(context.random.random() < p for _ in range(self.segments))
        answers = context.answers(i) if k and done < self.share * total else []
        if not answers:
            return ()
        answer = answers[0].completion_ids
        return answer[: min(k * len(answer) // self.segments, len(answer) - 1)]


@dataclass(frozen=True)
class Guided:
    """The last rows of each group see the beginning of the demonstration in their prompt, the others do not.

    After TAPO / TemplateRL (arXiv 2505.15692), which puts thought patterns there that it retrieves from a library; no
    code was found, and here the pattern is the demonstration's own beginning.

    Args:
        guided: share of the group's rows with a hint.
        length: share of the demonstration that is the hint.
    """

    guided: float = 0.5
    length: float = 0.3
    imitates: ClassVar[str] = "stream"
    needs_answers: ClassVar[bool] = True
    pool: ClassVar[str] = "all"

    def __post_init__(self) -> None:
        require_share("guided", self.guided)
        require_share("length", self.length)

    def mix(self, context: SamplingContext) -> Generation:
        helped = int(self.guided * context.n)
        hints = [self._hint(context, i) for i in range(context.num_prompts)]
        whole = [Request(i) for i, hint in enumerate(hints) if not hint]
        plain = [Request(i) for i, hint in enumerate(hints) if hint]
        hinted = [Request(i, hint=hint) for i, hint in enumerate(hints) if hint]
        groups: list[list[Sample]] = [[] for _ in hints]
        for group in (
            *context.sample(whole, context.n),
            *context.sample(plain, context.n - helped),
            *context.sample(hinted, helped),
        ):
            for sample in group:
                groups[sample.prompt_index].append(sample)
        return context.generation(groups)

    def _hint(self, context: SamplingContext, i: int) -> tuple[int, ...]:
        answers = context.answers(i) if self.guided else []
        answer = answers[0].completion_ids if answers else ()
        return answer[: min(int(self.length * len(answer)), max(len(answer) - 1, 0))]
