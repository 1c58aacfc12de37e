"""The policy's optimizer, and wrappers for methods whose imitation steps are made otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..meta.inplace import placed_like
from ..settings.config import AMFTConfig
from ..tensors import TensorGroups


class PolicyOptimizer(Protocol):
    """Makes the policy's steps."""

    def set_learning_rate(self, rate: float) -> None:
        """Of the steps to come."""
        ...

    def step(self, imitates: bool) -> None:
        """One step along `p.grad`. Args: imitates: the step is imitation alone."""
        ...

    def tensors(self) -> TensorGroups:
        """What a checkpoint must hold, by parameter's name."""
        ...

    def load_tensors(self, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Continue where `tensors` was taken; each tensor is [*] as its parameter, or []."""
        ...


class SharedOptimizer:
    """One optimizer makes all steps."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, group: str = "optimizer"):
        self.model, self.optimizer, self.group = model, optimizer, group

    def set_learning_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def step(self, imitates: bool) -> None:  # noqa: ARG002
        self.optimizer.step()

    def tensors(self) -> TensorGroups:
        names: dict[Tensor, str] = {p: name for name, p in self.model.named_parameters()}
        found = {
            f"{key}.{names[p]}": torch.as_tensor(value)
            for p, entry in self.optimizer.state.items()
            for key, value in entry.items()
            if value is not None
        }
        return {self.group: found}

    def load_tensors(self, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Moments [*] and step counts [] by `SLOT.PARAMETER`."""
        parameters = dict(self.model.named_parameters())
        for key, value in groups.get(self.group, {}).items():
            slot, _, name = key.partition(".")
            like = parameters[name]
            self.optimizer.state[like][slot] = value.clone() if slot == "step" else placed_like(like, value)


class SeparateImitation:
    """Wraps an optimizer: the steps that only imitate are made by another one, with moments of its own (ReLIFT)."""

    def __init__(self, inner: PolicyOptimizer, imitator: SharedOptimizer):
        self.inner, self.imitator = inner, imitator

    def set_learning_rate(self, rate: float) -> None:
        self.inner.set_learning_rate(rate)
        self.imitator.set_learning_rate(rate)

    def step(self, imitates: bool) -> None:
        (self.imitator if imitates else self.inner).step(imitates)

    def tensors(self) -> TensorGroups:
        return self.inner.tensors() | self.imitator.tensors()

    def load_tensors(self, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Those of both optimizers, [*] or [] each."""
        self.inner.load_tensors(groups)
        self.imitator.load_tensors(groups)


def build_optimizer(model: nn.Module, config: AMFTConfig) -> torch.optim.Optimizer:
    """The optimizer of `config.optim`; weight decay on matrices only."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optim == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.sgd_momentum)
    kinds: dict[str, Any] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
    kind: type[torch.optim.Adam] = kinds[config.optim]
    betas = (config.adam_beta1, config.adam_beta2)
    return kind(groups, lr=config.learning_rate, betas=betas, eps=config.adam_epsilon)
