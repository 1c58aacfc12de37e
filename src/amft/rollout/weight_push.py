"""The trainer's side of vLLM's weight transfer: `nccl` and `ipc` are vLLM's own, `file` is ours (`file_transfer`).

Every rank calls `send_weights`, since a sharded parameter is gathered by all; rank 0 alone talks to the server.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..disk import OTHER_PLACE, disk_guard
from ..errors import ConfigError
from .vllm_client import LostServerError, ServerAddress, VllmClient

PART = 2**28
"""Bytes of one file, about; a single tensor may be larger."""


class TensorMeta(NamedTuple):
    """What is known of a tensor before it is sent."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


class WeightSource(Protocol):
    """The policy's present weights, as vLLM's trainer engines read them."""

    def metadata(self) -> list[TensorMeta]:
        """Of all tensors, in order."""
        ...

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Each tensor whole; a collective where they are sharded."""
        ...


class WeightPush(Protocol):
    """A way to the server."""

    def send_weights(self) -> None:
        """Send all weights, from start to finish. Raises LostServerError on rank 0."""
        ...


class FilePush:
    """Part by part in a safetensors file that the server reads and that is then deleted.

    Args:
        client: of the server.
        source: of the weights.
        is_sender: this is rank 0.
        folder: that both can read.
    """

    def __init__(self, client: VllmClient, source: WeightSource, is_sender: bool, folder: Path):
        self.client, self.source, self.is_sender, self.folder = client, source, is_sender, folder
        if is_sender:
            client.init_weight_transfer_engine({})

    def send_weights(self) -> None:
        """See `WeightPush`."""
        if not self.is_sender:
            for _ in self.source:  # gathered with the sender, one at a time, and not kept
                pass
            return
        parts = _parts(self.source)
        try:
            self.client.start_weight_update()
            for part in parts:
                self._send(part)
            self.client.finish_weight_update()
        finally:
            for _ in parts:  # the other ranks are gathering with this one
                pass

    def _send(self, part: dict[str, Tensor]) -> None:
        file = self.folder / "weights.safetensors"
        try:
            with disk_guard(file, cure=OTHER_PLACE):
                save_file({name: value.to("cpu").contiguous() for name, value in part.items()}, file)
            self.client.update_weights({"path": str(file)})
        finally:
            file.unlink(missing_ok=True)


def _parts(source: WeightSource) -> Iterator[dict[str, Tensor]]:
    part: dict[str, Tensor] = {}
    for name, value in source:
        part[name] = value
        if sum(each.nbytes for each in part.values()) >= PART:
            yield part
            part = {}
    if part:
        yield part


def vllm_push(backend: str, client: VllmClient, source: WeightSource, rank: int) -> WeightPush:
    """vLLM's own `nccl` or `ipc`. Not run on a GPU.

    Raises:
        ConfigError: vLLM is not installed beside the trainer.
    """
    try:
        from vllm.distributed.weight_transfer.clients import HTTPVLLMWeightSyncClient
        from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo
    except ImportError:
        raise ConfigError(f"engine_options.transfer: {backend} is vLLM's own; pip install 'amft[vllm]'") from None

    class KeyedClient(HTTPVLLMWeightSyncClient):
        """vLLM's client, which has no key and tells no version, speaking through ours."""

        def _post(self, path: str, json: dict[str, Any] | None = None) -> None:
            client.call(f"/{path}", json)

        def finish_weight_update(self, weight_version: str | None = None) -> None:
            client.finish_weight_update(weight_version)

    info = IPCTrainerInitInfo(rank=rank)
    if backend == "nccl":
        address, size = (_own_address(client.url), 1 + client.world_size()) if rank == 0 else ("", 0)
        info = NCCLTrainerInitInfo(address, _free_port(address), size, rank=rank)
    found: WeightPush = WeightTransferTrainerFactory.trainer_init(info, client=KeyedClient(client.url), source=source)
    return found


def _own_address(url: str) -> str:
    """This machine, as the server sees it."""
    host = ServerAddress.of(url).host
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((host, 9))
            return str(sock.getsockname()[0])
    except OSError as error:
        raise LostServerError(f"{host} cannot be reached ({error})") from None


def _free_port(address: str) -> int:
    with socket.create_server((address, 0)) as door:
        return int(door.getsockname()[1])
