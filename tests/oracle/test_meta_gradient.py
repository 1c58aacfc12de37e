"""dU/dmu through MixGrad against finite differences and an unrolled graph of the real optimizer, float64."""

from __future__ import annotations

import pytest
import torch
from given_signals import given_signals
from meta_oracle import adamw, finite_difference, sgd, take_steps, unroll
from torch.func import functional_call
from torch.nn.functional import mse_loss
from torch.optim import SGD, Adam, AdamW

from amft.balance.amft_scalar import AMFTScalar
from amft.balance.weights import Weights
from amft.meta import MixGrad

OPTIMIZERS = {
    "sgd": lambda p: SGD(p, 0.05),
    "momentum": lambda p: SGD(p, 0.05, momentum=0.9),
    "adam": lambda p: Adam(p, 0.01, weight_decay=0.1),
    "adamw": lambda p: AdamW(p, 0.01, betas=(0.9, 0.95)),
}


def _mlp():
    """Parameters of a two-layer network and three different regression losses on it."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2)).double()
    params = {name: (0.5 * draw(*p.shape)).requires_grad_() for name, p in model.named_parameters()}

    def loss():
        x, y = draw(16, 4), draw(16, 2)
        return lambda p: mse_loss(functional_call(model, p, (x,)), y)

    sft, rl, held_out = loss(), loss(), loss()
    return params, sft, rl, (lambda p: -held_out(p))


def _mixed_step(mix, params, optimizer, sft, rl, mu, max_norm):
    optimizer.zero_grad()
    rl(params).backward()
    mix.stash("rl")
    sft(params).backward()
    mix.stash("sft")
    mix.combine(Weights.convex(mu))
    norm = mix.clip_(max_norm)
    optimizer.step()
    mix.after_step()
    return norm


def _observed(mix, params, utility):
    for p in params.values():
        p.grad = None
    (-utility(params)).backward()
    return mix.observe().get("sft")


def _relative(ours, truth):
    return abs(ours - truth) / abs(truth)


@pytest.mark.parametrize("max_norm", [None, 0.2])
@pytest.mark.parametrize("steps", [5, 20])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_step_meta_gradient(name, steps, max_norm):
    params, sft, rl, utility = _mlp()
    losses = {"sft": sft, "rl": rl}
    optimizer = OPTIMIZERS[name](list(params.values()))
    params, optimizer = take_steps(params, optimizer, **losses, mus=[0.4] * (steps - 1), max_norm=max_norm)
    (truth,) = finite_difference(params, optimizer, **losses, utility=utility, mus=[0.4], max_norm=max_norm)
    mix = MixGrad(params.items(), optimizer)
    norm = _mixed_step(mix, params, optimizer, sft, rl, 0.4, max_norm)
    assert max_norm is None or norm > max_norm  # clipping is active
    assert _relative(_observed(mix, params, utility).dot, truth) < 1e-5


@pytest.mark.parametrize("max_norm", [None, 0.2])
@pytest.mark.parametrize("name", ["momentum", "adamw"])
def test_last_of_two_unrolled_steps(name, max_norm):
    # Claim: after two steps, the observation is the exact derivative by the mu of the LAST step; the autograd
    # unroll and finite differences through the real optimizer agree on both steps' derivatives.
    params, sft, rl, utility = _mlp()
    losses = {"sft": sft, "rl": rl, "utility": utility, "mus": [0.3, 0.6], "max_norm": max_norm}
    rule = {"momentum": sgd(lr=0.05, momentum=0.9), "adamw": adamw(lr=0.01, betas=(0.9, 0.95), weight_decay=0.01)}[name]
    optimizer = OPTIMIZERS[name](list(params.values()))
    exact = unroll(params, rule, **losses)
    assert finite_difference(params, optimizer, **losses, eps=1e-6) == pytest.approx(exact, rel=1e-5)
    mix = MixGrad(params.items(), optimizer)
    for mu in losses["mus"]:
        _mixed_step(mix, params, optimizer, sft, rl, mu, max_norm)
    assert _relative(_observed(mix, params, utility).dot, exact[1]) < 1e-8


def test_trace_is_exact_for_losses_without_curvature():
    # Claim: under plain SGD and losses linear in the parameters a step's effect persists unchanged, so the trace
    # gives gamma dU/dmu_0 + dU/dmu_1 exactly. Curvature would add terms of order lr * Hessian.
    generator = torch.Generator().manual_seed(2)
    a, b = (torch.randn(7, generator=generator, dtype=torch.float64) for _ in range(2))
    params = {"w": torch.randn(7, generator=generator, dtype=torch.float64).requires_grad_()}
    losses = {"sft": lambda p: a @ p["w"], "rl": lambda p: b @ p["w"]}

    def utility(p):
        return -p["w"].square().sum()

    first, last = unroll(params, sgd(lr=0.1), **losses, utility=utility, mus=[0.3, 0.6])
    optimizer = SGD(params.values(), 0.1)
    mix = MixGrad(params.items(), optimizer, horizon=0.7)
    for mu in (0.3, 0.6):
        _mixed_step(mix, params, optimizer, losses["sft"], losses["rl"], mu, None)
    assert _observed(mix, params, utility).dot == pytest.approx(0.7 * first + last, rel=1e-12)


@pytest.mark.parametrize("helps", [True, False])
@pytest.mark.parametrize("update", ["paper", "normalized", "cosine"])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_mu_follows_what_imitation_does_to_the_utility(name, update, helps):
    # SFT pulls w to the utility's optimum, or away from it; RL pulls elsewhere. Directions differ on purpose: along
    # one common line clipping and Adam hide the length of the gradient, so mu would have no effect at all.
    generator = torch.Generator().manual_seed(4)
    goal, elsewhere, start = (torch.randn(9, generator=generator, dtype=torch.float64) for _ in range(3))
    params = {"w": (0.1 * start).requires_grad_()}
    optimizer = OPTIMIZERS[name](list(params.values()))
    mix = MixGrad(params.items(), optimizer, skip=2)
    rule = AMFTScalar(mu_update=update, entropy="none", eta_mu=10.0 if update == "paper" else None)
    state = rule.init()
    target = goal if helps else -goal
    for step in range(12):
        seen = _observed(mix, params, lambda p: -(p["w"] - goal).square().sum())
        signals = given_signals(
            step=step, total_steps=12, meta_grad=seen.dot if seen else None, meta_cos=seen.cos if seen else None
        )
        weights, state, _ = rule.update(state, signals)
        sft, rl = (lambda p: (p["w"] - target).square().sum()), (lambda p: (p["w"] - elsewhere).square().sum())
        _mixed_step(mix, params, optimizer, sft, rl, weights["sft"], 1.0)
    assert (weights["sft"] > 0.55) if helps else (weights["sft"] < 0.45)


@pytest.mark.parametrize(("w_sft", "w_rl"), [(0.0, 1.0), (1.0, 0.0), (0.3, 0.9), (0.9, 0.3), (0.5, 0.5), (0.0, 0.0)])
def test_mix_equals_a_joint_backward(w_sft, w_rl):
    params, sft, rl, _ = _mlp()
    mix = MixGrad(params.items(), SGD(params.values(), 0.1))
    rl(params).backward()
    mix.stash("rl")
    sft(params).backward()
    mix.stash("sft")
    mix.combine(Weights(sft=w_sft, rl=w_rl))
    joint = torch.autograd.grad(w_sft * sft(params) + w_rl * rl(params), list(params.values()))
    for p, grad in zip(params.values(), joint):
        torch.testing.assert_close(p.grad, grad, rtol=1e-12, atol=1e-15)
