"""Failed prompts are kept, to be imitated once enough of them have gathered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import SamplingContext
from .checks import require_whole
from .generation import Generation
from .instead import plain, successes


@dataclass(frozen=True)
class Hard:
    """Plain groups; the demonstrations of prompts with at most `gate` correct rollouts go to the buffer (ReLIFT, MIFO).

    Args:
        gate: correct rollouts up to which a prompt counts as hard.
    """

    gate: int = 0
    imitates: ClassVar[str] = "buffer"
    needs_answers: ClassVar[bool] = True
    pool: ClassVar[str] = "all"

    def __post_init__(self) -> None:
        require_whole("gate", self.gate, 0)

    def mix(self, context: SamplingContext) -> Generation:
        groups = plain(context)
        failed = [i for i, group in enumerate(groups) if successes(group) <= self.gate]
        return context.generation(groups, hard=[i for i in failed if context.answers(i)])
