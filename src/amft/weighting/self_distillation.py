"""Weights that make imitation of the policy's own rollouts a distillation from itself, with a solution in view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..errors import ConfigError
from .base import TokenInput, Tokens

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TowardsTeacher:
    """`log pi(y_t | solution seen) - log pi(y_t)`: the gradient of KL(pi || sg pi(. | solution)) on drawn tokens.

    `L = mean sg(log pi - log pi_T) log pi`, SDPO (arXiv 2601.20802) and SDFT (arXiv 2601.19897), as TRL 1.16 has it
    for `distillation_mode: sampled_token`.
    """

    reads: ClassVar[frozenset[TokenInput]] = frozenset({TokenInput.TEACHER})

    def __call__(self, tokens: Tokens) -> Tensor:
        if tokens.teacher_logps is None:
            raise ConfigError(
                "balance.token_weight: there is no teacher; set balance.demo_mixer to peer-taught, "
                "demonstration-taught or routed-peer-taught"
            )
        return tokens.teacher_logps - tokens.logps


@dataclass(frozen=True)
class ConfidentTeacher(TowardsTeacher):
    """The same times `exp(-sharpness H_T)`, H_T the teacher's token entropy, scaled to a row mean of 1 (SRPO).

    arXiv 2604.02288: targets of high entropy are unreliable.

    Args:
        sharpness: 1 per nat; 0 weighs all tokens alike.
    """

    sharpness: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.sharpness, (int, float)) or not 0.0 <= self.sharpness < 1e3:
            raise ConfigError(f"balance.sharpness must be a number from 0 on, got {self.sharpness!r}")

    def __call__(self, tokens: Tokens) -> Tensor:
        gap = super().__call__(tokens)
        assert tokens.teacher_entropy is not None
        sure = (-self.sharpness * tokens.teacher_entropy).exp() * tokens.mask
        mean = sure.sum(-1, keepdim=True) / tokens.mask.sum(-1, keepdim=True).clamp(min=1.0)
        return gap * sure / mean.clamp(min=1e-12)
