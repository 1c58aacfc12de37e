"""Liger's kernels in a model: norms, rotary embedding and gated layers, written in Triton for GPUs (arXiv 2410.10989).

The output layer stays ours (`head`), since it gives entropies and first choices in the same pass. Token positions are
free to repeat, as in a prefix tree: the rotary kernel reads the cosines that the model has computed for each token.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from ..errors import ConfigError
from ..extras import require_extra


def check_liger() -> None:
    """Whether the kernels can run here, before anything is loaded.

    Raises:
        ConfigError: there is no GPU.
        IntegrationError: the package is not installed.
    """
    if not torch.cuda.is_available():
        raise ConfigError("use_liger_kernel: its kernels run on a GPU, and none is found here; leave it out")
    require_extra("use_liger_kernel", "liger", "liger_kernel", "triton")


def put_liger(model: PreTrainedModel) -> None:
    """Put the kernels into a model, in place; before it is laid out. Rotary embeddings change for its whole family.

    Raises:
        ConfigError: Liger has none for this family.
    """
    from liger_kernel.transformers import monkey_patch

    family = model.config.model_type
    if family not in monkey_patch.MODEL_TYPE_TO_APPLY_LIGER_FN:  # where Liger itself would only log it
        raise ConfigError(f"use_liger_kernel: Liger has no kernels for models of type {family}; leave it out")
    monkey_patch._apply_liger_kernel_to_instance(model, cross_entropy=False, fused_linear_cross_entropy=False)
