"""Completions that the demonstration begins and the policy ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import ConfigError
from ..schedules import cosine_decay
from ..types import Sample
from .base import Request, SamplingContext
from .generation import Generation


def require_share(name: str, value: object) -> None:
    """Refuse what is not a number in [0, 1].

    Raises:
        ConfigError: names the setting.
    """
    if not isinstance(value, (int, float)) or not 0.0 <= value <= 1.0:
        raise ConfigError(f"balance.{name} must be a number in [0, 1], got {value!r}")


@dataclass(frozen=True)
class Prefix:
    """`num_generations - 1` plain rollouts, and one that continues the first `floor(l |y*|)` demonstration tokens.

    Prefix-RFT, arXiv 2507.01679. `l` is uniform between a low that falls from `high` to `low` by half a cosine over
    the single stage, and `high`. A prefix never holds the whole demonstration.

    Args:
        high: largest share of the demonstration.
        low: where the lower end arrives at the end of the stage.
    """

    high: float = 0.95
    low: float = 0.0
    imitates: ClassVar[str] = "stream"
    needs_answers: ClassVar[bool] = True
    pool: ClassVar[str] = "prefix"

    def __post_init__(self) -> None:
        require_share("high", self.high)
        require_share("low", self.low)

    def mix(self, context: SamplingContext) -> Generation:
        begun = [self._begun(context, i) for i in range(context.num_prompts)]
        whole = [Request(i) for i, given in enumerate(begun) if not given]
        short = [Request(i) for i, given in enumerate(begun) if given]
        hybrid = [Request(i, prefix=given) for i, given in enumerate(begun) if given]
        found: list[list[Sample]] = [[] for _ in begun]
        for group in (
            *context.sample(whole, context.n),
            *context.sample(short, context.n - 1),
            *context.sample(hybrid, 1),
        ):
            for sample in group:
                found[sample.prompt_index].append(sample)
        return context.generation(found)

    def _begun(self, context: SamplingContext, i: int) -> tuple[int, ...]:
        done, total = context.progress
        low = cosine_decay(done, total, self.high, self.low)
        share = context.random.uniform(min(low, self.high), self.high)
        answers = context.answers(i)
        if not answers:
            return ()
        answer = answers[0].completion_ids
        return answer[: min(int(share * len(answer)), len(answer) - 1)]


@dataclass(frozen=True)
class Staircase:
    """Rollouts in four passes; each starts further into the demonstration as long as too few were correct (TRAPO).

    arXiv 2512.17636: of 8, four plain ones, then two with 25 %, one with 50 % and the demonstration itself, where
    fewer than 2 of 4, 4 of 6 and 7 of 7 were correct so far; other group sizes in proportion. Only the first of the
    two at 25 % carries a loss on its prefix.

    """

    imitates: ClassVar[str] = "stream"
    needs_answers: ClassVar[bool] = True
    pool: ClassVar[str] = "given_one"

    def mix(self, context: SamplingContext) -> Generation:
        n = context.n
        quarter, eighth = max(1, n // 4), max(1, n // 8)
        first = max(1, n - quarter - 2 * eighth)
        groups = context.sample([Request(i) for i in range(context.num_prompts)], first)
        sizes = (min(quarter, n - first), eighth, eighth)
        for size, share, enough in zip(sizes, (0.25, 0.5, 1.0), (2 / 4, 4 / 6, 7 / 7), strict=True):
            room = min(size, n - max(map(len, groups)))
            if room > 0:
                self._climb(context, groups, room, share, enough)
        return context.generation(groups)

    def _climb(
        self, context: SamplingContext, groups: list[list[Sample]], size: int, share: float, enough: float
    ) -> None:
        requests = []
        for i, group in enumerate(groups):
            helped = sum(sample.correct for sample in group) < enough * len(group)
            answers = context.answers(i) if helped else []
            given = answers[0].completion_ids if answers else ()
            if answers and share == 1.0:
                group.append(answers[0])
                requests += [Request(i)] * (size - 1)
                continue
            cut = min(int(share * len(given)), max(len(given) - 1, 0))
            requests.append(Request(i, prefix=given[:cut]))
            # The others of this step stand on the same prefix without learning it, so it is part of their prompt.
            requests += [Request(i, hint=given[:cut])] * (size - 1)
        for found in context.sample(requests, 1):
            groups[found[0].prompt_index] += found
