"""Pictures as the arguments of a model's `forward`: what is the same for every family is kept, the rest made of it."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel


def picture_inputs(model: PreTrainedModel, pixels: Tensor | None, ids: Tensor) -> dict[str, Tensor]:
    """What `forward` and `generate` are given for the pictures of some rows; nothing for rows without.

    Args:
        model: without wrappers.
        pixels: of `Pictures.pixels`: [N, ...] one picture a row, or [N, K, ...] for K; `...` is [3, H, W] or, of models
            that read patches (Qwen2.5-VL), [patches, D] of a square picture.
        ids: [N, T] the rows, place-holders included; says where the pictures stand.
    """
    if pixels is None:
        return {}
    taken = inspect.signature(model.forward).parameters
    pixels = pixels.to(ids.device)
    here = ids.eq(model.config.image_token_id).int()
    if "image_grid_thw" in taken:
        patches = pixels.reshape(-1, *pixels.shape[-2:])
        side = math.isqrt(patches.shape[1])
        grid = torch.tensor([[1, side, side]] * len(patches), device=ids.device)
        return {"pixel_values": patches.flatten(0, 1), "image_grid_thw": grid, "mm_token_type_ids": here}
    if "pixel_attention_mask" in taken:  # Idefics: a row's pictures have a dimension of their own
        return {"pixel_values": pixels if pixels.dim() == 5 else pixels[:, None]}
    found = {"pixel_values": pixels.reshape(-1, *pixels.shape[-3:])}
    return found | ({"token_type_ids": here} if "token_type_ids" in taken else {})


def without_positions(inputs: dict[str, Any]) -> dict[str, Any]:
    """Models of patches number their tokens in three dimensions, by themselves where they are not told."""
    return {name: value for name, value in inputs.items() if name != "position_ids" or "image_grid_thw" not in inputs}
