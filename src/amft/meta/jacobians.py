"""How one optimizer step answers a change of its gradient: one function per optimizer.

With `theta' = theta - lr * u(g)`, a change `d` of the gradient moves the parameters by `-lr * J d`, `J = du/dg`.
The optimizers in this file are elementwise, so `J` is a diagonal. It is read from the optimizer's own state after the
step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adafactor, Adam, AdamW, Muon, Optimizer

from ..errors import OptimizerError
from .joint_optimizer import parts_of
from .matrix_jacobians import push_adafactor, push_muon
from .optimizer_step import OptimizerStep, Push, by_slices, sign_of
from .packed_jacobians import packed_adam_state, push_lion


@dataclass(frozen=True)
class Jacobian:
    """The Jacobian of one optimizer and the options it does not cover."""

    push: Push
    refuse: Callable[[Mapping[str, Any]], str | None] | None = None
    """Parameter group -> the name of an option whose Jacobian is unknown, or None."""

    def push_each(self, changes: Sequence[Tensor], step: OptimizerStep) -> None:
        """`d <- lr J d` in place for each of the changes [*] of the gradient of one step."""
        for d in changes:
            self.push(d, step)


@dataclass(frozen=True)
class Diagonal(Jacobian):
    """One that is elementwise and takes many passes: of several changes it is computed once."""

    def push_each(self, changes: Sequence[Tensor], step: OptimizerStep) -> None:
        """See `Jacobian.push_each`."""
        if len(changes) == 1:
            self.push(changes[0], step)
            return
        diagonal = torch.ones_like(changes[0])
        self.push(diagonal, step)
        for d in changes:
            d.mul_(diagonal)


def push_sgd(d: Tensor, step: OptimizerStep) -> None:
    """SGD: `J = 1`; with momentum `1 - dampening` (1 on the first step); Nesterov `1 + momentum` times that.

    Source: torch.optim.SGD, differentiated. Weight decay does not depend on the gradient.

    Args:
        d: [*] change of the gradient; becomes `lr * J d`.
        step: the step just taken.
    """
    group = step.group
    slope = 1.0
    if group["momentum"]:
        slope = 1.0 if step.first else 1.0 - group["dampening"]
        if group["nesterov"]:
            slope = 1.0 + group["momentum"] * slope
    d.mul_(float(group["lr"]) * sign_of(group) * slope)


def push_adam(d: Tensor, step: OptimizerStep) -> None:
    """Adam and AdamW, exact and diagonal.

    `J = [(1-b1)/bc1 - (m_hat/den) (g/sqrt(v_hat)) (1-b2)/bc2] / den`, `den = sqrt(v_hat) + eps`, `m_hat = m/bc1`,
    `v_hat = v/bc2`, `bc_i = 1 - b_i^t`. Source: `u = m_hat/den` of arXiv 1412.6980, differentiated by `g`; computed as
    `J = sqrt(bc2)/bc1 [(1-b1) - (1-b2) (m/D) g/sqrt(v)] / D`, `D = sqrt(v) + eps sqrt(bc2)`, the same with fewer
    passes over memory. With L2 weight decay `g` includes `wd * theta`; `theta` before the step is `theta' + lr u`.
    Float32 at least, so that half-precision state does not underflow. A coordinate with `v = 0` has never had a
    gradient; there the update is a step function with slope 1/eps, which says nothing about a finite change, and
    J is set to 0.

    Args:
        d: [*] change of the gradient; becomes `lr * J d`.
        step: the step just taken.
    """
    group, state = step.group, step.state
    dtype = torch.promote_types(d.dtype, torch.float32)
    beta1, beta2 = (float(beta) for beta in group["betas"])
    time, lr, sign = float(state["step"]), float(group["lr"]), sign_of(group)
    bc1, root_bc2 = 1.0 - beta1**time, math.sqrt(1.0 - beta2**time)
    root = torch.threshold_(state["exp_avg_sq"].to(dtype).sqrt(), 0.0, math.inf)  # v = 0 -> J = 0
    den = root + group["eps"] * root_bc2
    update = state["exp_avg"].to(dtype) / den
    grad = step.grad.to(dtype)
    if group["weight_decay"] and not group.get("decoupled_weight_decay"):
        before = step.param.to(dtype).add(update, alpha=lr * root_bc2 / bc1)
        grad = grad.add(before, alpha=sign * group["weight_decay"])
    work = d.to(dtype).div_(den)
    work.addcmul_(update.mul_(grad).div_(root), work, value=-sign * (1.0 - beta2) / (1.0 - beta1))
    work.mul_(sign * lr * root_bc2 / bc1 * (1.0 - beta1))
    if work is not d:
        d.copy_(work)


def push_adamw(d: Tensor, step: OptimizerStep) -> None:
    """AdamW: as `push_adam`; decoupled weight decay has no effect on J (arXiv 1711.05101, algorithm 2). `d` is [*]."""
    group = {**step.group, "weight_decay": 0.0}
    push_adam(d, OptimizerStep(step.param, step.grad, step.state, group, step.first))


def push_packed_adamw(d: Tensor, step: OptimizerStep) -> None:
    """AdamW of bitsandbytes: as `push_adamw`, on moments that may have been rounded to 8 bits. `d` is [*]."""
    push_adamw(d, OptimizerStep(step.param, step.grad, packed_adam_state(step), step.group, step.first))


def push_identity(d: Tensor, step: OptimizerStep) -> None:
    """The paper's eq 5 (arXiv 2508.06944): `J = 1` whatever the optimizer. `d` is [*]."""
    d.mul_(float(step.group["lr"]) * sign_of(step.group))


def push_metric(d: Tensor, step: OptimizerStep) -> None:
    """`lr d / (sqrt(v_hat) + eps)` with Adam's second moment, `lr d` without one: the metric in which it descends.

    A coordinate with `v = 0` has never had a gradient and gives 0.

    Args:
        d: [*] a gradient; becomes a step of plain descent in that metric.
        step: the step just taken.
    """
    d.mul_(float(step.group["lr"]) * sign_of(step.group))
    if "exp_avg_sq" in step.state:
        _, beta2 = (float(beta) for beta in step.group["betas"])
        second = step.state["exp_avg_sq"].to(torch.promote_types(d.dtype, torch.float32))
        root = (second / (1.0 - beta2 ** float(step.state["step"]))).sqrt()
        d.div_(torch.threshold_(root, 0.0, math.inf) + step.group["eps"])


def _refuse_amsgrad(group: Mapping[str, Any]) -> str | None:
    return "amsgrad" if group.get("amsgrad") else None


JACOBIANS: dict[type[Optimizer], Jacobian] = {
    SGD: Jacobian(push_sgd),
    Adam: Diagonal(by_slices(push_adam), _refuse_amsgrad),
    AdamW: Diagonal(by_slices(push_adamw), _refuse_amsgrad),
    Muon: Jacobian(push_muon),
    Adafactor: Jacobian(push_adafactor),
}
"""Optimizer class -> its Jacobian; a subclass uses its nearest ancestor's."""

PACKED: dict[str, Jacobian] = {
    "AdamW8bit": Diagonal(push_packed_adamw),
    "PagedAdamW8bit": Diagonal(push_packed_adamw),
    "PagedAdamW": Diagonal(push_packed_adamw),
    "Lion": Jacobian(push_lion),
}
"""The same for classes of bitsandbytes, by name, so that it need not be imported."""

IDENTITY = Jacobian(push_identity)
METRIC_STEP = Jacobian(push_metric)


def register_jacobian(optimizer_type: type[Optimizer], fn: Push) -> None:
    """Teach MixGrad one more optimizer.

    Args:
        optimizer_type: class of the optimizer.
        fn: `fn(d, step)` turns a change `d` of the gradient into `lr * J d`, in place; see `push_adam`.
    """
    JACOBIANS[optimizer_type] = Jacobian(fn)


def jacobian_of(optimizer: Optimizer) -> Jacobian:
    """The Jacobian registered for this optimizer's class or its nearest ancestor.

    Raises:
        OptimizerError: no Jacobian is known, or a parameter group uses an option it does not cover.
    """
    name = type(optimizer).__name__
    known = next((JACOBIANS[cls] for cls in type(optimizer).__mro__ if cls in JACOBIANS), None)
    if type(optimizer).__module__.startswith("bitsandbytes."):
        known = PACKED.get(name)
    if known is None:
        names = ", ".join(sorted({cls.__name__ for cls in JACOBIANS} | PACKED.keys()))
        raise OptimizerError(
            f"optimizer {name} has no Jacobian: use {names}, or add it with amft.meta.register_jacobian"
        )
    for group in optimizer.param_groups:
        option = known.refuse(group) if known.refuse else None
        if option:
            raise OptimizerError(f"the Jacobian of {name} with {option}=True is not known: set {option}=False")
    return known


def jacobians_of(optimizer: Optimizer) -> list[Jacobian]:
    """One for each parameter group, in order.

    Raises:
        OptimizerError: as `jacobian_of`.
    """
    return [jacobian_of(part) for part in parts_of(optimizer) for _ in part.param_groups]
