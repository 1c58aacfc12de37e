"""The value head in training: apart from the policy in everything but the hidden states it reads."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..distributed.parallel import Parallel, Replicated, Single
from ..models.value_head import value_head_for
from ..settings.config import AMFTConfig
from .optimizers import restore_slot


class Critic:
    """A value head with its own optimizer and its own clipping; no policy parameter is in either.

    The head is no part of the model: neither its exports nor the meta-gradient's mixing see it.

    Args:
        model: the policy.
        config: settings.
        parallel: how the model lies on the ranks; the head is whole on each.
        build: makes the head's optimizer.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        config: AMFTConfig,
        parallel: Parallel,
        build: Callable[[torch.nn.Module, AMFTConfig], torch.optim.Optimizer],
    ):
        self.config = config
        self.head = value_head_for(model).to(parallel.device)
        self.layout = (Single if parallel.ranks.size == 1 else Replicated)(parallel.ranks, parallel.device)
        self.optimizer = build(self.head, config)

    def values(self, hidden: Tensor) -> Tensor:
        """[B, C, D] -> [B, C]; the gradient reaches the policy's trunk only where `ppo.value_trunk` is shared."""
        return self.head(hidden if self.config.ppo.value_trunk == "shared" else hidden.detach())

    def reducing(self) -> AbstractContextManager[None]:
        """Backward passes inside add the head's gradient, summed over ranks."""
        return self.layout.reducing(self.head)

    @torch.no_grad()
    def rescale(self, factor: float) -> None:
        """Multiply the head's gradient: the weight of the RL loss, when it is known after the backward."""
        for parameter in self.head.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)

    def clip(self) -> float:
        """Clip the head's gradient by its own norm; the norm before."""
        limit = self.config.max_grad_norm
        return float(torch.nn.utils.clip_grad_norm_(self.head.parameters(), float("inf") if limit is None else limit))

    def step(self, factor: float) -> None:
        """One optimizer step; `factor` is the schedule's. Without a gradient nothing moves."""
        rate = self.config.ppo.value_learning_rate or self.config.learning_rate
        for group in self.optimizer.param_groups:
            group["lr"] = rate * factor
        self.optimizer.step()

    def clear(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Tensor]:
        """The head and its optimizer's tensors, [*] each."""
        state: dict[str, Tensor] = {f"head.{name}": value for name, value in self.head.state_dict().items()}
        for name, parameter in self.head.named_parameters():
            entry: dict[str, Any] = self.optimizer.state.get(parameter, {})
            state |= {f"{key}.{name}": torch.as_tensor(v) for key, v in entry.items() if v is not None}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue where `state_dict` was taken; [*] tensors by name."""
        parameters = dict(self.head.named_parameters())
        self.head.load_state_dict({key[5:]: value for key, value in state.items() if key.startswith("head.")})
        for key, value in state.items():
            slot, _, name = key.partition(".")
            if slot != "head":
                restore_slot(self.optimizer, parameters[name], slot, value)
