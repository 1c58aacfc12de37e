"""Weights of whole demonstrations by how likely the policy gives them already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import TokenInput, Tokens

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Unmastered:
    """`1 - pi(y*)` of each row: what the policy answers by itself is imitated no more. For short answers."""

    reads: ClassVar[frozenset[TokenInput]] = frozenset()

    def __call__(self, tokens: Tokens) -> Tensor:
        total = tokens.logps.masked_fill(tokens.mask == 0, 0.0).sum(-1, keepdim=True)
        return 1.0 - total.exp()
