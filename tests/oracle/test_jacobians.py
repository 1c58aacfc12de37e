"""Every Jacobian against central differences of the real torch optimizer step, float64."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Adafactor, Adam, AdamW, Muon, Optimizer

from amft.balance.weights import Weights
from amft.errors import OptimizerError
from amft.meta import JACOBIANS, MixGrad, OptimizerStep, register_jacobian
from amft.meta.jacobians import Diagonal, jacobians_of, push_adam
from amft.meta.joint_optimizer import JointOptimizer
from amft.meta.optimizer_step import by_slices

LR = 0.01
CASES = {
    "sgd": lambda p: SGD(p, LR),
    "sgd weight decay": lambda p: SGD(p, LR, weight_decay=0.1),
    "sgd maximize": lambda p: SGD(p, LR, maximize=True),
    "momentum": lambda p: SGD(p, LR, momentum=0.9),
    "dampening": lambda p: SGD(p, LR, momentum=0.9, dampening=0.3),
    "nesterov": lambda p: SGD(p, LR, momentum=0.8, nesterov=True, weight_decay=0.1, maximize=True),
    "adam": lambda p: Adam(p, LR),
    "adam tensor lr": lambda p: Adam(p, torch.tensor(LR, dtype=torch.float64)),
    "adam L2": lambda p: Adam(p, LR, weight_decay=0.3),
    "adam L2 maximize": lambda p: Adam(p, LR, weight_decay=0.3, maximize=True),
    "adamw": lambda p: AdamW(p, LR, weight_decay=0.1),
    "adamw betas .8 .95": lambda p: AdamW(p, LR, betas=(0.8, 0.95), weight_decay=0.1),
    "adamw betas 0 .99": lambda p: AdamW(p, LR, betas=(0.0, 0.99), eps=1e-6),
    "adafactor": lambda p: Adafactor(p, 0.05),
    "adafactor weight decay": lambda p: Adafactor(p, 0.05, weight_decay=0.3),
    "adafactor clipped": lambda p: Adafactor(p, 0.05, d=1.0, beta2_decay=-0.3, eps=(1e-3, 1e-3)),
    "adafactor small parameters": lambda p: Adafactor(p, 0.05, eps=(None, 10.0)),
    "adafactor maximize": lambda p: Adafactor(p, 0.05, maximize=True),
    "two as one": lambda p: JointOptimizer([AdamW(p[:1], LR), Adafactor(p[1:], 0.05)]),
    "adamw maximize": lambda p: AdamW(p, LR, betas=(0.95, 0.999), maximize=True),
}


def _problem(make, steps: int, shapes=((4, 3), (5,))) -> tuple[list[Tensor], Optimizer, list[Tensor], list[Tensor]]:
    """Two parameters and an optimizer that has taken `steps - 1` steps; gradients of the next one."""
    generator = torch.Generator().manual_seed(3)

    def draw() -> list[Tensor]:
        return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]

    params = [p.requires_grad_() for p in draw()]
    optimizer = make(params)
    for _ in range(steps - 1):
        for p, grad in zip(params, draw()):
            p.grad = grad
        optimizer.step()
    return params, optimizer, draw(), draw()


def _moved(params, optimizer, sft, rl, mu: float, max_norm: float | None) -> list[Tensor]:
    params, optimizer = copy.deepcopy((params, optimizer))
    for p, s, r in zip(params, sft, rl):
        p.grad = mu * s + (1 - mu) * r
    if max_norm is not None:
        torch.nn.utils.clip_grad_norm_(params, max_norm)
    optimizer.step()
    return [p.detach() for p in params]


def _pushed(params, optimizer, sft, rl, mu: float, max_norm: float | None) -> list[Tensor]:
    mix = MixGrad(params, optimizer)
    for p, grad in zip(params, rl):
        p.grad = grad.clone()
    mix.stash("rl")
    for p, grad in zip(params, sft):
        p.grad = grad.clone()
    mix.stash("sft")
    mix.combine(Weights.convex(mu))
    mix.clip_(max_norm)
    optimizer.step()
    mix.after_step()
    state = mix.state_dict()
    return [state[f"effect0.{i}"] for i in range(len(params))]


def _relative_error(params, optimizer, sft, rl, max_norm, mu=0.3, eps=1e-5) -> float:
    high = _moved(params, optimizer, sft, rl, mu + eps, max_norm)
    low = _moved(params, optimizer, sft, rl, mu - eps, max_norm)
    truth = torch.cat([(-(a - b) / (2 * eps)).flatten() for a, b in zip(high, low)])
    ours = torch.cat([e.flatten() for e in _pushed(params, optimizer, sft, rl, mu, max_norm)])
    return float((ours - truth).norm() / truth.norm())


@pytest.mark.parametrize("max_norm", [None, 0.5, 1e6])
@pytest.mark.parametrize("steps", [5, 20])
@pytest.mark.parametrize("name", CASES)
def test_push_is_the_derivative_of_the_real_step(name, steps, max_norm):
    assert _relative_error(*_problem(CASES[name], steps), max_norm) < 1e-6


MUON = {
    "plain": {},
    "without nesterov": {"nesterov": False},
    "adamw's size": {"adjust_lr_fn": "match_rms_adamw", "weight_decay": 0.3},
    "three turns": {"ns_steps": 3, "momentum": 0.5},
}


@pytest.mark.parametrize("max_norm", [None, 0.5])
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("name", MUON)
def test_push_is_the_derivative_of_muon(name, steps, max_norm, monkeypatch):
    """torch's own step, kept in float64 where it would round to bfloat16; a wide matrix, a tall one, and a vector."""
    monkeypatch.setattr(Tensor, "bfloat16", Tensor.clone)

    def make(p):
        return JointOptimizer([Muon(p[:2], LR, **MUON[name]), AdamW(p[2:], LR)])

    problem = _problem(make, steps, shapes=((4, 3), (3, 6), (5,)))
    if steps == 1:  # Adam's first step is a sign, whose derivative is 0 but for eps
        problem = _problem(lambda p: Muon(p, LR, **MUON[name]), steps, shapes=((4, 3), (3, 6)))
    assert _relative_error(*problem, max_norm) < 1e-6


@pytest.mark.parametrize("name", ["sgd", "momentum", "dampening", "nesterov", "adafactor"])
def test_first_step_of_sgd(name):
    # torch copies the first gradient into the momentum buffer without dampening
    assert _relative_error(*_problem(CASES[name], 1), 0.5) < 1e-6


def test_inactive_clipping_changes_nothing():
    free = _pushed(*_problem(CASES["adamw"], 5), 0.3, None)
    loose = _pushed(*_problem(CASES["adamw"], 5), 0.3, 1e6)
    assert all(torch.equal(a, b) for a, b in zip(free, loose))


def test_clipping_equals_torch_and_returns_the_norm_before():
    params, optimizer, sft, _ = _problem(CASES["sgd"], 5)
    for p, grad in zip(params, sft):
        p.grad = grad.clone()
    norm = MixGrad(params, optimizer).clip_(0.5)
    twins = [torch.zeros_like(p).requires_grad_() for p in params]
    for twin, grad in zip(twins, sft):
        twin.grad = grad.clone()
    assert norm == float(torch.nn.utils.clip_grad_norm_(twins, 0.5))
    assert all(torch.equal(p.grad, twin.grad) for p, twin in zip(params, twins))


def test_identity_is_the_papers():
    params, optimizer, sft, rl = _problem(CASES["adamw"], 5)
    mix = MixGrad(params, optimizer, jacobian="identity")
    for p, grad in zip(params, rl):
        p.grad = grad.clone()
    mix.stash("rl")
    for p, grad in zip(params, sft):
        p.grad = grad.clone()
    mix.stash("sft")
    mix.combine(Weights.convex(0.3))
    optimizer.step()
    mix.after_step()
    for i, (s, r) in enumerate(zip(sft, rl)):
        torch.testing.assert_close(mix.state_dict()[f"effect0.{i}"], LR * (s - r), rtol=1e-12, atol=0)


def test_coordinate_without_any_gradient_moves_nothing():
    # v = 0 there: the formula alone would be 0/0
    p = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    sft, rl = (torch.tensor(values, dtype=torch.float64) for values in ([1.0, 0.0], [2.0, 0.0]))
    pushed = _pushed([p], Adam([p], LR), [sft], [rl], 0.3, None)
    assert torch.isfinite(pushed[0]).all()
    assert pushed[0][1] == 0


def test_bfloat16_is_pushed_in_float32():
    # truth: the very same bfloat16 numbers in float64; rounding the result alone costs 2^-8 of it at most
    generator = torch.Generator().manual_seed(0)
    p = torch.zeros(64, dtype=torch.bfloat16, requires_grad=True)
    optimizer = AdamW([p], LR)
    for _ in range(6):
        p.grad = torch.randn(64, generator=generator).mul(1e-3).bfloat16()
        optimizer.step()
    d, state = torch.randn(64, generator=generator).mul(1e-3).bfloat16(), optimizer.state[p]
    wide, wide_state = d.double(), {key: value.double() for key, value in state.items()}
    group = optimizer.param_groups[0]
    JACOBIANS[AdamW].push(d, OptimizerStep(p.detach(), p.grad, state, group, first=False))
    JACOBIANS[AdamW].push(wide, OptimizerStep(p.detach().double(), p.grad.double(), wide_state, group, first=False))
    assert d.dtype == torch.bfloat16
    assert float(((d.double() - wide) / wide).abs().max()) < 1.01 * 2**-8


def test_amsgrad_is_refused_when_built():
    p = torch.zeros(2, requires_grad=True)
    for make in (Adam, AdamW):
        with pytest.raises(OptimizerError, match="amsgrad"):
            MixGrad([p], make([p], amsgrad=True))


def test_unknown_optimizer_is_refused_and_can_be_registered():
    class Signed(torch.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": 0.5})

    class Younger(Signed):
        pass

    p = torch.zeros(2, requires_grad=True)
    with pytest.raises(OptimizerError, match=r"Younger.*register_jacobian"):
        MixGrad([p], Younger([p]))
    register_jacobian(Signed, lambda d, step: d.mul_(step.group["lr"]))
    try:
        MixGrad([p], Younger([p]))
    finally:
        del JACOBIANS[Signed]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_by_slices_it_is_the_same_to_the_bit(weight_decay, monkeypatch):
    drawn = torch.Generator().manual_seed(0)
    param, grad, change, mean, square = (torch.randn(37, 101, generator=drawn) for _ in range(5))
    state = {"step": torch.tensor(3.0), "exp_avg": mean, "exp_avg_sq": square.square()}
    group = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": weight_decay}
    step = OptimizerStep(param, grad, state, group, first=False)
    whole, sliced = change.clone(), change.clone()
    push_adam(whole, step)
    monkeypatch.setattr("amft.meta.optimizer_step.CACHED", 128)
    seen = []
    by_slices(lambda d, part: (seen.append(d.numel()), push_adam(d, part)))(sliced, step)
    assert seen == [128] * 29 + [25]
    assert torch.equal(whole, sliced)
    across = change.t().contiguous().t()
    seen.clear()
    by_slices(lambda d, part: (seen.append(d.numel()), push_adam(d, part)))(across, step)
    assert seen == [37 * 101], "no slices of what does not lie in one piece"
    assert torch.equal(whole, across)


@pytest.mark.parametrize("case", CASES)
def test_of_several_changes_each_is_pushed_as_alone(case):
    params, optimizer, grads, changes = _problem(CASES[case], 3)
    for p, grad in zip(params, grads):
        p.grad = grad
    optimizer.step()
    for group, jacobian in zip(optimizer.param_groups, jacobians_of(optimizer), strict=True):
        for param in group["params"]:
            change = next(change for change in changes if change.shape == param.shape)
            step = OptimizerStep(param.detach(), param.grad, optimizer.state[param], group, first=False)
            alone = [change * factor for factor in (1.0, -0.3, 1e3)]
            together = [d.clone() for d in alone]
            for d in alone:
                jacobian.push(d, step)
            jacobian.push_each(together, step)
            for one, other in zip(alone, together, strict=True):
                torch.testing.assert_close(other, one, rtol=1e-12, atol=0.0)


def test_of_several_changes_a_diagonal_is_computed_once():
    calls = []
    jacobian = Diagonal(lambda d, step: (calls.append(1), d.mul_(0.5)))
    d = [torch.ones(3), torch.full((3,), 2.0)]
    step = OptimizerStep(torch.zeros(3), torch.ones(3), {}, {"lr": 1.0}, first=False)
    jacobian.push_each(d, step)
    assert len(calls) == 1
    assert [each.tolist() for each in d] == [[0.5] * 3, [1.0] * 3]
