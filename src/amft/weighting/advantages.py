"""Advantages of the RL loss seen again, now that the policy's own scores are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..errors import ConfigError
from .base import TokenInput, Tokens
from .sequences import above

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Signed:
    """Rollouts: `rl_scale exp(H)` where right, -1 where wrong, H the row's mean entropy. Demonstrations keep theirs.

    SRFT, arXiv 2506.19767: `w_R E[-log p | right] + E[log p | wrong]`; times the ratio of this step, which is 1. A
    row whose scorer abstained counts 0.

    Args:
        rl_scale: advantage of a right row where the policy is certain.
        right: reward above which a row is right.
    """

    rl_scale: float = 0.1
    right: float = 0.5
    reads: ClassVar[frozenset[TokenInput]] = frozenset({TokenInput.ENTROPY})

    def __post_init__(self) -> None:
        if not isinstance(self.rl_scale, (int, float)) or not 0.0 <= self.rl_scale < 1e6:
            raise ConfigError(f"balance.rl_scale must be a number from 0 on, got {self.rl_scale!r}")
        if not isinstance(self.right, (int, float)):
            raise ConfigError(f"balance.right must be a number, got {self.right!r}")

    def __call__(self, tokens: Tokens) -> Tensor:
        assert tokens.rewards is not None
        assert tokens.advantages is not None
        rewards = tokens.rewards[:, None]
        good = self.rl_scale * tokens.row_entropy().exp()
        own = good.where(rewards > self.right, good * 0.0 - 1.0).masked_fill(rewards.isnan(), 0.0)
        if tokens.demo is None:
            return own
        kept = tokens.advantages if tokens.advantages.dim() == 2 else tokens.advantages[:, None]
        return kept.expand(tokens.demo.shape).where(tokens.demo > 0, own.expand(tokens.demo.shape))


@dataclass(frozen=True)
class UncertainPrefix:
    """Demonstration tokens outside the `prefix_top` share of highest entropy have advantage 0: Prefix-RFT.

    arXiv 2507.01679; the share is that of each row.

    Args:
        prefix_top: share of the demonstration tokens that learn.
    """

    prefix_top: float = 0.2
    reads: ClassVar[frozenset[TokenInput]] = frozenset({TokenInput.ENTROPY})

    def __post_init__(self) -> None:
        if not isinstance(self.prefix_top, (int, float)) or not 0.0 < self.prefix_top <= 1.0:
            raise ConfigError(f"balance.prefix_top must be a number in (0, 1], got {self.prefix_top!r}")

    def __call__(self, tokens: Tokens) -> Tensor:
        assert tokens.advantages is not None
        if tokens.demo is None:
            return tokens.advantages
        assert tokens.entropy is not None
        given = tokens.demo * tokens.mask
        columns = tokens.advantages if tokens.advantages.dim() == 2 else tokens.advantages[:, None]
        return columns * (1.0 - given + above(tokens.entropy, given, self.prefix_top))
