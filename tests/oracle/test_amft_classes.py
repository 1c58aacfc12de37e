"""The rule over classes against a manual unroll in float64: traces, Adam on the logit, caps, classes without rows."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim import SGD, AdamW

from amft.balance.amft import AMFT
from amft.meta import MixGrad
from amft.signals.base import Observation, Signals

BRANCHES = ("sft/right", "sft/silent/web", "sft/wrong")
STARTS = {"sft/right": (0.7, 0.2, 0.95), "sft/silent/web": (0.7, 0.02, 0.95), "sft/wrong": (0.05, 0.02, 0.95)}
LR, HORIZON, ETA = 0.05, 0.8, 0.2


def loss(name, theta, step):
    """A curved loss of a branch, other data in every step."""
    draws = torch.Generator().manual_seed(100 * step + len(name))
    a, b = (torch.randn(4, generator=draws, dtype=torch.float64) for _ in range(2))
    return ((theta - a).square() * b.exp()).sum() + (theta * b).sin().sum()


def gradient(name, theta, step):
    point = theta.detach().clone().requires_grad_()
    loss(name, point, step).backward()
    return point.grad


def has_rows(branch, step):
    return branch != "sft/wrong" or step % 3 != 1


def by_the_library(steps, rl=0.5):
    """Weights and dots of every step under MixGrad and the rule."""
    theta = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = SGD([theta], LR)
    mix = MixGrad([theta], optimizer, branches=BRANCHES, direction="free", horizon=HORIZON)
    rule = AMFT(meta_skip=0, max_change=0.05, rl=rl)
    state, rows, dots = rule.init(), [], []
    for step in range(steps):
        theta.grad = gradient("rl", theta, step)
        seen = mix.observe()
        weights, state, _ = rule.update(state, Signals(step, steps, {}, BRANCHES, None, seen))
        mix.stash("rl")
        for branch in BRANCHES:
            if has_rows(branch, step):
                theta.grad = gradient(branch, theta, step)
            mix.stash(branch)
        mix.combine(weights)
        mix.clip_(None)
        optimizer.step()
        mix.after_step()
        rows.append(dict(weights))
        dots.append({branch: found.dot for branch, found in seen.items()})
    return rows, dots


def by_hand(steps, rl=0.5):
    """The same from the equations alone: `e_c`, `m_c`, Adam, logit, cap, bounds."""
    theta = torch.zeros(4, dtype=torch.float64)
    weights = {branch: start for branch, (start, _, _) in STARTS.items()}
    trace = {branch: torch.zeros(4, dtype=torch.float64) for branch in BRANCHES}
    m, v, seen = (dict.fromkeys(BRANCHES, 0.0), dict.fromkeys(BRANCHES, 0.0), dict.fromkeys(BRANCHES, 0))
    rows, dots = [], []
    for step in range(steps):
        g_rl = gradient("rl", theta, step)
        found = {branch: float(g_rl @ trace[branch]) for branch in BRANCHES if step and has_rows(branch, step - 1)}
        for branch, dot in found.items():
            seen[branch] += 1
            if seen[branch] > 5:
                limit = 10.0 * math.sqrt(v[branch] / (1.0 - 0.99 ** (seen[branch] - 1)))
                dot = min(max(dot, -limit), limit)
            m[branch] = 0.9 * m[branch] + 0.1 * dot
            v[branch] = 0.99 * v[branch] + 0.01 * dot * dot
            adam = m[branch] / (1.0 - 0.9 ** seen[branch]) / math.sqrt(v[branch] / (1.0 - 0.99 ** seen[branch]))
            weight, (_, low, high) = weights[branch], STARTS[branch]
            logit = math.log(weight / (1.0 - weight)) + ETA * adam
            moved = min(max(1.0 / (1.0 + math.exp(-logit)), weight - 0.05), weight + 0.05)
            weights[branch] = min(max(moved, low), high)
        g = {branch: gradient(branch, theta, step) for branch in BRANCHES if has_rows(branch, step)}
        rest = 1.0 - max(weights.values()) if rl is None else rl
        theta = theta - LR * (rest * g_rl + sum(weights[branch] * own for branch, own in g.items()))
        trace = {branch: HORIZON * trace[branch] + LR * g.get(branch, 0.0) for branch in BRANCHES}
        rows.append({**weights, "rl": rest})
        dots.append(found)
    return rows, dots


@pytest.mark.parametrize("rl", [0.5, None])
def test_the_weights_are_those_of_a_manual_unroll(rl):
    (ours, seen), (theirs, expected) = by_the_library(40, rl), by_hand(40, rl)
    for a, b, x, y in zip(ours, theirs, seen, expected, strict=True):
        assert a == pytest.approx(b, rel=1e-9)
        assert x == pytest.approx(y, rel=1e-9)
    moved = [max(abs(a[branch] - b[branch]) for a, b in zip(ours[1:], ours)) for branch in BRANCHES]
    assert max(moved) <= 0.05 + 1e-12
    assert min(moved) > 0.0


def utility(weights, at, branch, by, optimizer):
    """Minus the RL loss of the last step's data after real steps, one weight of one step changed."""
    theta = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    stepper = optimizer([theta])
    for step, given in enumerate(weights):
        changed = {**given, branch: given[branch] + (by if step == at else 0.0)}
        theta.grad = 0.5 * gradient("rl", theta, step)
        for name in BRANCHES:
            if has_rows(name, step):
                theta.grad = theta.grad + changed[name] * gradient(name, theta, step)
        stepper.step()
    return -float(loss("rl", theta.detach(), len(weights)))


@pytest.mark.parametrize("optimizer", [lambda p: SGD(p, LR), lambda p: AdamW(p, 0.01)], ids=["sgd", "adamw"])
def test_the_effect_of_each_weight_is_that_of_finite_differences(optimizer):
    steps = 6  # of which the last has rows of every class
    given = [{branch: start for branch, (start, _, _) in STARTS.items()}] * steps
    theta = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    stepper = optimizer([theta])
    mix = MixGrad([theta], stepper, branches=BRANCHES, direction="free")
    for step, weights in enumerate(given):
        theta.grad = gradient("rl", theta, step)
        mix.stash("rl")
        for branch in BRANCHES:
            if has_rows(branch, step):
                theta.grad = gradient(branch, theta, step)
            mix.stash(branch)
        mix.combine({**weights, "rl": 0.5})
        mix.clip_(None)
        stepper.step()
        mix.after_step()
    theta.grad = gradient("rl", theta, steps)
    for branch, found in mix.observe().items():
        ends = [utility(given, steps - 1, branch, by, optimizer) for by in (1e-6, -1e-6)]
        assert found.dot == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5), branch


def test_effects_in_bfloat16_are_those_in_float32_but_for_rounding():
    def effect(dtype):
        theta = torch.zeros(64, requires_grad=True)
        optimizer = AdamW([theta], 0.01)
        mix = MixGrad([theta], optimizer, branches=BRANCHES, direction="free", horizon=0.8, effect_dtype=dtype)
        draws = torch.Generator().manual_seed(0)
        for _ in range(8):
            for branch in ("rl", *BRANCHES):
                theta.grad = torch.randn(64, generator=draws) + 1.0
                mix.stash(branch)
            mix.combine({"rl": 0.5, **dict.fromkeys(BRANCHES, 0.3)})
            mix.clip_(1.0)
            optimizer.step()
            mix.after_step()
        kept = mix.state_dict()["effect2.0"]
        theta.grad = torch.randn(64, generator=draws)
        dot = mix.observe()["sft/wrong"].dot
        assert dot == pytest.approx(float(theta.grad @ kept.float()), rel=1e-4)
        return kept

    narrow, wide = effect(torch.bfloat16), effect(None)
    assert (narrow.dtype, wide.dtype) == (torch.bfloat16, torch.float32)
    assert 0.0 < (narrow.float() - wide).norm() / wide.norm() < 0.01


def test_without_any_class_exploration_has_all_that_is_left():
    rule = AMFT(rl=None)
    weights, _, _ = rule.update(rule.init(), Signals(0, 10, {}, (), None, {}))
    assert dict(weights) == {"rl": 1.0}


def weight_after(dots):
    """Weight of right demonstrations after the given meta-gradients, one a step."""
    rule = AMFT()
    state = rule.init()
    for step, dot in enumerate(dots):
        seen = {"sft/right": Observation(dot, math.copysign(1.0, dot) if dot else 0.0)}
        weights, state, _ = rule.update(state, Signals(step, len(dots), {}, ("sft/right",), None, seen))
    return weights["sft/right"]


def test_steps_whose_rollouts_earn_all_the_same_say_nothing():
    paid = [-0.3, 0.5, -0.2, -0.4]
    silence = [0.0] * 30
    between = [*silence, *(dot for one in paid for dot in (one, *silence))]
    assert weight_after(silence) == 0.7
    assert weight_after(between) == weight_after(paid)


def test_one_paid_step_after_a_long_silence_moves_a_weight_by_one_step():
    lone = weight_after([*[0.0] * 40, -1e-3, *[0.0] * 40])
    assert math.log(0.7 / 0.3) - math.log(lone / (1.0 - lone)) == pytest.approx(ETA)
