"""Weights of whole demonstrations, and of tokens by entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..errors import ConfigError
from .base import TokenInput, Tokens

if TYPE_CHECKING:
    from torch import Tensor


def _positive(name: str, value: object) -> None:
    if not isinstance(value, (int, float)) or not 0.0 < value < 1e12:
        raise ConfigError(f"balance.{name} must be a number above 0, got {value!r}")


@dataclass(frozen=True)
class ImportanceWeight:
    """`clamp(exp(T mean_t(log pi - log pi_ref)), 0, cap)` of each row: iw-SFT, arXiv 2507.12856.

    Args:
        iw_temperature: T.
        cap: largest weight.
    """

    iw_temperature: float = 1.0
    cap: float = 16.0
    reads: ClassVar[frozenset[TokenInput]] = frozenset({TokenInput.REFERENCE})

    def __post_init__(self) -> None:
        _positive("iw_temperature", self.iw_temperature)
        _positive("cap", self.cap)

    def __call__(self, tokens: Tokens) -> Tensor:
        assert tokens.ref_logps is not None
        gap = (tokens.logps - tokens.ref_logps).masked_fill(tokens.mask == 0, 0.0).sum(-1, keepdim=True)
        mean = gap / tokens.mask.sum(-1, keepdim=True).clamp(min=1.0)
        return (self.iw_temperature * mean).clamp(max=80.0).exp().clamp(max=self.cap)


@dataclass(frozen=True)
class LowEntropyRows:
    """`sft_scale exp(-H)` of each row, H its mean token entropy: SRFT's weight of imitation, arXiv 2506.19767.

    Args:
        sft_scale: weight where the policy is certain.
    """

    sft_scale: float = 0.5
    reads: ClassVar[frozenset[TokenInput]] = frozenset({TokenInput.ENTROPY})

    def __post_init__(self) -> None:
        _positive("sft_scale", self.sft_scale)

    def __call__(self, tokens: Tokens) -> Tensor:
        return self.sft_scale * (-tokens.row_entropy()).exp()


@dataclass(frozen=True)
class HighEntropyTokens:
    """1 on the `top` share of each row's tokens with the highest entropy, 0 on the others: MIFO, arXiv 2510.04454.

    At least one token of a row counts, and every token as high as the threshold.

    Args:
        top: share of the row's tokens.
    """

    top: float = 0.2
    reads: ClassVar[frozenset[TokenInput]] = frozenset({TokenInput.ENTROPY})

    def __post_init__(self) -> None:
        if not isinstance(self.top, (int, float)) or not 0.0 < self.top <= 1.0:
            raise ConfigError(f"balance.top must be a number in (0, 1], got {self.top!r}")

    def __call__(self, tokens: Tokens) -> Tensor:
        assert tokens.entropy is not None
        return above(tokens.entropy, tokens.mask, self.top)


def above(entropy: Tensor, mask: Tensor, top: float) -> Tensor:
    """[B, C] 1.0 on the `top` share of each row's marked tokens by entropy, at least one; 0.0 elsewhere."""
    marked = entropy.masked_fill(mask == 0, float("-inf"))
    kept = (top * mask.sum(-1, keepdim=True)).round().clamp(min=1.0).long()
    threshold = marked.sort(-1, descending=True).values.gather(-1, kept - 1)
    return ((marked >= threshold) & (mask > 0)).to(entropy.dtype)
