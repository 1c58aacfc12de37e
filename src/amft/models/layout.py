"""How a micro-batch is laid out for a forward pass: padded rows, or one row of sequences end to end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..batch import Batch


@dataclass(frozen=True)
class Padded:
    """The batch as it is: the model computes on padding too, and every completion column is scored."""

    batch: Batch

    @property
    def inputs(self) -> dict[str, Any]:
        """What the model's `forward` is given."""
        batch = self.batch
        return {
            "input_ids": batch.ids,
            "attention_mask": batch.attention_mask,
            "position_ids": (batch.attention_mask.cumsum(-1) - 1).clamp(min=0),
            "logits_to_keep": batch.completion_mask.shape[1] + 1,
        }

    @property
    def of_attention(self) -> dict[str, Any]:
        """Nothing is handed on to its attention."""
        return {}

    @property
    def ids(self) -> Tensor:
        """[B, C] the tokens that are scored."""
        return self.batch.completion_ids

    def scored(self, states: Tensor) -> Tensor:
        """[B, C, ...] the states that predict `ids`, of what the model returns."""
        return states[:, -(self.batch.completion_mask.shape[1] + 1) : -1]

    def back(self, values: Tensor) -> Tensor:
        """[B, C, ...] of values of `ids`."""
        return values


@dataclass(frozen=True)
class Packed:
    """All sequences in one row of N tokens, positions starting anew in each; K of them are completion tokens.

    Needs a model that runs with `packed.PACKED`.
    """

    inputs: dict[str, Any]
    """What the model's `forward` is given; it returns the K states that predict `ids`."""
    of_attention: dict[str, Any]
    """What is handed on to its attention."""
    ids: Tensor
    """[1, K] the tokens that are scored."""
    places: Tensor
    """[K] where they stand in [B * C]."""
    shape: torch.Size
    """(B, C)."""

    def scored(self, states: Tensor) -> Tensor:
        """[1, K, ...]."""
        return states

    def back(self, values: Tensor) -> Tensor:
        """[1, K, ...] -> [B, C, ...], 0 on padding."""
        rest = values.shape[2:]
        whole = values.new_zeros(self.shape.numel(), *rest).index_copy(0, self.places, values[0])
        return whole.view(*self.shape, *rest)


def packed(batch: Batch) -> Packed:
    """Lay a batch end to end.

    Example: the rows `[[0, 5, 6 | 8, 0], [7, 5, 1 | 9, 2]]` with padding 0 become the tokens `[5, 6, 8, 7, 5, 1, 9, 2]`
    at positions `[0, 1, 2, 0, 1, 2, 3, 4]`; tokens 8, 9 and 2 are predicted by the states 1, 5 and 6.
    """
    mask, shape = batch.attention_mask, batch.completion_mask.shape
    kept, width = mask.bool(), shape[1]
    assert bool(kept[:, :-width].any(1).all()), "every row needs a prompt token"
    answered = kept[:, -width:]
    order = (kept.reshape(-1).cumsum(0) - 1).view_as(mask)
    return Packed(
        inputs={
            "input_ids": batch.ids[kept][None],
            "position_ids": (mask.cumsum(-1) - 1)[kept][None],
            "logits_to_keep": order[:, -width:][answered] - 1,
        },
        of_attention={"packed_lengths": mask.sum(1).tolist()},
        ids=batch.completion_ids[answered][None],
        places=answered.reshape(-1).nonzero()[:, 0],
        shape=shape,
    )
