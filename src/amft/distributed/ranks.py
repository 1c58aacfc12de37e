"""The processes of one run: who I am, my share, and the few things ranks tell each other.

Everything said here travels over gloo on the CPU, as numbers or as JSON; gradients and parameters are `parallel`'s.
"""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from ..errors import AMFTError, ConfigError, RankError
from .rendezvous import meet

T = TypeVar("T")

LOST = ("gloo", "nccl", "connection", "socket", "timed out", "broken pipe")
"""Words of torch's errors when another rank is gone; it raises plain RuntimeErrors."""


class Ranks:
    """One process among `size`; alone by default, when every method is free.

    Args:
        group: the processes that train together; must reach the CPU (gloo). None: this process alone.
    """

    def __init__(self, group: dist.ProcessGroup | None = None):
        self.group = group
        self.rank = 0 if group is None else dist.get_rank(group)
        self.size = 1 if group is None else dist.get_world_size(group)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def share(self, n: int) -> range:
        """This rank's part of `n` things in order; parts differ by at most one."""
        return range(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def all_sum(self, values: list[float]) -> list[float]:
        """Elementwise sum over ranks, the same on every rank to the bit."""
        if self.size == 1 or not values:
            return values
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total, group=self.group)
        return total.tolist()

    def sum_(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over ranks in place."""
        if self.size > 1:
            dist.all_reduce(tensor, group=self.group)
        return tensor

    def gather(self, value: Any) -> list[Any]:
        """Every rank's JSON value, in rank order."""
        if self.size == 1:
            return [value]
        text = torch.frombuffer(bytearray(json.dumps(value), "utf-8"), dtype=torch.uint8)
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(text)]), group=self.group)
        longest = int(max(lengths))
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(text)] = text
        found = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.size)]
        dist.all_gather(found, padded, group=self.group)
        return [json.loads(bytes(part[: int(n)].numpy())) for part, n in zip(found, lengths, strict=True)]

    def first(self, value: T | None) -> T | None:
        """The value of the lowest rank that has one, so that all ranks decide alike."""
        return next((given for given in self.gather(value) if given is not None), None)

    def from_main(self, make: Callable[[], T]) -> T:
        """Let rank 0 do something; every rank gets its JSON result, or its error.

        Raises:
            AMFTError: rank 0's own on rank 0; on the others a `RankError` with the same words.
        """
        if self.size == 1:
            return make()
        answer: dict[str, Any] = {}
        error: AMFTError | None = None
        if self.is_main:
            try:
                answer = {"value": make()}
            except AMFTError as raised:
                error, answer = raised, {"error": str(raised)}
        answer = self.gather(answer)[0]
        if error is not None:
            raise error
        if "error" in answer:
            raise RankError(f"rank 0 stopped: {answer['error']}", told=True)
        return answer["value"]

    def twin(self, timeout: float) -> Ranks:
        """The same processes in a group of their own, for a thread: its messages do not mix with those of others.

        Args:
            timeout: seconds after which a rank that waits for another gives up.
        """
        if self.group is None:
            return self
        members, patience = dist.get_process_group_ranks(self.group), timedelta(seconds=timeout)
        return Ranks(dist.new_group(members, patience, "gloo", use_local_synchronization=True))

    @contextmanager
    def contact(self) -> Iterator[None]:
        """While open, losing another rank is one clear error instead of torch's.

        Raises:
            RankError: a rank died, left, or was silent for longer than `rank_timeout`.
        """
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or isinstance(error, AMFTError) or not _lost(error):
                raise
            raise RankError(
                f"rank {self.rank} of {self.size} lost contact with another rank, so this one stops too; look for the "
                "first error above, then continue from the last checkpoint with --resume (torchrun --max-restarts "
                f"does so by itself) [{_short(error)}]"
            ) from None


def join_ranks(timeout: float) -> Ranks:
    """The ranks that torchrun started, or this process alone.

    Args:
        timeout: seconds after which a rank that waits for another gives up.

    Raises:
        ConfigError: RANK and WORLD_SIZE are set, but not the rest of what torchrun sets.
        RankError: the others cannot be reached.
    """
    if not dist.is_initialized():
        if not {"RANK", "WORLD_SIZE"} <= os.environ.keys() or os.environ["WORLD_SIZE"] == "1":
            return Ranks()
        _start(timeout)
    return Ranks(dist.group.WORLD)


def alone(timeout: float) -> Ranks:
    """A group of this one process, for what needs a group."""
    if not dist.is_initialized():
        store = torch.distributed.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group(_backend(), store=store, rank=0, world_size=1, timeout=timedelta(seconds=timeout))
        atexit.register(_leave)
    return Ranks(dist.group.WORLD)


def restarted() -> bool:
    """Whether torchrun started this process again after a failure."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def local_device() -> torch.device:
    """This process's accelerator, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def _start(timeout: float) -> None:
    rank, size, patience = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), timedelta(seconds=timeout)
    try:
        local_device()
        store, _, _ = next(rendezvous("env://", rank, size, timeout=patience))
        store = meet(store, rank, size, timeout)
        dist.init_process_group(_backend(), store=store, rank=rank, world_size=size, timeout=patience)
    except ValueError as error:
        raise ConfigError(f"parallel: RANK and WORLD_SIZE are set, but {error}; start with torchrun") from None
    except RuntimeError as error:
        raise RankError(f"rank {rank} of {size} cannot reach the others ({_short(error)})") from None
    atexit.register(_leave)


def _backend() -> str:
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _lost(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in LOST)


def _short(error: RuntimeError) -> str:
    """The first line without torch's source position."""
    line = str(error).strip().splitlines()[0]
    return line.rpartition("] ")[2][:160] if line.startswith("[") else line[:160]
