"""A prompt that all rollouts failed is explored again with the beginning of a solution in view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import ConfigError
from .base import Request, SamplingContext
from .generation import Generation
from .instead import plain, successes


@dataclass(frozen=True)
class Privileged:
    """Where no rollout is right, the group is drawn anew behind the shortest prefix that lets one be right (POPE).

    arXiv 2601.18779: the prefix guides exploration and is no target, so it carries no loss. A group without a right
    rollout has no advantage, so nothing is lost with it; groups that are right without help stay as they are, and
    the guided ones are compared among themselves. Where no prefix helps, the plain group stays.

    Args:
        prefixes: shares of the demonstration, tried one after the other; its last token is never shown.
    """

    prefixes: tuple[float, ...] = (0.25, 0.5, 0.75)
    imitates: ClassVar[str] = "stream"
    needs_answers: ClassVar[bool] = True
    pool: ClassVar[str] = "all"

    def __post_init__(self) -> None:
        given = tuple(self.prefixes) if isinstance(self.prefixes, (list, tuple)) else ()
        if not given or not all(isinstance(share, (int, float)) and 0.0 < share <= 1.0 for share in given):
            raise ConfigError(f"balance.prefixes must be one or more numbers in (0, 1], got {self.prefixes!r}")
        object.__setattr__(self, "prefixes", given)

    def mix(self, context: SamplingContext) -> Generation:
        groups = plain(context)
        for share in self.prefixes:
            requests = []
            for i, group in enumerate(groups):
                answers = [] if successes(group) else context.answers(i)
                hint = answers[0].completion_ids[: int(share * (len(answers[0].completion_ids) - 1))] if answers else ()
                requests += [Request(i, hint=hint)] if hint else []
            for found in context.sample(requests, context.n):
                if successes(found):
                    groups[found[0].prompt_index] = found
        return context.generation(groups)
