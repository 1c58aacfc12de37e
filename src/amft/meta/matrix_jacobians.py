"""Jacobians of optimizers that look at a matrix as a whole: Muon, Adafactor.

They are no diagonals, so `J d` is computed without `J`: the update is written down as a function of the gradient, and
differentiated along `d` (forward mode). The state before the step is solved for from the state after it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp

from .optimizer_step import OptimizerStep, sign_of


def push_muon(d: Tensor, step: OptimizerStep) -> None:
    """Muon: the derivative of its Newton-Schulz iteration, which the step itself computes in bfloat16.

    `u = r NS(c)`, `c = (1 - m) g + m b` with Nesterov, else `c = b`; the buffer `b` holds `m b_old + (1 - m) g`. So
    `J d = r NS'(c) [(1 - m)(1 + m) d]`, or `(1 - m) d` in the bracket; `r` is the factor of the learning rate for the
    shape. Source: torch.optim.Muon (github.com/KellerJordan/Muon, arXiv 2502.16982), differentiated. The derivative is
    that of the map in float32 (float64 for float64); the step rounds the same map to bfloat16 (docs/method.md).

    Args:
        d: [rows, columns] change of the gradient; becomes `lr * J d`.
        step: the step just taken.
    """
    group, dtype = step.group, torch.promote_types(d.dtype, torch.float32)
    momentum, grad = float(group["momentum"]), step.grad.to(dtype)
    given = step.state["momentum_buffer"].to(dtype)
    slope = 1.0 - momentum
    if group["nesterov"]:
        given, slope = grad.lerp(given, momentum), slope * (1.0 + momentum)
    rows, columns = d.shape
    known = {"match_rms_adamw": 0.2 * math.sqrt(max(rows, columns))}
    ratio = known.get(group["adjust_lr_fn"], math.sqrt(max(1.0, rows / columns)))
    _, moved = _along(lambda c: _newton_schulz(c, group), given, d.to(dtype))
    d.copy_(moved.mul_(float(group["lr"]) * ratio * slope))


def _newton_schulz(matrix: Tensor, group: Any) -> Tensor:
    """[rows, columns] -> the same shape, its singular values moved towards 1."""
    a, b, c = group["ns_coefficients"]
    tall = matrix.shape[0] > matrix.shape[1]
    found = matrix.T if tall else matrix
    found = found / found.norm().clamp(min=group["eps"])
    for _ in range(group["ns_steps"]):
        gram = found @ found.T
        found = a * found + (b * gram + c * gram @ gram) @ found
    return found.T if tall else found


def push_adafactor(d: Tensor, step: OptimizerStep) -> None:
    """Adafactor, exact: factored second moments, the clipping of the update and the relative step size included.

    Source: torch.optim.Adafactor (arXiv 1804.04235, algorithms 4 and 5), differentiated by the gradient; the size of
    the parameters, which scales the step, is that before it.

    Args:
        d: [*] change of the gradient; becomes `lr * J d`.
        step: the step just taken.
    """
    group, state = step.group, step.state
    dtype = torch.promote_types(d.dtype, torch.float32)
    grad, weight = sign_of(group) * step.grad.to(dtype), float(state["step"]) ** group["beta2_decay"]
    eps1 = torch.finfo(step.param.dtype).eps if group["eps"][0] is None else group["eps"][0]
    names = ("row_var", "col_var") if "row_var" in state else ("variance",)
    now = [mean.to(dtype) for mean in _squares(grad)]
    before = [state[name].to(dtype) - weight * mean for name, mean in zip(names, now, strict=True)]

    def update(at: Tensor) -> Tensor:
        """[*] -> [*] the direction of the step, before its size."""
        moments = [kept + weight * mean for kept, mean in zip(before, _squares(at), strict=True)]
        variance = moments[0]
        if len(moments) == 2:
            rows, columns = moments
            variance = rows @ columns / rows.mean(-2, keepdim=True).clamp(min=eps1)
        found = at * variance.clamp(min=eps1 * eps1).rsqrt()
        size = found.square().mean().sqrt()
        return found / (size / group["d"]).clamp(min=1.0)

    found, moved = _along(update, grad, sign_of(group) * d.to(dtype))
    d.copy_(moved.mul_(_adafactor_size(step, found)))


def _along(update: Callable[[Tensor], Tensor], at: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """`update(at)` and its derivative along `d`, all [*]."""
    found: tuple[Tensor, Tensor] = jvp(update, (at,), (d,))  # type: ignore[assignment]  # three with auxiliary output
    return found


def _squares(grad: Tensor) -> list[Tensor]:
    """Mean squares of rows and of columns of [..., rows, columns]; of a vector, its squares."""
    squares = grad.square()
    return [squares] if grad.dim() < 2 else [squares.mean(-1, keepdim=True), squares.mean(-2, keepdim=True)]


def _adafactor_size(step: OptimizerStep, update: Tensor) -> float:
    """`alpha = rho max(eps2, rms(theta))`, theta before the step: `theta' (after) = (1 - lr wd) theta - alpha update`.

    `theta` depends on `alpha`; each turn brings it nearer by a factor of the relative step size.
    """
    group, after = step.group, step.param.to(update.dtype)
    lr, shrunk = float(group["lr"]), 1.0 - float(group["lr"]) * group["weight_decay"]
    rho = min(lr, float(step.state["step"]) ** -0.5)
    count = max(after.numel(), 1)
    square, cross, own = (
        float(x) / count for x in (after.square().sum(), (after * update).sum(), update.square().sum())
    )
    alpha = 0.0
    for _ in range(30):
        size = math.sqrt(max(square + 2 * alpha * cross + alpha * alpha * own, 0.0)) / shrunk
        alpha = rho * max(group["eps"][1], size)
    return alpha
