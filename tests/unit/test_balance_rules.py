"""The rules that are not AMFT, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
from given_signals import given_signals

from amft.balance.fixed import Fixed, FixedWeights
from amft.balance.gac import Gac
from amft.balance.interleave import Interleave
from amft.balance.log_sigma import LogSigma
from amft.balance.reward_gap import RewardGap
from amft.balance.sasr import Sasr
from amft.balance.scheduled import Ramp, RiseThenDecay, SwitchAt
from amft.balance.weights import Weights
from amft.errors import ConfigError


def mu(rule, step=0, total=100, state=None, **signals):
    return rule.update(rule.init() if state is None else state, given_signals(step, total, **signals))[0]["sft"]


def walk(rule, rows, total=100):
    """The weights of consecutive steps."""
    state, found = rule.init(), []
    for step, signals in enumerate(rows):
        weights, state, _ = rule.update(state, given_signals(step, total, **signals))
        found.append(weights)
    return found


def test_glide():
    # .9 to .1 over the whole stage of 100: halfway .5; a quarter of a cosine: .1 + .8 (1 + cos(pi/4)) / 2.
    assert [mu(Ramp(), step) for step in (0, 50, 100, 200)] == pytest.approx([0.9, 0.5, 0.1, 0.1])
    assert mu(Ramp(shape="cosine"), 25) == pytest.approx(0.1 + 0.8 * (1 + math.cos(math.pi / 4)) / 2)
    assert mu(Ramp(over=10), 5) == pytest.approx(0.5)
    assert mu(Ramp(over=0.5), 25) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "rule", [Ramp(start=0.3, stop=0.3), Ramp(start=0.3, stop=0.3, shape="cosine"), RiseThenDecay(peak=0.3, valley=0.3)]
)
def test_a_schedule_held_constant_is_fixed(rule):
    for step in (0, 1, 37, 99, 500):
        weights, _, _ = rule.update({}, given_signals(step, 100))
        fixed, _, _ = Fixed(0.3).update({}, given_signals(step, 100))
        assert (weights["sft"], weights["rl"]) == pytest.approx((fixed["sft"], fixed["rl"]), abs=1e-12)


def test_chord_hill():
    # Up to .8 in 10 steps, down to .2 in 20: at 5 half way up, at 20 half way down.
    rule = RiseThenDecay(rise=10, fall=20, peak=0.8, valley=0.2)
    assert [mu(rule, step) for step in (0, 5, 10, 20, 30, 99)] == pytest.approx([0, 0.4, 0.8, 0.5, 0.2, 0.2])
    assert mu(RiseThenDecay(), 0) == 0.9
    assert mu(RiseThenDecay(rise=0.1, fall=0.2, peak=0.8, valley=0.2), 20) == pytest.approx(0.5)


def test_chord_reward():
    rule = RewardGap()
    assert [mu(rule, reward=reward) for reward in (0.0, 0.2, 0.5, 0.9)] == pytest.approx([0.5, 0.3, 0.0, 0.0])
    assert walk(rule, [{"reward": 0.2}, {}, {"reward": math.nan}])[-1]["sft"] == pytest.approx(0.3)
    assert mu(rule, reward=-9.0) == 1.0


def test_pair_is_free():
    assert FixedWeights(2.0, 0.5).update({}, given_signals(0, 1))[0] == Weights(sft=2.0, rl=0.5)


def test_log_sigma_takes_two_steps():
    # Weights e^0 = 1 and e^-2. Then s_rl -= .1 (1 - 2 * 1 * .5) = 0, s_sft = 1 - .1 (1 - 2 e^-2 * 3).
    rule = LogSigma(lr=0.1)
    first, second = walk(rule, [{"policy_loss": 9.0, "sft_loss": 9.0}, {"policy_loss": 0.5, "sft_loss": 3.0}])
    assert (first["sft"], first["rl"]) == pytest.approx((math.exp(-2.0), 1.0))
    assert second["rl"] == pytest.approx(1.0)
    assert second["sft"] == pytest.approx(math.exp(-2.0 * (1.0 - 0.1 * (1.0 - 6.0 * math.exp(-2.0)))))


def test_log_sigma_descends_its_own_loss():
    # d/ds [e^(-2s) L + s] = 1 - 2 e^(-2s) L is 0 at e^(-2s) = 1 / (2 L): the weight settles there.
    rule = LogSigma(lr=0.05, decay=1.0)
    found = walk(rule, [{"policy_loss": 2.0, "sft_loss": 0.25}] * 400)[-1]
    assert (found["rl"], found["sft"]) == pytest.approx((1 / 4, 1 / 0.5), rel=1e-3)


def test_sasr_draws_with_its_probability():
    # g_warm = 3; now g = 1 and gamma = 1: P(SFT) = 1/4.
    rule = Sasr()
    state = {"warm": None}
    _, state, _ = rule.update(state, given_signals(0, 10, sft_grad_norm=3.0))
    assert state == {"warm": 3.0}
    found = [rule.update(state, given_signals(step, 10, sft_grad_norm=1.0)) for step in range(2000)]
    assert found[0][2]["mix/p_sft"] == pytest.approx(0.25)
    assert {weights["sft"] for weights, _, _ in found} == {0.0, 1.0}
    assert sum(weights["sft"] for weights, _, _ in found) / 2000 == pytest.approx(0.25, abs=0.03)
    assert mu(rule) == 1.0  # no gradient is known yet
    assert Sasr(gamma=0.0).update(state, given_signals(5, 10, sft_grad_norm=1.0))[2]["mix/p_sft"] == 1.0


def test_interleave_waits_for_enough():
    rule = Interleave(size=3)
    assert [mu(rule, buffered=n) for n in (0, 2, 3, 7)] == [0.0, 0.0, 1.0, 1.0]


def test_gac_by_hand():
    # v_r = .2, v_s = .1, D2 = .6: mu* = (.3 + .2) / .9 = 5/9. Half of it and half of the prior .85: far above .5,
    # so mu moves by .01.
    rule = Gac()
    seen = {"advantage_var": 0.2, "nll_var": 0.1, "coef_gap": 0.6}
    weights, state, metrics = rule.update(rule.init(), given_signals(0, 1000, **seen))
    assert metrics["mix/mu_star"] == pytest.approx(5 / 9)
    assert weights["sft"] == pytest.approx(0.51)
    held, after, _ = rule.update(state, given_signals(5, 1000, **seen))
    assert (held, after) == (weights, state)
    free = Gac(blend=0.0, max_change=1.0)
    assert mu(free, **seen) == pytest.approx(5 / 9)


def test_gac_without_noise_is_a():
    for gap in (0.0, 0.7):
        rule = Gac(a=0.3, blend=0.0, max_change=1.0)
        assert mu(rule, advantage_var=0.0, nll_var=0.0, coef_gap=gap) == pytest.approx(0.3, abs=1e-12)


def test_gac_averages_with_bias_correction():
    # Two looks at v_r = 0 and 1 with decay .5: (.5 * 0 + 1) * .5 / (1 - .25) = 2/3; v_s = 1/3 of the same kind.
    rule = Gac(ema=0.5, every=1, blend=0.0, max_change=1.0, mu_min=0.0, mu_max=1.0)
    rows = [
        {"advantage_var": 0.0, "nll_var": 1.0, "coef_gap": 0.0},
        {"advantage_var": 1.0, "nll_var": 0.0, "coef_gap": 0.0},
    ]
    assert [weights["sft"] for weights in walk(rule, rows)] == pytest.approx([0.0, 2 / 3])


def test_gac_prior():
    rule = Gac(blend=1.0, max_change=1.0, mu_min=0.0, mu_max=1.0, every=1)
    seen = {"advantage_var": 0.1, "nll_var": 0.1, "coef_gap": 0.1}
    assert [mu(rule, step, 2000, **seen) for step in (0, 200, 600, 1000)] == pytest.approx([0.85, 0.85, 0.5, 0.15])


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Ramp(shape="wavy"), "balance.shape"),
        (lambda: Ramp(over=1.5), "balance.over"),
        (lambda: RiseThenDecay(peak=2.0), "balance.peak"),
        (lambda: SwitchAt(sft_optimizer="mine"), "balance.sft_optimizer"),
        (lambda: RewardGap(tau="x"), "balance.tau"),
        (lambda: LogSigma(s_rl=9.0), "balance.s_rl"),
        (lambda: Sasr(gamma=-1.0), "balance.gamma"),
        (lambda: Interleave(size=0), "balance.size"),
        (lambda: Interleave(freeze=2.0), "balance.freeze"),
        (lambda: Gac(every=0), "balance.every"),
        (lambda: FixedWeights(sft=-1.0), "balance.sft"),
    ],
)
def test_mistakes(make, word):
    with pytest.raises(ConfigError, match=word):
        make()
