"""Inner products over lists of tensors, plain or sharded: local sums and one small all-reduce."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial, Replicate

TensorLists: TypeAlias = tuple[Sequence[Tensor], Sequence[Tensor]]


def local(tensor: Tensor) -> Tensor:
    """[*] -> this rank's shard [*], sharing memory; a plain tensor is its own shard. [*] is any shape."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def inner_products(*pairs: TensorLists) -> list[float]:
    """`sum_i <x_i, y_i>` for every pair of lists, the same value on every rank.

    Products are summed in float32 within a tensor (float64 if it is float64) and in float64 over tensors and
    ranks. Sharded tensors cost one all-reduce of `len(pairs)` scalars per device mesh.

    Args:
        pairs: two lists of equally shaped tensors each; `x_i` and `y_i` share their sharding.
    """
    sums: dict[Any, list[list[Tensor]]] = {}
    # Parameter by parameter, so that a tensor of several pairs is still in the cache of a CPU.
    for row in zip_longest(*(zip(xs, ys, strict=True) for xs, ys in pairs)):
        for k, (x, y) in ((k, pair) for k, pair in enumerate(row) if pair is not None):
            sums.setdefault(_layout(x), [[] for _ in pairs])[k].append(_dot(local(x), local(y)))
    totals = [0.0] * len(pairs)
    for layout, columns in sums.items():
        device = next(column[0].device for column in columns if column)
        zero = torch.zeros((), dtype=torch.float64, device=device)
        partial = torch.stack([torch.stack(column).double().sum() if column else zero for column in columns])
        totals = [total + part for total, part in zip(totals, _reduce(partial, layout).tolist())]
    return totals


def _layout(tensor: Tensor) -> Any:
    """[*] -> a key that tensors share when their sums can be reduced together: device, or mesh and placements."""
    if isinstance(tensor, DTensor):
        return tensor.device_mesh, tuple(Partial() if p.is_shard() else Replicate() for p in tensor.placements)
    return tensor.device


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """[*], [*] -> [], in float32 at least."""
    wide = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    return torch.dot(x.reshape(-1).to(wide), y.reshape(-1).to(wide))


def _reduce(partial: Tensor, layout: Any) -> Tensor:
    """[K] sums of this rank -> [K] sums over the ranks of the layout's mesh."""
    if not isinstance(layout, tuple):
        return partial
    mesh, placements = layout
    return DTensor.from_local(partial, mesh, placements, run_check=False).full_tensor()
