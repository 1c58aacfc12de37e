"""Approximate Jacobians of bitsandbytes' optimizers: state in 8 bits, and steps that are signs.

Their measured error is in docs/method.md. Nothing of bitsandbytes is imported before one of its optimizers is used.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .optimizer_step import OptimizerStep

SECANT = 0.1
"""Half the width, in mu, over which the step function of Lion is averaged: about as far as mu moves in a step."""

SCALED_TOGETHER = 256
"""Elements that share a scale in 8-bit state; bitsandbytes' own number."""


def packed_adam_state(step: OptimizerStep) -> dict[str, Any]:
    """Moments of AdamW of bitsandbytes, [*] in float32, under torch's names.

    In 8 bits they are what is left after rounding. The second moment cannot be less than what this step's gradient
    brought, so small ones that were rounded to 0 are raised to that.
    """
    moments = [_unpacked(step.state, number) for number in (1, 2)]
    if step.state["state1"].dtype == torch.uint8:
        least = step.grad.float().square().mul_(1.0 - float(step.group["betas"][1]))
        moments[1] = torch.maximum(moments[1], least)
    return {"exp_avg": moments[0], "exp_avg_sq": moments[1], "step": step.state["step"]}


def push_lion(d: Tensor, step: OptimizerStep) -> None:
    """Lion: a secant over `SECANT` of mu to either side, because the derivative is 0 nearly everywhere.

    `u = sign(c)`, `c = b1 m + (1 - b1) g`, `m` before the step (arXiv 2302.06675, program 1). A change of mu by `h`
    changes `c` by `(1 - b1) h d`; `J d = [sign(c + (1 - b1) h d) - sign(c - (1 - b1) h d)] / 2h`.

    Args:
        d: [*] change of the gradient; becomes `lr * J d`.
        step: the step just taken.
    """
    beta1, beta2 = (float(beta) for beta in step.group["betas"][:2])
    grad = step.grad.to(torch.promote_types(step.grad.dtype, torch.float32))
    before = (_unpacked(step.state, 1).to(grad.dtype) - (1.0 - beta2) * grad) / beta2
    middle, reach = beta1 * before + (1.0 - beta1) * grad, (1.0 - beta1) * SECANT * d.to(grad.dtype)
    found = (torch.sign(middle + reach) - torch.sign(middle - reach)).mul_(float(step.group["lr"]) / (2 * SECANT))
    d.copy_(found)


def _unpacked(state: Any, number: int) -> Tensor:
    packed: Tensor = state[f"state{number}"]
    if packed.dtype != torch.uint8:
        return packed
    values = state[f"qmap{number}"][packed.long()]
    scales = state[f"absmax{number}"].repeat_interleave(SCALED_TOGETHER)[: packed.numel()]
    return values * scales.view_as(packed)
