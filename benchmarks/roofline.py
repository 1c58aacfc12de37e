"""The matrix products of a piece of work, written down while it runs, and the time they take alone."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = {torch.ops.aten.mm.default: "mm", torch.ops.aten.addmm.default: "addmm", torch.ops.aten.bmm.default: "bmm"}
SECONDS_EACH = 0.15
"""How long one size is repeated for."""


class Products(TorchDispatchMode):
    """Counts the matrix products inside: kind, and sizes, strides and type of both operands."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[tuple[Any, ...]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in PRODUCTS:
            left, right = args[-2:]
            self.seen[(left.shape, left.stride(), right.shape, right.stride(), left.dtype)] += 1
        return func(*args, **(kwargs or {}))

    @property
    def operations(self) -> float:
        """Multiplications and additions."""
        return float(sum(2 * left.numel() * right[-1] * times for (left, _, right, _, _), times in self.seen.items()))

    def alone(self) -> float:
        """CPU seconds of the same products, one after the other, on random numbers."""
        return sum(times * _seconds(*sizes) for sizes, times in self.seen.items())


@torch.no_grad()
def _seconds(left: Any, left_stride: Any, right: Any, right_stride: Any, dtype: torch.dtype) -> float:
    """Of one product: the mean of as many as fit into SECONDS_EACH, after a first one."""
    draws = torch.Generator().manual_seed(0)
    one, other = (
        torch.empty_strided(shape, stride, dtype=dtype).copy_(torch.randn(shape, generator=draws))
        for shape, stride in ((left, left_stride), (right, right_stride))
    )
    product = torch.mm if len(left) == 2 else torch.bmm
    out = product(one, other)
    started, times = time.process_time(), 0
    while (spent := time.process_time() - started) < SECONDS_EACH or times < 3:
        product(one, other, out=out)
        times += 1
    return spent / times
