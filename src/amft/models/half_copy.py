"""A copy of a policy in bfloat16 to sample from, beside the float32 weights that are trained."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


class HalfCopy:
    """The same model with bfloat16 weights; buffers (the tables of positions) are shared.

    Args:
        model: its weights are read again at every `refresh`.
    """

    def __init__(self, model: PreTrainedModel):
        self.weights = list(model.parameters())
        known: dict[int, Tensor] = {id(buffer): buffer for buffer in model.buffers()}
        self.halves: list[Tensor] = [
            nn.Parameter(weight.detach().bfloat16(), requires_grad=False) for weight in self.weights
        ]
        known |= {id(weight): half for weight, half in zip(self.weights, self.halves, strict=True)}
        self.model = copy.deepcopy(model, known)

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the weights as they are now, [*] each."""
        torch._foreach_copy_(self.halves, [weight.detach() for weight in self.weights])
