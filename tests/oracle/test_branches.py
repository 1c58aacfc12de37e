"""Several imitation branches in MixGrad: the mix, and dU/dw of every branch, against the real optimizer in float64."""

from __future__ import annotations

import pytest
import torch
from torch.optim import SGD, Adam, AdamW

from amft.balance.weights import Weights
from amft.errors import CheckpointError
from amft.meta import MixGrad

OPTIMIZERS = {
    "sgd": lambda p: SGD(p, 0.05),
    "momentum": lambda p: SGD(p, 0.05, momentum=0.9),
    "adam": lambda p: Adam(p, 0.01, weight_decay=0.1),
    "adamw": lambda p: AdamW(p, 0.01, betas=(0.9, 0.95)),
}
BRANCHES = ("sft/right", "sft/wrong")
START = Weights({"rl": 0.6, "sft/right": 0.7, "sft/wrong": 0.2})
STEPS = 3


def draws(seed, n=6):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, generator=generator, dtype=torch.float64) for _ in range(n)]


def losses(theta):
    """Curved losses of one parameter vector: that of every branch, and minus the utility."""
    a, b, c, d, *_ = draws(7)
    return {
        "rl": (theta - a).pow(4).sum(),
        "sft/right": (theta * b).sin().sum() + theta.square().sum(),
        "sft/wrong": (theta - c).square().sum() * 2.0,
        "-utility": (theta - d).square().sum() + (theta * a).cos().sum(),
    }


def gradient(theta, name):
    point = theta.detach().clone().requires_grad_()
    losses(point)[name].backward()
    return point.grad


def trained(optimizer, per_step, max_norm):
    """The parameters after real steps with the weights of each step."""
    theta = draws(3, 1)[0].requires_grad_()
    stepper = OPTIMIZERS[optimizer]([theta])
    for weights in per_step:
        theta.grad = sum(weights[branch] * gradient(theta, branch) for branch in ("rl", *BRANCHES))
        if max_norm:
            torch.nn.utils.clip_grad_norm_([theta], max_norm)
        stepper.step()
    return theta.detach()


def utility_after(optimizer, per_step, max_norm):
    return -float(losses(trained(optimizer, per_step, max_norm))["-utility"])


def changed(weights, branch, by, direction):
    moved = {**weights, branch: weights[branch] + by}
    if direction == "convex":
        moved["rl"] -= by
    return Weights(moved)


def slope(optimizer, branch, direction, max_norm, eps=1e-5):
    """dU/dw of the last step's weight, by central differences through the optimizer."""
    before = [START] * (STEPS - 1)
    ends = [utility_after(optimizer, [*before, changed(START, branch, by, direction)], max_norm) for by in (eps, -eps)]
    return (ends[0] - ends[1]) / (2 * eps)


def mixed(theta, mix, weights):
    theta.grad = gradient(theta, "rl")
    mix.stash("rl")
    for branch in mix.branches:
        theta.grad = gradient(theta, branch)
        mix.stash(branch)
    return mix.combine(weights)


def run(optimizer, direction, max_norm=None, **settings):
    theta = draws(3, 1)[0].requires_grad_()
    stepper = OPTIMIZERS[optimizer]([theta])
    mix = MixGrad([theta], stepper, branches=BRANCHES, direction=direction, **settings)
    for _ in range(STEPS):
        mixed(theta, mix, START)
        mix.clip_(max_norm)
        stepper.step()
        mix.after_step()
    return theta, mix


@pytest.mark.parametrize("max_norm", [None, 0.5])
@pytest.mark.parametrize("direction", ["convex", "free"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_weight_has_the_slope_of_the_real_step(optimizer, direction, max_norm):
    theta, mix = run(optimizer, direction, max_norm)
    torch.testing.assert_close(theta.detach(), trained(optimizer, [START] * STEPS, max_norm), rtol=1e-12, atol=1e-12)
    theta.grad = gradient(theta, "-utility")
    found = mix.observe()
    for branch in BRANCHES:
        assert found[branch].dot == pytest.approx(slope(optimizer, branch, direction, max_norm), rel=1e-6, abs=1e-9)
    assert found[BRANCHES[0]].dot != pytest.approx(found[BRANCHES[1]].dot, rel=1e-2)


def test_norms_and_cosines_are_those_of_the_unweighted_gradients():
    theta = draws(3, 1)[0].requires_grad_()
    found = mixed(theta, MixGrad([theta], SGD([theta], 1.0), branches=BRANCHES), START)
    plain = {branch: gradient(theta, branch) for branch in ("rl", *BRANCHES)}
    assert found.norms == pytest.approx({branch: float(g.norm()) for branch, g in plain.items()})
    cosine = torch.nn.functional.cosine_similarity
    assert found.cosines == pytest.approx({b: float(cosine(plain[b], plain["rl"], dim=0)) for b in BRANCHES})


@pytest.mark.parametrize("direction", ["convex", "free"])
def test_a_branch_without_rows_has_no_effect_of_its_own(direction):
    theta = draws(3, 1)[0].requires_grad_()
    stepper = SGD([theta], 0.5)
    mix = MixGrad([theta], stepper, branches=BRANCHES, direction=direction)
    rl, right = gradient(theta, "rl"), gradient(theta, "sft/right")
    theta.grad = rl.clone()
    mix.stash("rl")
    theta.grad = right.clone()
    mix.stash("sft/right")
    mix.stash("sft/wrong")
    mix.combine(START)
    torch.testing.assert_close(theta.grad, 0.6 * rl + 0.7 * right)
    stepper.step()
    mix.after_step()
    theta.grad = torch.ones_like(theta)
    found = mix.observe()
    if direction == "free":
        assert "sft/wrong" not in found or found["sft/wrong"].dot == 0.0
    else:  # its weight still takes from the RL gradient
        assert found["sft/wrong"].dot == pytest.approx(0.5 * float(-rl.sum()))


def test_the_trace_of_every_branch_fades_apart():
    theta = draws(3, 1)[0].requires_grad_()
    stepper = SGD([theta], 0.5)
    mix = MixGrad([theta], stepper, branches=BRANCHES, direction="free", horizon=0.8)
    expected = {branch: torch.zeros_like(theta) for branch in BRANCHES}
    for _ in range(3):
        for branch in BRANCHES:
            expected[branch] = 0.8 * expected[branch] + 0.5 * gradient(theta, branch)
        mixed(theta, mix, START)
        stepper.step()
        mix.after_step()
    theta.grad = torch.arange(4.0, dtype=torch.float64)
    found = mix.observe()
    for branch in BRANCHES:
        assert found[branch].dot == pytest.approx(float(theta.grad @ expected[branch].detach()), rel=1e-12)


def test_effects_of_all_branches_survive_a_checkpoint_and_other_branches_are_refused():
    theta, mix = run("adamw", "free")
    state = {name: value.clone() for name, value in mix.state_dict().items()}
    again = MixGrad([theta], AdamW([theta], 0.01), branches=BRANCHES, direction="free")
    again.load_state_dict(state)
    theta.grad = gradient(theta, "-utility")
    assert again.observe() == mix.observe()
    with pytest.raises(CheckpointError, match="effect1.0, which is not trained here"):
        MixGrad([theta], AdamW([theta], 0.01)).load_state_dict(state)
