"""Which parameters RL changed most, and how a step of imitation leaves them alone (MIFO, arXiv 2510.04454)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..tensors import TensorGroups
from .optimizers import PolicyOptimizer


class FrozenEntries:
    """Wraps an optimizer: imitation keeps the `share` largest entries of RL's changes as they are.

    `map <- history map + |theta' - theta|` after each RL step. The threshold is taken per tensor. Costs two more copies
    of the parameters. Not for sharded models.

    Args:
        inner: makes the steps.
        model: its trained parameters.
        share: of each tensor's entries, in (0, 1]; those that RL never changed are free.
        history: decay in [0, 1).

    Raises:
        ConfigError: nothing is trained.
    """

    def __init__(self, inner: PolicyOptimizer, model: nn.Module, share: float, history: float):
        self.inner = inner
        self._named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        if not self._named:
            raise ConfigError("balance.freeze: the model has no trained parameter")
        self.share, self.history = share, history
        self.maps: dict[str, Tensor] = {}

    def set_learning_rate(self, rate: float) -> None:
        self.inner.set_learning_rate(rate)

    @torch.no_grad()
    def step(self, imitates: bool) -> None:
        """As the wrapped optimizer; imitation leaves entries alone, another step is remembered."""
        before = {name: p.detach().clone() for name, p in self._named}
        self.inner.step(imitates)
        for name, p in self._named:
            here = p.detach()
            if imitates:
                here.copy_(torch.where(self.frozen(name, here), before[name], here))
            else:
                change = (here - before[name]).abs()
                old = self.maps.get(name)
                self.maps[name] = change if old is None else self.history * old + change

    def frozen(self, name: str, like: Tensor) -> Tensor:
        """[*] bool, the shape of `like` [*]: entries that imitation leaves alone."""
        found = self.maps.get(name)
        if found is None:
            return torch.zeros_like(like, dtype=torch.bool)
        kept = max(1, round(self.share * found.numel()))
        threshold = found.flatten().kthvalue(found.numel() - kept + 1).values
        return (found >= threshold) & (found > 0)

    def tensors(self) -> TensorGroups:
        return self.inner.tensors() | {"changes": dict(self.maps)}

    def load_tensors(self, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Continue where `tensors` was taken; each map is [*] as its parameter."""
        self.inner.load_tensors(groups)
        devices = {name: p.device for name, p in self._named}
        self.maps = {name: value.clone().to(devices[name]) for name, value in groups.get("changes", {}).items()}
