"""The policy as a model directory: weights, config and what it reads with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from ..disk import OTHER_PLACE, disk_guard
from ..distributed.ranks import Ranks
from ..distributed.whole_state import full_state
from ..models.lora import has_adapter, save_adapter
from ..models.pictures import Pictures


def adapter_names(model: PreTrainedModel) -> set[str] | None:
    """What is trained, when that is an adapter; None: the model is written whole."""
    return {name for name, p in model.named_parameters() if p.requires_grad} if has_adapter(model) else None


def policy_weights(model: PreTrainedModel, ranks: Ranks) -> dict[str, Tensor]:
    """What `export_model` writes, whole tensors [*] on the CPU of rank 0; all ranks take part."""
    return full_state(model, ranks, adapter_names(model))


def export_model(model: PreTrainedModel, processing_class: Any, weights: dict[str, Tensor], directory: Path) -> None:
    """Write a model or its adapter, and the tokenizer or processor.

    Args:
        model: for its config.
        processing_class: a tokenizer, or what reads pictures.
        weights: of `policy_weights`; [*] each.
        directory: exists.
    """
    if has_adapter(model):
        save_adapter(model, directory, weights)
    else:
        model.save_pretrained(directory, state_dict=weights)
    (processing_class.save if isinstance(processing_class, Pictures) else processing_class.save_pretrained)(directory)


def save_policy(model: PreTrainedModel, processing_class: Any, ranks: Ranks, target: Path) -> None:
    """Write the policy as it is into a directory, which is made; all ranks take part.

    Args:
        model: the policy.
        processing_class: as `export_model` has it.
        ranks: rank 0 writes.
        target: a directory, or where one is to be.

    Raises:
        RunError: the disk is full or refuses.
    """
    weights = policy_weights(model, ranks)

    def write() -> None:
        with disk_guard(target, cure=OTHER_PLACE):
            target.mkdir(parents=True, exist_ok=True)
            export_model(model, processing_class, weights, target)

    ranks.from_main(write)
