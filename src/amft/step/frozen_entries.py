"""Which parameters RL changed most, and how a step of imitation leaves them alone (MIFO, arXiv 2510.04454)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..errors import ConfigError


class FrozenEntries:
    """`map <- history map + |theta' - theta|` after each RL step; imitation keeps the `share` largest entries of it.

    The threshold is taken per tensor. Costs two more copies of the parameters. Not for sharded models.

    Args:
        model: its trained parameters.
        share: of each tensor's entries, in (0, 1]; those that RL never changed are free.
        history: decay in [0, 1).

    Raises:
        ConfigError: nothing is trained.
    """

    def __init__(self, model: nn.Module, share: float, history: float):
        self._named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        if not self._named:
            raise ConfigError("balance.freeze: the model has no trained parameter")
        self.share, self.history = share, history
        self.maps: dict[str, Tensor] = {}

    @contextmanager
    def around(self, imitates: bool) -> Iterator[None]:
        """Open around the optimizer's step.

        Args:
            imitates: the step is imitation alone; otherwise what it changes is remembered.
        """
        before = {name: p.detach().clone() for name, p in self._named}
        yield
        with torch.no_grad():
            for name, p in self._named:
                here = p.detach()
                if imitates:
                    here.copy_(torch.where(self.frozen(name, here), before[name], here))
                else:
                    change = (here - before[name]).abs()
                    old = self.maps.get(name)
                    self.maps[name] = change if old is None else self.history * old + change

    def frozen(self, name: str, like: Tensor) -> Tensor:
        """Bool, the shape of `like`: entries that imitation leaves alone."""
        found = self.maps.get(name)
        if found is None:
            return torch.zeros_like(like, dtype=torch.bool)
        kept = max(1, round(self.share * found.numel()))
        threshold = found.flatten().kthvalue(found.numel() - kept + 1).values
        return (found >= threshold) & (found > 0)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.maps)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue where `state_dict` was taken."""
        devices = {name: p.device for name, p in self._named}
        self.maps = {name: value.clone().to(devices[name]) for name, value in state.items()}
