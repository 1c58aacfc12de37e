"""Two slow, independent ways to dU/dmu, to check the fast one: finite differences and an unrolled graph.

Losses are functions of a dict of parameters, for example
`lambda p: F.cross_entropy(torch.func.functional_call(model, p, x), y)`. Use float64.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer

Params: TypeAlias = dict[str, Tensor]
Loss: TypeAlias = Callable[[Params], Tensor]
Rule: TypeAlias = Callable[[int, Tensor, Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]
"""`(t, theta, gradient, memory) -> (theta', memory')`, differentiable; `t` counts from 1, the memory starts empty."""


def take_steps(
    params: Params, optimizer: Optimizer, *, sft: Loss, rl: Loss, mus: Sequence[float], max_norm: float | None = None
) -> tuple[Params, Optimizer]:
    """Real steps on `mu L_SFT + (1 - mu) L_RL` (eq 3 of arXiv 2508.06944), on a deep copy.

    Args:
        params: name -> leaf tensor held by `optimizer`.
        optimizer: any optimizer; its state is copied too.
        sft: imitation loss.
        rl: exploration loss.
        mus: weight of `sft`, one per step.
        max_norm: clips the mixed gradient.

    Returns:
        The copies after the steps.
    """
    params, optimizer = copy.deepcopy((params, optimizer))
    for mu in mus:
        optimizer.zero_grad()
        (mu * sft(params) + (1.0 - mu) * rl(params)).backward()
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(list(params.values()), max_norm)
        optimizer.step()
    return params, optimizer


def finite_difference(
    params: Params,
    optimizer: Optimizer,
    *,
    sft: Loss,
    rl: Loss,
    utility: Loss,
    mus: Sequence[float],
    max_norm: float | None = None,
    eps: float = 1e-5,
) -> list[float]:
    """Central differences of the utility after the steps by the mu of each step, through the real optimizer.

    `dU/dmu_t ~ [U(mu_t + eps) - U(mu_t - eps)] / (2 eps)`, eq 5 of arXiv 2508.06944 without its approximations.

    Args:
        params, optimizer, sft, rl, mus, max_norm: as in `take_steps`; nothing is changed.
        utility: what is differentiated, at the parameters after the last step.
        eps: half width of the difference.

    Returns:
        One derivative per step.
    """

    def after(moved: Sequence[float]) -> float:
        end, _ = take_steps(params, optimizer, sft=sft, rl=rl, mus=moved, max_norm=max_norm)
        return float(utility(end).detach())

    def at(t: int, shift: float) -> list[float]:
        return [mu + shift * (i == t) for i, mu in enumerate(mus)]

    return [(after(at(t, eps)) - after(at(t, -eps))) / (2 * eps) for t in range(len(mus))]


def unroll(
    params: Params,
    rule: Rule,
    *,
    sft: Loss,
    rl: Loss,
    utility: Loss,
    mus: Sequence[float],
    max_norm: float | None = None,
) -> list[float]:
    """The same derivatives by autograd through a hand-written optimizer that starts without memory.

    Args:
        params: name -> tensor; not changed.
        rule: the optimizer, for example `sgd(...)` or `adamw(...)`.
        sft, rl, utility, mus, max_norm: as in `finite_difference`.

    Returns:
        One derivative per step.
    """
    weights = torch.tensor(list(mus), dtype=torch.float64, requires_grad=True)
    theta = {name: value.detach().requires_grad_() for name, value in params.items()}
    memory: dict[str, list[Tensor]] = {name: [] for name in theta}
    for t, mu in enumerate(weights.unbind(), start=1):
        loss = mu * sft(theta) + (1.0 - mu) * rl(theta)
        grads = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
        scale = torch.ones(())
        if max_norm is not None:
            norm = torch.stack([grad.square().sum() for grad in grads]).sum().sqrt()
            scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        moved = {}
        for (name, value), grad in zip(theta.items(), grads):
            moved[name], memory[name] = rule(t, value, scale * grad, memory[name])
        theta = moved
    return torch.autograd.grad(utility(theta), weights)[0].tolist()


def sgd(*, lr: float, momentum: float = 0.0) -> Rule:
    """SGD as in torch.optim, with momentum but without dampening."""

    def rule(_t: int, theta: Tensor, grad: Tensor, memory: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        velocity = momentum * memory[0] + grad if memory else grad
        return theta - lr * velocity, [velocity]

    return rule


def adamw(
    *, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0
) -> Rule:
    """AdamW, arXiv 1711.05101 algorithm 2."""

    def rule(t: int, theta: Tensor, grad: Tensor, memory: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        m, v = memory or [torch.zeros_like(grad), torch.zeros_like(grad)]
        m, v = betas[0] * m + (1 - betas[0]) * grad, betas[1] * v + (1 - betas[1]) * grad**2
        m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        return theta * (1 - lr * weight_decay) - lr * m_hat / (v_hat.sqrt() + eps), [m, v]

    return rule
