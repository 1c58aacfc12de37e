"""Every prompt is explored and imitated, by coefficients from a table: HPT's `soft`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ..errors import ConfigError
from ..types import Sample
from .base import Request, SamplingContext
from .generation import Generation
from .instead import successes

Table = tuple[float, ...]

EXPLORE: Table = (0.0, 0.125, 0.25, 0.5, 1.0, 1.0, 1.0, 1.0)
OFF_POLICY: Table = (0.0, 0.5, 1.0, 0.5, 0.25, 0.125, 0.0, 0.0)
IMITATE: Table = (1.0, 0.5, 0.25, 0.125, 0.0, 0.0, 0.0, 0.0)
"""The tables of the published code (`soft_type` 0), by right rollouts of seven; the eighth row is the demonstration."""


@dataclass(frozen=True)
class SoftSwitch:
    """Rollouts, their demonstration as a row, and its imitation, each weighted by the share of right rollouts.

    HPT's `soft`, arXiv 2509.04419. The group is `num_generations - 1` rollouts and the demonstration, whose advantage
    is taken against the rollouts alone. Each table is read at the share of right rollouts, straight between entries.
    A prompt without a demonstration is explored with weight 1; its last row, and that of every prompt when
    `off_policy_row` is 0 everywhere, is one more rollout.

    Args:
        explore: weights of the rollouts, at evenly spaced shares from 0 to 1.
        off_policy_row: weights of the demonstration in the RL loss; 0 everywhere leaves it out.
        imitate: weights of the demonstration's likelihood.
    """

    explore: Table = EXPLORE
    off_policy_row: Table = OFF_POLICY
    imitate: Table = IMITATE
    imitates: ClassVar[str] = "rows"
    needs_answers: ClassVar[bool] = True
    pool: ClassVar[str] = "on_policy"

    def __post_init__(self) -> None:
        for name in ("explore", "off_policy_row", "imitate"):
            given = getattr(self, name)
            table = tuple(given) if isinstance(given, (list, tuple)) else ()
            if len(table) < 2 or not all(isinstance(c, (int, float)) and 0.0 <= c <= 1.0 for c in table):
                raise ConfigError(f"balance.{name} must be two or more numbers in [0, 1], got {given!r}")
            object.__setattr__(self, name, table)

    def mix(self, context: SamplingContext) -> Generation:
        answers = [context.answers(i)[:1] for i in range(context.num_prompts)]
        rows = [found if any(self.off_policy_row) else [] for found in answers]
        full = [Request(i) for i, row in enumerate(rows) if not row]
        short = [Request(i) for i, row in enumerate(rows) if row]
        drawn = context.sample(full, context.n) + context.sample(short, context.n - 1)
        groups = {group[0].prompt_index: group for group in drawn}
        explore, imitate = [], []
        for i, found in enumerate(answers):
            share = successes(groups[i]) / len(groups[i])
            explore.append(weighted(groups[i], read(self.explore, share) if found else 1.0))
            explore[i] += weighted(rows[i], read(self.off_policy_row, share))
            imitate.append(weighted(found, read(self.imitate, share)))
        return context.generation(explore, imitate)


def weighted(samples: list[Sample], weight: float) -> list[Sample]:
    """The same samples, their losses weighted."""
    return [replace(sample, weight=weight) for sample in samples]


def read(table: Table, share: float) -> float:
    """The table's value at a share in [0, 1], straight between its evenly spaced entries."""
    at = share * (len(table) - 1)
    low = min(int(at), len(table) - 2)
    return table[low] + (at - low) * (table[low + 1] - table[low])
