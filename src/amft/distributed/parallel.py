"""How a model lies on the ranks: whole in one process, whole on each (ddp), or in shards (fsdp2).

Every rank holds the batch of the whole step (token ids are small) and runs its own rows. A loss is a sum over rows
divided by one global count, so summing the gradients over ranks gives the gradient of one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from transformers import PreTrainedModel

from ..errors import ConfigError, ModelError
from ..settings.config import AMFTConfig
from .ranks import Ranks, alone, join_ranks, local_device
from .whole_state import load_full_state, load_on_main, send_from_main

BUCKET = 2**24
"""Elements of gradient summed over ranks in one message."""


class Parallel(Protocol):
    """What the trainer asks of a layout."""

    ranks: Ranks
    device: torch.device
    """Where micro-batches go."""

    def load(self, load: Callable[[], PreTrainedModel], outline: Callable[[], PreTrainedModel]) -> PreTrainedModel:
        """A model for `wrap`, by `load` or, where the weights need not be read, by `outline`; see `load_on_main`."""
        ...

    def wrap(self, model: nn.Module) -> None:
        """Place the model, in place; before the optimizer is made. Rank 0's weights go to every rank."""
        ...

    def reducing(self, model: nn.Module) -> AbstractContextManager[None]:
        """Backward passes inside add the gradient summed over all ranks to `p.grad`, once `last_comes` was called."""
        ...

    def last_comes(self, model: nn.Module) -> None:
        """The next backward pass inside `reducing` is the last one."""
        ...

    def sampling(self, model: nn.Module) -> AbstractContextManager[None]:
        """Inside, ranks may run forward passes of their own, as many as each likes; no gradients."""
        ...


class Single:
    """One process."""

    def __init__(self, ranks: Ranks, device: torch.device):
        self.ranks, self.device = ranks, device

    def load(self, load: Callable[[], PreTrainedModel], outline: Callable[[], PreTrainedModel]) -> PreTrainedModel:  # noqa: ARG002
        return load()

    def wrap(self, model: nn.Module) -> None:
        model.to(self.device)

    def reducing(self, model: nn.Module) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def last_comes(self, model: nn.Module) -> None:
        pass

    def sampling(self, model: nn.Module) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()


class Replicated(Single):
    """The whole model on every rank; gradients summed once per loss, after its last micro-batch.

    Not `DistributedDataParallel`: its buckets alias `p.grad`, which the mix of two gradients takes over, and it
    averages where our losses are already divided by a global count.
    """

    def load(self, load: Callable[[], PreTrainedModel], outline: Callable[[], PreTrainedModel]) -> PreTrainedModel:
        model, agrees = load_on_main(self.ranks, load, outline)
        return model if agrees or self.ranks.is_main else load()

    def wrap(self, model: nn.Module) -> None:
        if any(p.is_meta for p in model.parameters()):
            _without_values(model, self.device)
        _fill_tables(model, self.device, self.ranks)
        super().wrap(model)
        for p in model.parameters():
            send_from_main(p, self.ranks)

    @contextmanager
    def _reducing(self, model: nn.Module) -> Iterator[None]:
        trained = [p for p in model.parameters() if p.requires_grad]
        held = [p.grad for p in trained]
        for p in trained:
            p.grad = None
        yield
        self._sum(trained)
        for p, before in zip(trained, held, strict=True):
            if before is not None:
                p.grad = before if p.grad is None else before.add_(p.grad)

    def reducing(self, model: nn.Module) -> AbstractContextManager[None]:
        return self._reducing(model)

    def _sum(self, trained: list[nn.Parameter]) -> None:
        """Sum gradients over ranks; one that only some ranks have counts as zeros on the others."""
        reached = self.ranks.all_sum([float(p.grad is not None) for p in trained])
        grads = []
        for p, n in zip(trained, reached, strict=True):
            if n:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
                grads.append(p.grad)
        for bucket in _buckets(grads):
            flat = torch.cat([grad.reshape(-1) for grad in bucket])
            self.ranks.sum_(flat)
            for grad, part in zip(bucket, flat.split([grad.numel() for grad in bucket]), strict=True):
                grad.copy_(part.view_as(grad))


class Sharded(Single):
    """Parameters, gradients, meta buffer and optimizer state cut over the ranks: torch's FSDP2.

    Each micro-batch's gradient is scattered at once: accumulating it whole would need the memory that sharding saves.
    Copies add up their shards of it once per loss, after its last micro-batch.

    Args:
        shards: neighbouring ranks that share one copy of the model; with fewer than all of them it is HSDP.
        half: run layers in bfloat16 over float32 shards; gradients are summed in float32.
        offload: keep shards and optimizer state in the host's memory.
    """

    def __init__(self, ranks: Ranks, device: torch.device, *, shards: int, half: bool, offload: bool):
        super().__init__(ranks, device)
        self.half, self.offload = half, offload
        if shards == ranks.size:
            self.mesh = DeviceMesh.from_group(cast("dist.ProcessGroup", ranks.group), device.type)
        else:
            shape = (ranks.size // shards, shards)
            self.mesh = init_device_mesh(device.type, shape, mesh_dim_names=("replicate", "shard"))

    def load(self, load: Callable[[], PreTrainedModel], outline: Callable[[], PreTrainedModel]) -> PreTrainedModel:
        """By `load` on rank 0 alone. Raises ModelError where the files hold another model than the config says."""
        model, agrees = load_on_main(self.ranks, load, outline)
        if not agrees:
            raise ModelError(
                "parallel: fsdp2: the weight files give another model than config.json describes, such as a quantized "
                "one; use parallel: ddp"
            )
        return model

    def wrap(self, model: nn.Module) -> None:
        state = model.state_dict() if self.ranks.is_main else {}
        _without_values(model, torch.device("meta"))
        self._cut(model)
        _without_values(model, torch.device("cpu") if self.offload else self.device)
        _fill_tables(model, self.device, self.ranks)
        load_full_state(model, state, self.ranks)

    def _cut(self, model: nn.Module) -> None:
        half = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        options: dict[str, Any] = {
            "mesh": self.mesh,
            "mp_policy": half if self.half else MixedPrecisionPolicy(),
            "offload_policy": CPUOffloadPolicy(pin_memory=self.device.type == "cuda")
            if self.offload
            else OffloadPolicy(),
        }
        for block in _blocks(model):
            fully_shard(block, **options)
        fully_shard(model, **options)
        for part in _parts(model):
            part.set_gradient_divide_factor(1.0)  # a sum over ranks, not a mean
            part.set_force_sum_reduction_for_comms(True)

    def reducing(self, model: nn.Module) -> AbstractContextManager[None]:
        _parts(model)[0].set_requires_all_reduce(False)
        return nullcontext()

    def last_comes(self, model: nn.Module) -> None:
        _parts(model)[0].set_requires_all_reduce(True)

    @contextmanager
    def _sampling(self, model: nn.Module) -> Iterator[None]:
        parts = _parts(model)
        for part in parts:
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
        try:
            with torch.no_grad():
                yield
        finally:
            for part in parts:
                part.reshard()
                part.set_reshard_after_forward(part is not parts[0], recurse=False)  # as fully_shard sets the root

    def sampling(self, model: nn.Module) -> AbstractContextManager[None]:
        return self._sampling(model)


class ShardedSampling(Sharded):
    """Shards of which also rollouts gather one layer at a time: the ranks make their forward passes together.

    A rank announces every forward pass of its own; one that has none left joins those of the others with one token.
    The embedding and the output layer stay gathered between passes.
    """

    @contextmanager
    def _sampling(self, model: nn.Module) -> Iterator[None]:
        def announce(*_: Any) -> None:
            self.ranks.all_sum([1.0])

        announcing = model.register_forward_pre_hook(announce, prepend=True)  # before anything is gathered
        with torch.no_grad():
            try:
                yield
            finally:
                announcing.remove()
            token = torch.zeros(1, 1, dtype=torch.long, device=self.device)
            while self.ranks.all_sum([0.0])[0]:
                model(input_ids=token, use_cache=False)
        _parts(model)[0].reshard()


def build_parallel(config: AMFTConfig) -> Parallel:
    """The layout of `config.parallel` on the processes that torchrun started.

    Raises:
        ConfigError: the layout does not fit the number of processes.
        RankError: the other processes cannot be reached.
    """
    ranks = join_ranks(config.rank_timeout)
    if config.parallel == "single" and ranks.size > 1:
        raise ConfigError(f"parallel: single, but {ranks.size} processes were started; use auto, ddp or fsdp2")
    device = local_device()
    if config.parallel == "fsdp2":
        shards, half = config.shards(ranks.size), config.dtype == "bfloat16"
        ranks = alone(config.rank_timeout) if ranks.group is None else ranks
        kind = ShardedSampling if config.rollout_gather == "layer" else Sharded
        return kind(ranks, device, shards=shards, half=half, offload=config.cpu_offload)
    return (Single if ranks.size == 1 else Replicated)(ranks, device)


def _without_values(model: nn.Module, device: torch.device) -> None:
    """Put every parameter on a device without its values; those that are tied stay so."""
    made: dict[Tensor, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if parameter not in made:
                empty = torch.empty_like(parameter, device=device)
                made[parameter] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
            setattr(module, name, made[parameter])


def _fill_tables(model: nn.Module, device: torch.device, ranks: Ranks) -> None:
    """Put rank 0's buffers on the device of every rank, those that are computed and in no file among them."""
    for module in model.modules():
        for name, table in module.named_buffers(recurse=False):
            here = torch.empty_like(table, device=device) if table.is_meta else table.to(device)
            setattr(module, name, here)
    for table in model.buffers():
        send_from_main(table, ranks)


def _buckets(grads: list[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one dtype, about BUCKET elements together."""
    bucket: list[Tensor] = []
    for grad in grads:
        full_up = sum(g.numel() for g in bucket) + grad.numel() > BUCKET
        if bucket and (full_up or grad.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(grad)
    if bucket:
        yield bucket


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The layers that are sharded one by one: those transformers would not split, else those of the longest list."""
    names = set(getattr(model, "_no_split_modules", None) or ())
    found = [module for module in model.modules() if type(module).__name__ in names]
    lists = [list(module) for module in model.modules() if isinstance(module, nn.ModuleList)]
    return found or max(lists, key=len, default=[])


def _parts(model: nn.Module) -> list[FSDPModule]:
    return [module for module in model.modules() if isinstance(module, FSDPModule)]
