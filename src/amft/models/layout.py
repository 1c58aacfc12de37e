"""How a micro-batch is laid out for a forward pass: padded rows, or one line that is a prefix tree."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch
from .prefix_tree import prefix_tree
from .tree_attention import block_mask


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
class Branched:
    """All rows in one line of N tokens, a prefix tree; K states of it are scored.

    Needs a model that runs with `tree_attention.TREE`.
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


def branched(batch: Batch) -> Branched:
    """Lay a batch as a prefix tree; the last token of a row predicts nothing and is left out.

    A state that several rows share, such as that of the prompt's last token, is scored once for each of them: their
    gradients add up in it.

    Example: the rows `[5, 6 | 8, 2]` and `[5, 6 | 9, 2]` become the tokens `[5, 6, 8, 9]` at positions `[0, 1, 2, 2]`;
    the tokens 8, 2, 9 and 2 are predicted by the states 1, 2, 1 and 3.
    """
    device, width = batch.ids.device, batch.completion_mask.shape[1]
    prompts, lengths = (part.sum(1).tolist() for part in batch.attention_mask.tensor_split([-width], 1))
    assert min(prompts) > 0, "every row needs a prompt token"
    first = batch.ids.shape[1] - width
    rows = [
        ids[first - prompt : first + max(length - 1, 0)]
        for ids, prompt, length in zip(batch.ids.tolist(), prompts, lengths, strict=True)
    ]
    tree = prefix_tree(rows)
    states = [tree.of_row(row)[prompt - 1 :] for row, prompt in enumerate(prompts) if lengths[row]]
    on_device = partial(torch.tensor, dtype=torch.long, device=device)
    answered = batch.attention_mask[:, -width:].bool()
    return Branched(
        inputs={
            "input_ids": on_device([tree.tokens]),
            "position_ids": on_device([tree.depths]),
            "logits_to_keep": on_device(np.concatenate([*states, np.empty(0, dtype=int)])),
        },
        of_attention={"prefix_tree": tree, "tree_mask": block_mask(tree, device) if device.type == "cuda" else None},
        ids=batch.completion_ids[answered][None],
        places=answered.reshape(-1).nonzero()[:, 0],
        shape=batch.completion_mask.shape,
    )
