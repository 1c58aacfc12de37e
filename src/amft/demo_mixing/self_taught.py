"""The policy as its own teacher: its rollouts are scored again by itself, once it has seen a solution.

What is imitated are the policy's own rollouts, with `token_weight: towards-teacher`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ..errors import ConfigError
from ..types import Sample
from .base import SamplingContext
from .generation import Generation
from .instead import plain

TEMPLATE = "{prompt}\n\nThis is a correct solution:\n\n{solution}\n\nSolve the question above once more.\n"
"""How the teacher sees a solution."""


def require_template(template: object) -> None:
    """Refuse a template that does not hold each of {prompt} and {solution} once.

    Raises:
        ConfigError: names the setting.
    """
    fields = ("{prompt}", "{solution}")
    if not isinstance(template, str) or any(template.count(field) != 1 for field in fields):
        raise ConfigError(f"balance.template must hold {{prompt}} and {{solution}} once each, got {template!r}")


@dataclass(frozen=True)
class PeerTaught:
    """The teacher has seen another right rollout of the same prompt; rollouts without such a one are not imitated.

    SDPO, arXiv 2601.20802.

    Args:
        template: how the teacher sees the solution.
    """

    template: str = TEMPLATE
    imitates: ClassVar[str] = "rows"
    needs_answers: ClassVar[bool] = False
    pool: ClassVar[str] = "all"

    def __post_init__(self) -> None:
        require_template(self.template)

    def mix(self, context: SamplingContext) -> Generation:
        groups = plain(context)
        taught = [
            [
                replace(sample, teacher_ids=context.informed(i, solution, self.template))
                for sample in group
                if (solution := self.solution(context, i, group, sample)) is not None
            ]
            for i, group in enumerate(groups)
        ]
        return context.generation(self.explored(groups, taught), taught)

    def solution(self, context: SamplingContext, i: int, group: Sequence[Sample], sample: Sample) -> str | None:  # noqa: ARG002
        """What the teacher of one rollout has seen; None: it has none."""
        return next((peer.text for peer in group if peer.correct and peer is not sample), None)

    def explored(self, groups: list[list[Sample]], taught: list[list[Sample]]) -> list[list[Sample]]:  # noqa: ARG002
        """The groups of the RL loss."""
        return groups


@dataclass(frozen=True)
class DemonstrationTaught(PeerTaught):
    """The teacher has seen the prompt's own demonstration; no rollout needs to be right (SDFT, arXiv 2601.19897)."""

    needs_answers: ClassVar[bool] = True

    def solution(self, context: SamplingContext, i: int, group: Sequence[Sample], sample: Sample) -> str | None:  # noqa: ARG002
        return next((answer.text for answer in context.answers(i)), None)


@dataclass(frozen=True)
class RoutedPeerTaught(PeerTaught):
    """As `PeerTaught` for wrong rollouts alone, which then have no RL loss; the others are explored (SRPO).

    arXiv 2604.02288: `z_SDPO = (1 - correct) has_teacher` and `z_GRPO = 1 - z_SDPO`; advantages are compared before.
    """

    def solution(self, context: SamplingContext, i: int, group: Sequence[Sample], sample: Sample) -> str | None:
        return None if sample.correct else super().solution(context, i, group, sample)

    def explored(self, groups: list[list[Sample]], taught: list[list[Sample]]) -> list[list[Sample]]:
        for group, lessons in zip(groups, taught, strict=True):
            if lessons:  # there is a right rollout, so every wrong one has a teacher
                group[:] = [sample if sample.correct else replace(sample, weight=0.0) for sample in group]
        return groups
