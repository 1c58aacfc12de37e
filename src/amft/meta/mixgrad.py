"""Two gradients, one extra buffer: their mix for the optimizer, their difference for the meta-gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from ..errors import CheckpointError, OptimizerError
from .inner import inner_products, local
from .inplace import mix_in_place, or_zeros, placed_like, sum_of
from .jacobians import IDENTITY, Step, jacobian_of


@dataclass(frozen=True)
class Observation:
    """The meta-gradient of the previous step."""

    dot: float
    """`<p.grad, -dtheta/dmu>`: dU/dmu when `p.grad` is the gradient of a loss that estimates -U."""
    cos: float
    """The same, divided by both norms; 0 when one of them is 0."""


@dataclass(frozen=True)
class Mixed:
    """The two gradients of one step, before clipping."""

    norm_sft: float
    norm_rl: float
    cos: float


class Pair(Protocol):
    """Weights of the two losses; see `amft.balance.base.Weights`."""

    @property
    def sft(self) -> float: ...
    @property
    def rl(self) -> float: ...


class MixGrad:
    """Mixes two gradients in place and carries `-dtheta/dmu` through clipping and the optimizer.

    Eq 3 and eq 5 of arXiv 2508.06944. Signs: the mixed gradient `g = w_sft g_sft + w_rl g_rl` moves with mu along
    `d = dg/dmu = g_sft - g_rl`; the step `theta' = theta - lr u(g)` moves along `dtheta'/dmu = -lr J d`; the buffer
    holds `lr J d`. With `p.grad = -grad U(theta')`, `dU/dmu = <grad U, dtheta'/dmu> = <p.grad, buffer>`.

    Order of one step: backward of the RL loss; `observe`; `stash`; backward of the SFT loss; `combine`; `clip_`;
    `optimizer.step()`; `after_step`; only then `zero_grad` and the learning-rate scheduler. A step that does not
    mix skips `stash` and `combine`. Gradients must own their memory (no DDP bucket views) and be unscaled and
    already reduced over ranks.

    Args:
        params: parameters of the optimizer, or (name, parameter) pairs; frozen ones are ignored.
        optimizer: its Jacobian must be registered, see `amft.meta.register_jacobian`.
        skip: first optimizer steps whose effect is not observed (Adam's first steps are ill-conditioned).
        horizon: gamma in [0, 1). Above 0 one more buffer holds `trace <- gamma trace + buffer`, and is observed.
        jacobian: "exact", or "identity" as in the paper.

    Raises:
        OptimizerError: no Jacobian is known, an option is not covered, or a parameter is not the optimizer's.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[tuple[str, Tensor]],
        optimizer: Optimizer,
        *,
        skip: int = 0,
        horizon: float = 0.0,
        jacobian: Literal["exact", "identity"] = "exact",
    ) -> None:
        self._named = _trainable(params)
        self._params = [param for _, param in self._named]
        self._optimizer = optimizer
        self._jacobian = IDENTITY if jacobian == "identity" else jacobian_of(optimizer)
        self._skip, self._horizon = skip, horizon
        self._rl: list[Tensor | None] = [None] * len(self._params)
        self._delta: list[Tensor | None] | None = None
        self._effect: list[Tensor | None] | None = None
        self._unborn: list[bool] = []
        self.life = 0
        """Optimizer steps seen by `after_step`."""
        self.rejected = 0
        """Observations dropped because they were not finite."""
        owned = {param for group in optimizer.param_groups for param in group["params"]}
        stranger = next((name for name, param in self._named if param not in owned), None)
        if stranger is not None:
            raise OptimizerError(f"parameter {stranger} is not in the optimizer: give both the same parameters")

    def observe(self) -> Observation | None:
        """dU/dmu of the previous step, eq 5 of arXiv 2508.06944, from the `p.grad` of this moment.

        `p.grad` is the gradient of a loss whose negative estimates U, on data that the previous step did not use.
        None before there is an effect to observe, and when the result is not finite (then counted in `rejected`;
        an effect that is itself not finite is dropped).
        """
        if self._effect is None:
            return None
        effects = [e for e in self._effect if e is not None]
        both = [(p.grad, e) for p, e in zip(self._params, self._effect) if p.grad is not None and e is not None]
        grads = [p.grad for p in self._params if p.grad is not None]
        dot, effect2, grad2 = inner_products(
            ([g for g, _ in both], [e for _, e in both]), (effects, effects), (grads, grads)
        )
        if not math.isfinite(effect2):
            self.discard()
        if not all(map(math.isfinite, (dot, effect2, grad2))):
            self.rejected += 1
            return None
        return Observation(dot, _cosine(dot, effect2, grad2))

    def stash(self) -> None:
        """Set the RL gradients aside (a pointer move) and clear `p.grad` for the next backward."""
        if not self._horizon:
            self._effect = None
        self._rl = [p.grad for p in self._params]
        for p in self._params:
            p.grad = None

    def combine(self, weights: Pair) -> Mixed:
        """In place: `p.grad <- w_sft g_sft + w_rl g_rl`, buffer `<- g_sft - g_rl`.

        Eq 3 of arXiv 2508.06944 with free weights. The mix is built from the heavier branch plus a multiple of the
        difference, so it is exact at (1, 0) and (0, 1), divides by nothing and needs no third buffer. A parameter
        that one branch did not reach counts as zeros there.

        Args:
            weights: of the two losses.
        """
        reached = [i for i, p in enumerate(self._params) if p.grad is not None or self._rl[i] is not None]
        sft = [or_zeros(self._params[i].grad, self._rl[i]) for i in reached]
        rl = [or_zeros(self._rl[i], self._params[i].grad) for i in reached]
        sft2, rl2, dot = inner_products((sft, sft), (rl, rl), (sft, rl))
        mix, delta = mix_in_place(sft, rl, weights.sft, weights.rl) if reached else ([], [])
        self._delta = [None] * len(self._params)
        for i, mixed, difference in zip(reached, mix, delta):
            self._params[i].grad, self._delta[i] = mixed, difference
        self._rl = [None] * len(self._params)
        self._unborn = [not self._optimizer.state.get(p) for p in self._params]
        return Mixed(math.sqrt(sft2), math.sqrt(rl2), _cosine(dot, sft2, rl2))

    def clip_(self, max_norm: float | None) -> float:
        """Clip `p.grad` with `torch.nn.utils.clip_grad_norm_` and push the buffer through that clipping.

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
        if self._delta is None or not math.isfinite(norm) or scale >= 1.0:
            return norm
        both = [(p.grad, d) for p, d in zip(self._params, self._delta) if p.grad is not None and d is not None]
        grads, deltas = [g for g, _ in both], [d for _, d in both]
        (dot,) = inner_products((grads, deltas))
        torch._foreach_mul_([local(d) for d in deltas], scale)
        along = dot / (scale * norm * (norm + 1e-6))
        torch._foreach_add_([local(d) for d in deltas], [local(g) for g in grads], alpha=-along)
        return norm

    @torch.no_grad()
    def after_step(self) -> None:
        """Push the buffer through the optimizer's Jacobian; call right after `optimizer.step()`.

        Raises:
            RuntimeError: the gradients that the step used are gone (`zero_grad` was called too early).
        """
        self.life += 1
        if self._horizon and self._effect is not None:
            torch._foreach_mul_([local(e) for e in self._effect if e is not None], self._horizon)
        elif not self._horizon:
            self._effect = None
        delta, self._delta = self._delta, None
        if delta is None or self.life <= self._skip:
            return
        self._push(delta)
        if self._effect is None:
            self._effect = delta
        else:
            self._effect = [sum_of(effect, new) for effect, new in zip(self._effect, delta)]

    def discard(self) -> None:
        """Forget every buffer, for example when a step was refused. The optimizer's life goes on."""
        self._rl = [None] * len(self._params)
        self._delta = self._effect = None

    def state_dict(self) -> dict[str, Tensor]:
        """The effect still to be observed and two counters; call it between steps."""
        state = {"life": torch.tensor(self.life), "rejected": torch.tensor(self.rejected)}
        for (name, _), effect in zip(self._named, self._effect or []):
            if effect is not None:
                state[f"effect.{name}"] = effect
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue where `state_dict` was taken.

        Raises:
            CheckpointError: a tensor belongs to no parameter of this MixGrad, or has another shape.
        """
        effects = {key[len("effect.") :]: value for key, value in state.items() if key.startswith("effect.")}
        for name in sorted(effects.keys() - {name for name, _ in self._named}):
            raise CheckpointError(f"meta-gradient state has {name}, which is not trained here: resume the same model")
        for name, param in self._named:
            if name in effects and effects[name].shape != param.shape:
                raise CheckpointError(f"meta-gradient state of {name} has shape {tuple(effects[name].shape)}")
        self.discard()
        self.life, self.rejected = int(state["life"]), int(state["rejected"])
        if effects:
            self._effect = [placed_like(param, effects.get(name)) for name, param in self._named]

    def _push(self, delta: list[Tensor | None]) -> None:
        index = {param: i for i, param in enumerate(self._params)}
        for group in self._optimizer.param_groups:
            for param in group["params"]:
                i = index.get(param)
                change = None if i is None else delta[i]
                if i is None or change is None:
                    continue
                if param.grad is None:
                    raise RuntimeError("after_step needs the gradients of the step: call it before zero_grad")
                state = {key: local(v) if torch.is_tensor(v) else v for key, v in self._optimizer.state[param].items()}
                step = Step(local(param), local(param.grad), state, group, self._unborn[i])
                self._jacobian.push(local(change), step)


def _trainable(params: Iterable[Tensor] | Iterable[tuple[str, Tensor]]) -> list[tuple[str, Tensor]]:
    items = list(cast("Iterable[Tensor | tuple[str, Tensor]]", params))
    named = [(str(i), item) if isinstance(item, Tensor) else item for i, item in enumerate(items)]
    return [(name, param) for name, param in named if param.requires_grad]


def _cosine(dot: float, square1: float, square2: float) -> float:
    scale = math.sqrt(square1) * math.sqrt(square2)
    return max(-1.0, min(1.0, dot / scale)) if 0.0 < scale < math.inf else 0.0
