"""Weights of demonstration tokens by the policy's own probability of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import TokenInput, Tokens

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Phi:
    """`phi = p (1 - p)`: little for tokens that are known or hopeless; CHORD-phi, arXiv 2508.11408."""

    reads: ClassVar[frozenset[TokenInput]] = frozenset()

    def __call__(self, tokens: Tokens) -> Tensor:
        p = tokens.logps.exp()
        return p * (1.0 - p)


@dataclass(frozen=True)
class Dft:
    """`p`: undoes the 1/p in the gradient of the cross-entropy; DFT, arXiv 2508.05629."""

    reads: ClassVar[frozenset[TokenInput]] = frozenset()

    def __call__(self, tokens: Tokens) -> Tensor:
        return tokens.logps.exp()
