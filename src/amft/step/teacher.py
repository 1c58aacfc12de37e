"""The low-rank teacher of BRIDGE (arXiv 2509.06948): one product of two thin matrices for every hidden matrix."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LowRankTeacher(nn.Module):
    """`w = up down`, shape for shape as the given matrices; it begins at zero.

    A policy that is taught holds `theta + w` in its own weights, so exports, rollouts and the prefix tree see one
    plain model; after a step of the teacher, `ShadowedOptimizer` adds the change of the products to them.

    Args:
        matrices: those of the policy, [out, in] each.
        rank: r; smaller where a matrix is.
        generator: draws `down`, N(0, 1 / in).
    """

    def __init__(self, matrices: Sequence[Tensor], rank: int, generator: torch.Generator):
        super().__init__()
        self.up, self.down = nn.ParameterList(), nn.ParameterList()
        for matrix in matrices:
            rows, columns = matrix.shape
            r = min(rank, rows, columns)
            drawn = torch.randn(r, columns, generator=generator, dtype=torch.float64) / columns**0.5
            self.up.append(nn.Parameter(matrix.new_zeros(rows, r)))
            self.down.append(nn.Parameter(drawn.to(matrix)))

    @torch.no_grad()
    def products(self) -> list[Tensor]:
        """[out, in] of every matrix."""
        return [up @ down for up, down in zip(self.up, self.down, strict=True)]

    @torch.no_grad()
    def take(self, slopes: Sequence[Tensor]) -> None:
        """Set the factors' gradients. Args: slopes: dL/dw, [out, in] each."""
        for up, down, slope in zip(self.up, self.down, slopes, strict=True):
            up.grad = slope @ down.T
            down.grad = up.T @ slope
