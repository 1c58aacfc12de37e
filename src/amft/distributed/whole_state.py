"""A model's tensors whole, on rank 0 alone: gathered from a layout, or handed out to one."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from ..meta.inplace import placed_like
from .ranks import Ranks


def full(tensor: Tensor) -> Tensor:
    """The whole tensor on every rank; a plain one is its own whole. A collective when sharded."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def full_state(model: nn.Module, ranks: Ranks, names: Container[str] | None = None) -> dict[str, Tensor]:
    """Whole parameters and buffers by name on the CPU of rank 0, one at a time; nothing on the others.

    Args:
        model: however it is laid out.
        ranks: all take part.
        names: only these; None is all.
    """
    # Not torch's `get_model_state_dict`: it makes two tensors of tied ones, and gathers on the first process of all.
    wholes: dict[Tensor, Tensor] = {}
    state: dict[str, Tensor] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if names is not None and name not in names:
            continue
        if value not in wholes:  # tied weights stay one tensor
            whole = full(value.detach())
            wholes[value] = whole.cpu() if ranks.is_main else whole.new_empty(0)
        state[name] = wholes[value]
    return state if ranks.is_main else {}


@torch.no_grad()
def load_full_state(model: nn.Module, state: dict[str, Tensor], ranks: Ranks) -> None:
    """Copy whole tensors of rank 0 into a model on all ranks, one at a time; of a sharded one each gets its part.

    Args:
        model: however it is laid out.
        state: [*] by name, on rank 0; emptied on the way. That of the others is not read.
        ranks: all take part.
    """
    own = model.state_dict(keep_vars=True)
    # Not torch's `set_model_state_dict`: it sends every tensor whole to every rank, and to all that were started.
    for name in ranks.from_main(lambda: list(state)):
        target = own[name]
        whole = state.pop(name).to(target.dtype) if ranks.is_main else torch.empty(target.shape, dtype=target.dtype)
        if isinstance(target, DTensor):
            target.copy_(cast(Tensor, placed_like(target, whole)))
        else:
            target.copy_(whole)
            send_from_main(target, ranks)


def send_from_main(tensor: Tensor, ranks: Ranks) -> None:
    """Overwrite a plain tensor [*] by that of rank 0. A collective."""
    if ranks.size > 1:
        main = dist.get_global_rank(cast("dist.ProcessGroup", ranks.group), 0)
        dist.broadcast(tensor.detach(), src=main, group=ranks.group)


def load_on_main(
    ranks: Ranks, load: Callable[[], PreTrainedModel], outline: Callable[[], PreTrainedModel]
) -> tuple[PreTrainedModel, bool]:
    """A model whose weights only rank 0 reads; on the others it lies on the `meta` device. And whether the two agree.

    They do not where the weight files hold another model than the config describes, such as a quantized one.

    Args:
        ranks: all take part.
        load: the model with its weights.
        outline: the same model without.

    Raises:
        ModelError: it cannot be loaded.
        RankError: the same on the other ranks.
    """
    loaded: list[PreTrainedModel] = []

    def read() -> bool:
        loaded.append(load())
        return _shapes(loaded[0]) == _shapes(outline())

    agrees = ranks.from_main(read)
    return (loaded[0] if ranks.is_main else outline()), agrees


def _shapes(model: nn.Module) -> dict[str, tuple[torch.dtype, torch.Size]]:
    """Type and shape of every parameter and table, also of those that are tied."""
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: (tensor.dtype, tensor.shape) for name, tensor in named}
