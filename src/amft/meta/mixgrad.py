"""The gradients of a step's branches: their mix for the optimizer, and the effect of each weight on the parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from ..errors import CheckpointError, OptimizerError
from ..signals.base import Observation
from ..types import RL
from .inner import TensorLists, inner_products, local
from .inplace import added_in_place, mix_in_place, or_zeros, placed_like
from .jacobians import IDENTITY, jacobians_of
from .optimizer_step import OptimizerStep

Buffer: TypeAlias = list["Tensor | None"]
"""One entry per parameter; None where nothing reached it."""


@dataclass(frozen=True)
class Mixed:
    """The gradients of one step, before clipping."""

    norms: Mapping[str, float]
    """Branch -> norm of its unweighted gradient."""
    cosines: Mapping[str, float]
    """Imitation branch -> cosine with the RL gradient."""


class MixGrad:
    """Mixes the gradients of all branches in place and carries `-dtheta/dw` through clipping and the optimizer.

    Eq 3 and eq 5 of arXiv 2508.06944, with a weight `w_k` for every imitation branch k. Signs: the mixed gradient
    `g = w_rl g_rl + sum_k w_k g_k` moves with `w_k` along `d_k = dg/dw_k`: `g_k - g_rl` in the convex direction (what
    the branch gains, RL loses; with one branch this is eq 3) and `g_k` in the free one. The step
    `theta' = theta - lr u(g)` moves along `dtheta'/dw_k = -lr J d_k`, and the buffer of the branch holds `lr J d_k`.
    With `p.grad = -grad U(theta')`, `dU/dw_k = <grad U, dtheta'/dw_k> = <p.grad, buffer_k>`.

    Order of one step: backward of the RL loss; `observe`; `stash("rl")`; for each imitation branch its backward and
    `stash(branch)`; `combine`; `clip_`; `optimizer.step()`; `after_step`; only then `zero_grad` and the learning-rate
    scheduler. A step that does not mix skips `stash` and `combine`. Gradients must own their memory (no DDP bucket
    views) and be unscaled and already reduced over ranks.

    Memory: one buffer per branch while a step is made; between steps one per imitation branch, in `effect_dtype`. With
    a horizon the latter stay while a step is made. Each buffer is as large as the trained parameters.

    Args:
        params: [*] parameters of the optimizer, or (name, parameter) pairs; frozen ones are ignored.
        optimizer: its Jacobian must be registered, see `amft.meta.register_jacobian`.
        branches: names of the imitation branches, at least one.
        direction: "convex" or "free", see above.
        skip: first optimizer steps whose effect is not observed (Adam's first steps are ill-conditioned).
        horizon: gamma in [0, 1). Above 0 one more buffer holds `trace <- gamma trace + buffer`, and is observed.
        jacobian: "exact", or "identity" as in the paper.
        effect_dtype: in which effects are kept between steps; None: as the gradients.

    Raises:
        OptimizerError: no Jacobian is known, an option is not covered, or a parameter is not the optimizer's.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[tuple[str, Tensor]],
        optimizer: Optimizer,
        *,
        branches: Sequence[str] = ("sft",),
        direction: Literal["convex", "free"] = "convex",
        skip: int = 0,
        horizon: float = 0.0,
        jacobian: Literal["exact", "identity"] = "exact",
        effect_dtype: torch.dtype | None = None,
    ) -> None:
        self.branches, self.direction = tuple(branches), direction
        self._named = _trainable(params)
        self._params = [param for _, param in self._named]
        self._optimizer = optimizer
        groups = optimizer.param_groups
        self._jacobians = [IDENTITY] * len(groups) if jacobian == "identity" else jacobians_of(optimizer)
        self._skip, self._horizon, self._dtype = skip, horizon, effect_dtype
        self._stashed: dict[str, Buffer] = {}
        self._deltas: dict[str, Buffer] = {}
        self._effects: dict[str, Buffer] = {}
        self.observed = self.branches
        """Branches whose effects are kept."""
        self._empty: set[str] = set()
        self._unborn: list[bool] = []
        self.optimizer_steps = 0
        """Seen by `after_step`."""
        self.rejected = 0
        """Observations dropped because they were not finite."""
        owned = {param for group in optimizer.param_groups for param in group["params"]}
        stranger = next((name for name, param in self._named if param not in owned), None)
        if stranger is not None:
            raise OptimizerError(f"parameter {stranger} is not in the optimizer: give both the same parameters")

    def observe(self) -> dict[str, Observation]:
        """Imitation branch -> dU/dw of the previous step, eq 5 of arXiv 2508.06944, from the `p.grad` of this moment.

        `p.grad` is the gradient of a loss whose negative estimates U, on data that the previous step did not use. A
        branch is absent before there is an effect to observe, where it had no rows in the previous step, and when the
        result is not finite (then counted in `rejected`; if an effect itself is not finite, all are dropped).
        """
        grads = self._grads()
        effects = {branch: effect for branch, effect in self._effects.items() if branch not in self._empty}
        if not effects:
            return {}
        pairs = [pair for effect in effects.values() for pair in (_both(grads, effect), _both(effect, effect))]
        grad2, *products = inner_products(_both(grads, grads), *pairs)
        found: dict[str, Observation] = {}
        spoilt = False
        for branch, dot, effect2 in zip(effects, products[::2], products[1::2], strict=True):
            spoilt = spoilt or not math.isfinite(effect2)
            if all(map(math.isfinite, (dot, effect2, grad2))):
                found[branch] = Observation(dot, _cosine(dot, effect2, grad2))
            else:
                self.rejected += 1
        if spoilt:
            self.discard()
        return found

    def stash(self, branch: str) -> None:
        """Set the gradients of a branch aside (a pointer move) and clear `p.grad` for the next backward."""
        if branch == RL and not self._horizon:
            self._effects = {}
        self._stashed[branch] = self._grads()
        for p in self._params:
            p.grad = None

    def combine(self, weights: Mapping[str, float]) -> Mixed:
        """In place: `p.grad <- sum_k w_k g_k` over all branches, buffers `<- d_k`. Eq 3 of arXiv 2508.06944.

        A parameter that a branch did not reach counts as zeros there. With one imitation branch the mix is built from
        the heavier branch plus a multiple of the difference: exact at (1, 0) and (0, 1), and no third buffer.

        Args:
            weights: branch -> weight; the stashed ones and no others count.
        """
        self._deltas = {branch: [None] * len(self._params) for branch in self.branches}
        self._unborn = [not self._optimizer.state.get(p) for p in self._params]
        rl, imitated = self._stashed.pop(RL), {branch: self._stashed.pop(branch) for branch in self.branches}
        pairs = [pair for grads in imitated.values() for pair in (_both(grads, grads), _both(grads, rl))]
        rl2, *products = inner_products(_both(rl, rl), *pairs)
        norms, cosines = {RL: math.sqrt(rl2)}, {}
        for branch, own2, dot in zip(imitated, products[::2], products[1::2], strict=True):
            norms[branch], cosines[branch] = math.sqrt(own2), _cosine(dot, own2, rl2)
        if len(imitated) == 1 and self.direction == "convex":
            self._combine_two(rl, next(iter(imitated.items())), weights)
        else:
            self._combine_all(rl, imitated, weights)
        return Mixed(norms, cosines)

    def _combine_two(self, rl: Buffer, imitated: tuple[str, Buffer], weights: Mapping[str, float]) -> None:
        branch, grads = imitated
        reached = [i for i in range(len(rl)) if rl[i] is not None or grads[i] is not None]
        if not reached:
            return
        own = [or_zeros(grads[i], rl[i]) for i in reached]
        other = [or_zeros(rl[i], grads[i]) for i in reached]
        mix, delta = mix_in_place(own, other, weights[branch], weights[RL])
        for i, mixed, difference in zip(reached, mix, delta):
            self._params[i].grad, self._deltas[branch][i] = mixed, difference

    def _combine_all(self, rl: Buffer, imitated: Mapping[str, Buffer], weights: Mapping[str, float]) -> None:
        """Any number of branches: the storage of the RL gradient takes the mix, those of the others the `d_k`."""
        convex = self.direction == "convex"
        for i, param in enumerate(self._params):
            own = {branch: grads[i] for branch, grads in imitated.items() if grads[i] is not None}
            like = rl[i] if rl[i] is not None else next(iter(own.values()), None)
            if like is None:
                continue
            base = or_zeros(rl[i], like)
            if convex:
                own = {branch: added_in_place(or_zeros(own.get(branch), like), base, -1.0) for branch in imitated}
            scale = sum(weights[branch] for branch in own) if convex else 0.0
            local(base).mul_(weights[RL] + scale)
            for branch, change in own.items():
                added_in_place(base, cast(Tensor, change), weights[branch])
                self._deltas[branch][i] = change
            param.grad = base

    def clip_(self, max_norm: float | None) -> float:
        """Clip `p.grad` with `torch.nn.utils.clip_grad_norm_` and push the buffers through that clipping.

        `g' = s g`, `s = max_norm / (|g| + 1e-6)` when below 1; then `d' = s d - g' <g', d> / (s |g| (|g| + 1e-6))`,
        the exact derivative (torch's 1e-6 included).

        Args:
            max_norm: largest global norm; None measures only.

        Returns:
            The norm before clipping, not finite when a gradient is not.
        """
        if max_norm is None:
            grads = [p.grad for p in self._params if p.grad is not None]
            return math.sqrt(inner_products((grads, grads))[0])
        total = torch.nn.utils.clip_grad_norm_(self._params, max_norm)
        norm = float(total.full_tensor() if isinstance(total, DTensor) else total)
        scale = max_norm / (norm + 1e-6)
        if not math.isfinite(norm) or scale >= 1.0:
            return norm
        reached = [_both(self._grads(), delta) for delta in self._deltas.values()]
        for (used, deltas), dot in zip(reached, inner_products(*reached), strict=True):
            along = dot / (scale * norm * (norm + 1e-6))
            for g, d in zip(used, deltas, strict=True):
                local(d).mul_(scale).add_(local(g), alpha=-along)
        return norm

    @torch.no_grad()
    def after_step(self) -> None:
        """Push the buffers through the optimizer's Jacobian; call right after `optimizer.step()`.

        Raises:
            RuntimeError: the gradients that the step used are gone (`zero_grad` was called too early).
        """
        self.optimizer_steps += 1
        deltas, self._deltas = self._deltas, {}
        self._empty = {branch for branch, delta in deltas.items() if all(d is None for d in delta)}
        if self.optimizer_steps <= self._skip:
            deltas = {}
        self._push(list(deltas.values()))
        past, none = self._effects if self._horizon else {}, [None] * len(self._params)
        self._effects = {
            branch: [self._grown(e, d) for e, d in zip(past.get(branch, none), deltas.get(branch, none), strict=True)]
            for branch in dict.fromkeys([*past, *deltas])
        }

    def discard(self) -> None:
        """Forget every buffer, for example when a step was refused. The optimizer's steps are still counted."""
        self._stashed, self._deltas, self._effects = {}, {}, {}

    def state_dict(self) -> dict[str, Tensor]:
        """The effects still to be observed, [*] as their parameters, and counters []; key `effectK.PARAMETER`.

        Call it between steps.
        """
        state = {"optimizer_steps": torch.tensor(self.optimizer_steps), "rejected": torch.tensor(self.rejected)}
        for k, branch in enumerate(self.observed):
            if branch in self._empty:
                state[f"empty{k}"] = torch.tensor(True)
            for (name, _), effect in zip(self._named, self._effects.get(branch, [])):
                if effect is not None:
                    state[f"effect{k}.{name}"] = effect
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue where `state_dict` was taken; tensors are [*] as their parameters, counters [].

        Raises:
            CheckpointError: a tensor belongs to no branch or parameter of this MixGrad, or has another shape.
        """
        self.discard()
        self.optimizer_steps, self.rejected = int(state["optimizer_steps"]), int(state["rejected"])
        slots = {f"effect{k}": branch for k, branch in enumerate(self.observed)}
        empty = {f"empty{k}": branch for k, branch in enumerate(self.observed) if f"empty{k}" in state}
        self._empty = set(empty.values())
        parameters = dict(self._named)
        found: dict[str, dict[str, Tensor]] = {}
        for key in state.keys() - {"optimizer_steps", "rejected", *empty}:
            slot, _, name = key.partition(".")
            if slot not in slots or name not in parameters:
                raise CheckpointError(
                    f"meta-gradient state has {key}, which is not trained here: resume the same model"
                )
            if state[key].shape != parameters[name].shape:
                raise CheckpointError(f"meta-gradient state of {name} has shape {tuple(state[key].shape)}")
            found.setdefault(slots[slot], {})[name] = state[key]
        for branch in self.observed:
            if branch in found:
                self._effects[branch] = [placed_like(p, found[branch].get(name)) for name, p in self._named]

    def _grads(self) -> Buffer:
        return [p.grad for p in self._params]

    def _push(self, deltas: Sequence[Buffer]) -> None:
        """`d <- lr J d` in place, [*] for every parameter that the step moved."""
        # The Jacobian reads the optimizer's state after the step and the gradient that the step used (clipped, mixed):
        # both are gone once `zero_grad` or another step has been called.
        index = {param: i for i, param in enumerate(self._params)}
        for group, jacobian in zip(self._optimizer.param_groups, self._jacobians, strict=True):
            for param in group["params"]:
                i = index.get(param)
                changes = [] if i is None else [local(d) for delta in deltas if (d := delta[i]) is not None]
                if i is None or not changes:
                    continue
                if param.grad is None:
                    raise RuntimeError("after_step needs the gradients of the step: call it before zero_grad")
                state = {key: local(v) if torch.is_tensor(v) else v for key, v in self._optimizer.state[param].items()}
                step = OptimizerStep(local(param), local(param.grad), state, group, self._unborn[i])
                jacobian.push_each(changes, step)

    def _grown(self, effect: Tensor | None, delta: Tensor | None) -> Tensor | None:
        """`horizon effect + delta`, each [*] or None, in the storage of the one that is there."""
        if delta is None:
            if effect is not None:
                local(effect).mul_(self._horizon)
            return effect
        grown = delta if effect is None else added_in_place(delta, effect, self._horizon)
        return grown if self._dtype is None else grown.to(self._dtype)


def _trainable(params: Iterable[Tensor] | Iterable[tuple[str, Tensor]]) -> list[tuple[str, Tensor]]:
    """(name, parameter [*]) of those that are trained; without names they are numbered."""
    items = list(cast("Iterable[Tensor | tuple[str, Tensor]]", params))
    named = [(str(i), item) if isinstance(item, Tensor) else item for i, item in enumerate(items)]
    return [(name, param) for name, param in named if param.requires_grad]


def _both(xs: Buffer, ys: Buffer) -> TensorLists:
    """The entries that both have, as two lists."""
    pairs = [(x, y) for x, y in zip(xs, ys, strict=True) if x is not None and y is not None]
    return [x for x, _ in pairs], [y for _, y in pairs]


def _cosine(dot: float, square1: float, square2: float) -> float:
    scale = math.sqrt(square1) * math.sqrt(square2)
    return max(-1.0, min(1.0, dot / scale)) if 0.0 < scale < math.inf else 0.0
