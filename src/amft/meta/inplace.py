"""In-place arithmetic on gradients, plain or sharded: no third buffer."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from .inner import local


def mix_in_place(sft: list[Tensor], rl: list[Tensor], w_sft: float, w_rl: float) -> tuple[list[Tensor], list[Tensor]]:
    """`(w_sft sft + w_rl rl, sft - rl)` in the storage of the two lists, each exact where one weight is 0.

    The heavier branch is kept and a multiple of the difference added: a huge gradient of weight 0 leaves no rounding.

    Args:
        sft, rl: gradients of the two branches, one [*] tensor per parameter; both lists are overwritten.
        w_sft, w_rl: weights of the branches.
    """
    a, b = [local(t) for t in sft], [local(t) for t in rl]
    if abs(w_sft) > abs(w_rl):
        torch._foreach_neg_(b)
        torch._foreach_add_(b, a)
        mix, delta, kept, moved, along = sft, rl, a, b, -w_rl
    else:
        torch._foreach_sub_(a, b)
        mix, delta, kept, moved, along = rl, sft, b, a, w_sft
    if w_sft + w_rl != 1.0:
        torch._foreach_mul_(kept, w_sft + w_rl)
    if along:
        torch._foreach_add_(kept, moved, alpha=along)
    return mix, delta


def or_zeros(tensor: Tensor | None, other: Tensor | None) -> Tensor:
    """[*] or None -> the tensor, or zeros like the other one [*]."""
    return torch.zeros_like(cast(Tensor, other)) if tensor is None else tensor


def added_in_place(tensor: Tensor, other: Tensor, factor: float) -> Tensor:
    """`tensor + factor * other` in the storage of `tensor`; both [*]."""
    local(tensor).add_(local(other), alpha=factor)
    return tensor


def placed_like(param: Tensor, value: Tensor | None) -> Tensor | None:
    """A copy of the value [*] on the device of the parameter [*], sharded as the parameter is."""
    if value is None:
        return None
    if isinstance(param, DTensor) and not isinstance(value, DTensor):
        return distribute_tensor(value, param.device_mesh, param.placements).to(param.device)
    return value.to(device=param.device).clone()
