"""The copy of the policy that a vLLM server holds: in which form it gets there, and whether it is the present one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..disk import OTHER_PLACE, disk_guard
from ..models.lora import has_adapter, save_adapter
from ..rollout.vllm_client import VllmClient
from ..rollout.weight_push import FilePush, TensorMeta, WeightPush, vllm_push
from .ranks import Ranks
from .whole_state import full, full_state


class PolicySource:
    """The present weights; see `rollout.weight_push.WeightSource`. A shared tensor comes once, under its first name.

    Args:
        model: laid out on the ranks already.
        dtype: in which the tensors are sent.
    """

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype):
        self.named = list(model.named_parameters())  # kept: fsdp2 puts others in their place during a pass
        self.dtype = dtype
        self.bytes = 0
        """Sent so far."""

    @property
    def state(self) -> tuple[int, ...]:
        """Changes with every write into the weights: torch counts the writes into each tensor."""
        return tuple(parameter._version for _, parameter in self.named)

    def metadata(self) -> list[TensorMeta]:
        """See `WeightSource`."""
        return [TensorMeta(name, self.dtype, tuple(parameter.shape)) for name, parameter in self.named]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self.named:
            whole = full(parameter.detach()).to(self.dtype)
            self.bytes += whole.nbytes
            yield name, whole


class ServedPolicy:
    """Pushes the weights when they have changed; an adapter alone where one is trained.

    Args:
        model: the policy, laid out on the ranks already.
        ranks: all of them push together; rank 0 alone talks to the server.
        dtype: of the weights that are sent.
        backend: of the weight transfer: `file`, `ipc` or `nccl`; not read for an adapter.
        folder: of rank 0, which the server can read.
    """

    def __init__(self, model: PreTrainedModel, ranks: Ranks, dtype: torch.dtype, backend: str, folder: Path):
        self.model, self.ranks, self.backend, self.folder = model, ranks, backend, folder
        self.source = PolicySource(model, dtype)
        self.way: WeightPush | None = None
        self.pushed: tuple[int, ...] | None = None
        """State of the weights that the server has; None: it has none of ours."""
        self.pushes = 0

    def forget(self) -> None:
        """The server is a new one."""
        self.way, self.pushed = None, None

    def push(self, client: VllmClient) -> None:
        """Bring the server up to date, if it is not. A collective.

        Raises:
            LostServerError: on rank 0 alone; then the caller must call `forget` on all ranks.
            ModelError: vLLM refuses the weights.
        """
        state = self.source.state
        if self.ranks.first((state != self.pushed) or None) is None:
            return
        self.pushed, self.pushes = state, self.pushes + 1
        # The folder's name is drawn at random: a server that two trainers push to is noticed.
        name = self.ranks.from_main(lambda: f"{self.folder.name}-{self.pushes}")
        if has_adapter(self.model):
            self._push_adapter(client, name)
        else:
            self._push_model(client, name)

    def _push_model(self, client: VllmClient, name: str) -> None:
        client.version = name
        if self.way is None:
            self.way = self._build_way(client)
        self.way.send_weights()
        if self.ranks.is_main:
            client.forget_prefixes()

    def _build_way(self, client: VllmClient) -> WeightPush:
        if self.backend == "file":
            return FilePush(client, self.source, self.ranks.is_main, self.folder)
        return vllm_push(self.backend, client, self.source, self.ranks.rank)

    def _push_adapter(self, client: VllmClient, name: str) -> None:
        """Under a new name and path: vLLM's prefix cache goes by them."""
        state = full_state(self.model, self.ranks, {name for name, p in self.source.named if p.requires_grad})
        if self.ranks.is_main:
            folder = self.folder / name
            try:
                with disk_guard(folder, cure=OTHER_PLACE):
                    folder.mkdir()
                    save_adapter(self.model, folder, state)
                self.source.bytes += sum(value.nbytes for value in state.values())
                client.load_adapter(name, str(folder))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        client.model = name


def base_weights(model: PreTrainedModel, ranks: Ranks, dtype: torch.dtype) -> dict[str, Tensor]:
    """What is under an adapter, [*] on the CPU of rank 0, under the names of a saved model. A collective."""
    found = {}
    for name, parameter in model.named_parameters():
        if "lora_" not in name:
            whole = full(parameter.detach())
            if ranks.is_main:
                found[name.replace(".base_layer.", ".")] = whole.to("cpu", dtype).contiguous()
    return found
