"""What the TRL adapter needs of TRL beyond its documented interface, checked before anything is trained."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from ..errors import IntegrationError

OLDEST, TOO_NEW = (1, 16), (1, 17)
"""Supported TRL: at least OLDEST, below TOO_NEW. Widened only when the contract tests pass on a version."""

METHODS: dict[str, tuple[str, ...]] = {
    "training_step": ("self", "model", "inputs", "num_items_in_batch"),
    "train": ("self", "resume_from_checkpoint", "trial", "ignore_keys_for_eval"),
    "compute_loss_context_manager": ("self",),
    "add_callback": ("self", "callback"),
    "_generate_and_score_completions": ("self", "inputs"),
    "_clip_grad_norm": ("self", "model"),
    "_prepare_inputs": ("self", "generation_batch"),
    "_get_per_token_logps_and_entropies": (
        "self",
        "model",
        "input_ids",
        "attention_mask",
        "logits_to_keep",
        "batch_size",
        "compute_entropy",
        "compute_aux_loss",
        "pixel_values",
        "image_grid_thw",
        "num_images",
        "pixel_attention_mask",
        "spatial_shapes",
        "num_tiles",
        "image_sizes",
        "token_type_ids",
        "mm_token_type_ids",
        "image_position_ids",
    ),
    "_tokenize_prompts": ("self", "prompts"),
}
"""Methods that are overridden or called, with their parameters; those with an underscore are private."""

ATTRIBUTES = (
    "_entropy_bonus_enabled",
    "_metrics",
    "accelerator",
    "args",
    "aux_loss_enabled",
    "chat_template",
    "chat_template_kwargs",
    "environment_factories",
    "optimizer",
    "processing_class",
    "reward_funcs",
    "reward_weights",
    "state",
    "temperature",
    "tools",
    "train_dataset",
)
"""Attributes of a built trainer that are read."""


def check_version(version: str) -> None:
    """Refuse a TRL that the adapter was not tested with.

    Raises:
        IntegrationError: the version and the supported range.
    """
    found = tuple(int(part) for part in version.split(".")[:2])
    if not OLDEST <= found < TOO_NEW:
        low, high = (".".join(map(str, bound)) for bound in (OLDEST, TOO_NEW))
        raise IntegrationError(f"trl {version} is not supported: pip install 'trl>={low},<{high}'")


def check_methods(trainer_class: type, methods: Mapping[str, tuple[str, ...]] = METHODS) -> None:
    """Every method is there, and takes what we pass.

    Raises:
        IntegrationError: the methods that are absent or differ.
    """
    wrong = []
    for name, expected in methods.items():
        method = getattr(trainer_class, name, None)
        if method is None:
            wrong.append(f"{name} is gone")
            continue
        taken = tuple(inspect.signature(method).parameters)
        if taken != expected:
            wrong.append(f"{name} takes ({', '.join(taken)})")
    _refuse(trainer_class, wrong)


def check_attributes(trainer: object) -> None:
    """Every attribute of a built trainer that the adapter reads is there.

    Raises:
        IntegrationError: the attributes that are absent.
    """
    _refuse(type(trainer), [f"{name} is gone" for name in ATTRIBUTES if not hasattr(trainer, name)])


def _refuse(trainer_class: type, wrong: list[str]) -> None:
    if wrong:
        low, high = (".".join(map(str, bound)) for bound in (OLDEST, TOO_NEW))
        raise IntegrationError(
            f"{trainer_class.__name__} has changed ({'; '.join(wrong)}): pip install 'trl>={low},<{high}'"
        )
