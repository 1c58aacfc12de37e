"""Who writes a checkpoint: the training thread, which waits for the disk, or a thread that works on a copy."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..distributed.ranks import Ranks
from ..settings.config import AMFTConfig
from ..tensors import TensorGroups


@dataclass(frozen=True)
class Contents:
    """What one checkpoint is made of."""

    directory: Path
    groups: TensorGroups
    """Whole or in shards; every rank has its part."""
    weights: dict[str, Tensor]
    """Of the model to export: [*] on rank 0, none elsewhere."""
    state: dict[str, Any]
    """JSON."""
    protect: list[Path]
    """Other checkpoints that stay."""


class CheckpointWriter(Protocol):
    """Takes checkpoints one after the other; all ranks call alike, but for `close`."""

    def frozen(self, model: PreTrainedModel, processing_class: Any) -> tuple[PreTrainedModel, Any]:
        """What the model's files are written from, beside the weights."""
        ...

    def begin(self, write: Callable[[Contents, Ranks], None], contents: Contents) -> None:
        """Write; the one before must be finished."""
        ...

    def finish(self) -> None:
        """Wait for what was begun.

        Raises:
            AMFTError: it could not be written.
        """
        ...

    def close(self) -> None:
        """Wait for what this rank has begun, whatever comes of it: from then on, others may write there."""
        ...


class WritesAtOnce:
    """The training thread writes."""

    def __init__(self, ranks: Ranks):
        self.ranks = ranks

    def frozen(self, model: PreTrainedModel, processing_class: Any) -> tuple[PreTrainedModel, Any]:
        return model, processing_class

    def begin(self, write: Callable[[Contents, Ranks], None], contents: Contents) -> None:
        write(contents, self.ranks)

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass


class WritesBehind:
    """A thread of each rank writes a copy, which is made before `begin` returns; ranks talk in a group of their own.

    Not `torch.distributed.checkpoint.async_save`: its thread ends with the tensors' files, and a checkpoint is one
    only after the rest, the manifest and the renaming.

    Args:
        ranks: of the training thread.
        timeout: seconds a rank waits for another.
    """

    def __init__(self, ranks: Ranks, timeout: float):
        self.ranks = ranks.twin(timeout)
        self.pool = ThreadPoolExecutor(1, "amft-checkpoint")
        self.pending: Future[None] | None = None
        self.gathered = False
        """The weights to export come from another device, so they are a copy already."""

    def frozen(self, model: PreTrainedModel, processing_class: Any) -> tuple[PreTrainedModel, Any]:
        self.gathered = model.device.type != "cpu"
        return cast(PreTrainedModel, _outline(model, {})), copy.deepcopy(processing_class)

    def begin(self, write: Callable[[Contents, Ranks], None], contents: Contents) -> None:
        groups = {group: _copies(named) for group, named in contents.groups.items()}
        weights = contents.weights if self.gathered else _copies(contents.weights)
        state = copy.deepcopy(contents.state)
        self.pending = self.pool.submit(
            write, replace(contents, groups=groups, weights=weights, state=state), self.ranks
        )

    def finish(self) -> None:
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        self.pool.shutdown()


def writer_for(config: AMFTConfig, ranks: Ranks) -> CheckpointWriter:
    """As `checkpoint.async_save` has it."""
    return WritesBehind(ranks, config.rank_timeout) if config.checkpoint.async_save else WritesAtOnce(ranks)


def _copies(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of tensors [*] on the CPU, in shards where they were; tied ones stay one.

    Not torch's `DefaultStager`, which fails on a shard that begins inside its storage, as the gradients of fsdp2 do.
    """
    made = {tensor: tensor.detach().to("cpu", copy=True) for tensor in named.values()}
    return {name: made[tensor] for name, tensor in named.items()}


def _outline(module: nn.Module, seen: dict[Tensor, Tensor]) -> nn.Module:
    """A module as it is now, without its values: training swaps parameters (fsdp2) and settings while a thread reads.

    Not `copy`, which the modules of fsdp2 refuse.
    """
    twin = object.__new__(type(module))
    vars(twin).update(vars(module))
    for kind in ("_parameters", "_buffers"):
        held = vars(module)[kind].items()
        vars(twin)[kind] = {name: None if x is None else seen.setdefault(x, _shape(x)) for name, x in held}
    parts = module._modules.items()
    vars(twin)["_modules"] = {name: None if part is None else _outline(part, seen) for name, part in parts}
    for name in {"config", "generation_config", "peft_config"} & vars(module).keys():
        vars(twin)[name] = copy.deepcopy(vars(module)[name])
    return twin


def _shape(tensor: Tensor) -> Tensor:
    """[*] without memory."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
