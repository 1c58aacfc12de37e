"""The backend `file` of vLLM's weight transfer, the server's side: weights come in safetensors files.

For CPUs, and wherever trainer and server share a disk but no GPU. vLLM imports this module in its workers, because
`--worker-extension-cls amft.rollout.file_transfer.FileTransferWorker` names it. The trainer's side is `weight_push`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from safetensors.torch import load_file
from torch import nn
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload
from vllm.platforms import current_platform


@dataclass
class FileInitInfo(WeightTransferInitInfo):
    """Nothing to agree on."""


@dataclass
class FileUpdateInfo(WeightTransferUpdateInfo):
    """One part of the weights."""

    path: str


class FileTransferEngine(WeightTransferEngine[FileInitInfo, FileUpdateInfo]):
    """Loads each part into the model, layer by layer."""

    init_info_cls = FileInitInfo
    update_info_cls = FileUpdateInfo

    def init_transfer_engine(self, init_info: FileInitInfo) -> None:
        """Nothing to agree on."""

    def start_weight_update(self) -> None:
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """As the base class, which waits for an accelerator that a CPU does not have."""
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: FileUpdateInfo) -> None:
        self.model.load_weights(load_file(update_info.path).items())

    def finish_weight_update(self) -> None:
        finalize_layerwise_reload(self.model, self.model_config)
        if current_platform.is_cpu():
            _repack_head(self.model)

    def shutdown(self) -> None:
        """Nothing is held."""


def _repack_head(model: nn.Module) -> None:
    """On a CPU vLLM packs weights for its kernels; with tied embeddings the packed output head stays as it was."""
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    dispatch_cpu_unquantized_gemm(model.lm_head, remove_weight=False)


class FileTransferWorker:
    """Adds nothing to vLLM's worker: naming it makes the backend known there."""


WeightTransferEngineFactory.register_engine("file", FileTransferEngine)
