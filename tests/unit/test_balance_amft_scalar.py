"""AMFT's update of mu: eq 6 by hand, scale freedom, entropy, noise, caps."""

from __future__ import annotations

import math
import random

import pytest
from given_signals import given_signals

from amft.balance.amft_scalar import AMFTScalar
from amft.balance.amft_steps import moments, moments_start, noise_ratio
from amft.balance.registry import build_balance
from amft.errors import ConfigError
from amft.signals.entropy import ENTROPY


def _signals(**values):
    return given_signals(0, 100, **values)


def _after(rule, *signals):
    state = rule.init()
    for one in signals:
        weights, state, metrics = rule.update(state, one)
    return weights, state, metrics


def test_equation_6_by_hand():
    # .5 + 1e-4 * 300 + 5e-4 * (1.2 - 2.2) = .5 + .03 - .0005
    weights, _, metrics = _after(
        build_balance({"rule": "amft-paper"}), _signals(meta_grad=300.0, entropy=2.2, entropy_target=1.2)
    )
    assert weights["sft"] == pytest.approx(0.5295, abs=1e-12)
    assert weights["rl"] == pytest.approx(0.4705, abs=1e-12)
    assert metrics["mix/entropy_push"] == pytest.approx(-5e-4)
    assert metrics["mix/meta_grad"] == 300.0


@pytest.mark.parametrize(("gradient", "bound"), [(1e9, 0.95), (-1e9, 0.05)])
def test_equation_6_clips_in_one_step(gradient, bound):
    weights, _, _ = _after(build_balance({"rule": "amft-paper"}), _signals(meta_grad=gradient))
    assert weights["sft"] == bound


@pytest.mark.parametrize(("sign", "direction"), [(1, -1), (-1, 1)])
@pytest.mark.parametrize("mu_update", ["paper", "normalized", "cosine"])
def test_entropy_above_target_moves_mu_by_the_chosen_sign(mu_update, sign, direction):
    rule = AMFTScalar(mu_update=mu_update, entropy_sign=sign)
    weights, _, _ = _after(rule, _signals(entropy=2.0, entropy_target=1.0))
    assert (weights["sft"] - 0.1) * direction > 0


def test_entropy_speed_at_one_half_is_the_papers_in_every_form():
    # d logit = 4 d mu at mu = 1/2, and the logit forms' default is 4 times the paper's
    ends = [
        _after(AMFTScalar(mu_update=u, mu_init=0.5), _signals(entropy=2.0, entropy_target=1.0))[0]["sft"]
        for u in ("paper", "normalized")
    ]
    assert ends[0] - 0.5 == pytest.approx(ends[1] - 0.5, rel=1e-4)


def test_entropy_none_ignores_entropy():
    weights, _, metrics = _after(AMFTScalar(entropy="none"), _signals(entropy=9.0, entropy_target=1.0))
    assert weights["sft"] == pytest.approx(0.1, abs=1e-12)
    assert metrics["mix/entropy_push"] == 0.0


def test_measured_entropy_joins_the_gradient_without_a_sign():
    # entropy 1 above target, dH/dmu = -3: raising mu lowers entropy, so it is pushed up by lambda * (-1) * (-3) = .3
    rule = AMFTScalar(mu_update="paper", entropy="measured", eta_mu=0.1, eta_h=0.1, mu_init=0.5)
    assert rule.requirements.signals == (ENTROPY,)
    assert rule.requirements.meta_gradient is not None
    assert rule.requirements.meta_gradient.entropy
    weights, _, metrics = _after(rule, _signals(meta_grad=0.0, entropy=2.0, entropy_target=1.0, entropy_grad=-3.0))
    assert metrics["mix/entropy_push"] == pytest.approx(0.3)
    assert weights["sft"] == pytest.approx(0.53)


def test_normalized_first_step_by_hand():
    # one observation: m_hat / sqrt(v_hat) = sign = 1; mu = sigmoid(logit(.1) + 1) = 1 / (1 + 9 / e)
    weights, _, _ = _after(AMFTScalar(), _signals(meta_grad=7e-9))
    assert weights["sft"] == pytest.approx(1 / (1 + 9 / math.e), rel=1e-12)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_normalized_does_not_see_the_scale(scale):
    draws = [random.Random(5).gauss(0.3, 1.0) for _ in range(1)] + [0.4, -0.2, 0.9, 0.1, 0.5, -3.0, 0.2]
    plain = _after(AMFTScalar(), *[_signals(meta_grad=g) for g in draws])[0]["sft"]
    scaled = _after(AMFTScalar(), *[_signals(meta_grad=g * scale) for g in draws])[0]["sft"]
    assert scaled == pytest.approx(plain, rel=1e-9)


def test_cosine_by_hand():
    weights, _, metrics = _after(
        AMFTScalar(mu_update="cosine", eta_mu=2.0, mu_init=0.5), _signals(meta_grad=5.0, meta_cos=0.04)
    )
    assert weights["sft"] == pytest.approx(1 / (1 + math.exp(-0.08)))
    assert metrics["mix/meta_cos"] == 0.04


def test_mu_leaves_a_bound_at_once():
    up, down = _signals(meta_grad=1.0), _signals(meta_grad=-1.0)
    rule = AMFTScalar(beta1=0.0)
    _, state, _ = _after(rule, *[up] * 200)
    assert state["mu"] == 0.95
    weights, _, _ = rule.update(state, down)
    assert weights["sft"] < 0.95


def test_change_per_step_is_capped():
    weights, _, _ = _after(AMFTScalar(eta_mu=50.0, max_change=0.02, mu_init=0.5), _signals(meta_grad=1.0))
    assert weights["sft"] == pytest.approx(0.52)


def test_one_outlier_does_not_silence_the_rule():
    ordinary = [_signals(meta_grad=1.0)] * 30
    _, state, _ = _after(AMFTScalar(), *ordinary, _signals(meta_grad=1e30))
    assert state["v"] < 3.0  # (1 - .99) * 10^2 + .99: the outlier counts as 10 root mean squares


def test_noise_ratio_by_hand():
    # decay .5, observations 1 then 3: weights 1/3 and 2/3; mean 7/3, mean square 19/3, W = 5/9
    # variance = (19/3 - 49/9) / (4/9) = 2 (the unbiased variance of 1 and 3); standard error = sqrt(2 * 5/9)
    state = moments(moments(moments_start(), 1.0, 0.9, 0.99, 0.5), 3.0, 0.9, 0.99, 0.5)
    assert noise_ratio(state, 0.5) == pytest.approx((7 / 3) / math.sqrt(10 / 9))


def test_shrink_slows_noise_and_keeps_signal():
    draw = random.Random(0)
    noise = [_signals(meta_grad=draw.gauss(0.0, 1.0), meta_cos=0.02) for _ in range(200)]
    signal = [_signals(meta_grad=draw.gauss(3.0, 1.0), meta_cos=0.02) for _ in range(200)]

    def ratio(signals):
        rules = [AMFTScalar(mu_update="cosine", eta_mu=0.1, shrink=shrink, mu_init=0.5) for shrink in (True, False)]
        steps = [_after(rule, *signals)[1]["mu"] - 0.5 for rule in rules]
        return steps[0] / steps[1]

    assert ratio(noise) < 0.7
    assert ratio(signal) > 0.9


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"mu_update": "raw"}, "mu_update"),
        ({"utility": "held-out"}, "utility"),
        ({"jacobian": "none"}, "jacobian"),
        ({"entropy": True}, "entropy"),
        ({"entropy_sign": 0}, "entropy_sign"),
        ({"mu_init": 0.99}, "mu_init"),
        ({"mu_min": 0.9, "mu_max": 0.5}, "mu_min"),
        ({"mu_max": 1.5}, "mu_max"),
        ({"horizon": 1.0}, "horizon"),
        ({"beta1": math.nan}, "beta1"),
        ({"eta_mu": -1.0}, "eta_mu"),
        ({"eta_h": "big"}, "eta_h"),
        ({"max_change": 2}, "max_change"),
        ({"shrink": 1}, "shrink"),
        ({"meta_every": 0}, "meta_every"),
        ({"meta_skip": -1}, "meta_skip"),
        ({"entropy": "measured", "mu_update": "cosine"}, "measured"),
    ],
)
def test_settings_out_of_range_are_named(settings, named):
    with pytest.raises(ConfigError, match=named) as raised:
        AMFTScalar(**settings)
    assert "\n" not in str(raised.value)
