"""The inner products of the two gradients in the optimizer's metric, each between two steps and within one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..signals.base import Observation
from ..types import RL
from .inner import inner_products
from .jacobians import METRIC_STEP
from .mixgrad import Buffer, Mixed, MixGrad


class GramPair(MixGrad):
    """Keeps `P g` of both branches, P the optimizer's metric, and takes its products with the next RL gradient.

    `observe` gives for the RL branch `R = <g_rl(t), P g_rl(t-1)>` and for the imitation branch
    `c = <g_rl(t), P g_sft(t-1)>`: the rollouts of two steps are independent, so the noise of neither adds up. `total`
    of each is `<g(t-1), P g(t-1)>`, noise included. P is `lr / (sqrt(v_hat) + eps)` for Adam and AdamW, else `lr`.

    Memory: two buffers, each as large as the trained parameters.

    Args:
        params: [*] parameters of the optimizer, or (name, parameter) pairs; frozen ones are ignored.
        optimizer: any of torch.
        branch: the imitation branch.
        skip: first optimizer steps that are not measured.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[tuple[str, Tensor]],
        optimizer: Optimizer,
        *,
        branch: str = "sft",
        skip: int = 0,
    ) -> None:
        super().__init__(params, optimizer, branches=(branch,), direction="free", skip=skip, jacobian="identity")
        self._jacobians = [METRIC_STEP] * len(optimizer.param_groups)
        self.observed = (branch, RL)
        self._totals: dict[str, float] = {}

    def observe(self) -> dict[str, Observation]:
        """Branch -> its product with the RL gradient in `p.grad`, and its total; see the class."""
        found = super().observe()
        return {branch: replace(seen, total=self._totals[branch]) for branch, seen in found.items()}

    def combine(self, weights: Mapping[str, float]) -> Mixed:
        """As `MixGrad.combine`, the RL gradient kept apart as well."""
        rl = [None if g is None else g.clone() for g in self._stashed[RL]]
        mixed = super().combine(weights)
        self._deltas[RL] = rl
        return mixed

    def clip_(self, max_norm: float | None) -> float:
        """Clip `p.grad`; the kept gradients stay as they are. Returns the norm before clipping."""
        kept, self._deltas = self._deltas, {}
        norm = super().clip_(max_norm)
        self._deltas = kept
        return norm

    @torch.no_grad()
    def after_step(self) -> None:
        """`g -> P g` for both branches, and their totals; call right after `optimizer.step()`."""
        before = {branch: [None if g is None else g.clone() for g in own] for branch, own in self._deltas.items()}
        super().after_step()
        self._totals = {branch: _product(before[branch], effect) for branch, effect in self._effects.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """As `MixGrad.state_dict`, with `totalK` [] of each branch."""
        totals = [self._totals.get(branch, math.nan) for branch in self.observed]
        return super().state_dict() | {
            f"total{k}": torch.tensor(total, dtype=torch.float64) for k, total in enumerate(totals)
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue where `state_dict` was taken; effects [*] as their parameters, counters and totals []."""
        names = [f"total{k}" for k in range(len(self.observed))]
        super().load_state_dict({key: value for key, value in state.items() if key not in names})
        self._totals = {branch: float(state[name]) for branch, name in zip(self.observed, names, strict=True)}


def _product(xs: Buffer, ys: Buffer) -> float:
    pairs: list[Any] = [(x, y) for x, y in zip(xs, ys, strict=True) if x is not None and y is not None]
    return inner_products(([x for x, _ in pairs], [y for _, y in pairs]))[0]
