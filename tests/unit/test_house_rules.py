"""Rules that go by verdicts or by products of gradients: values worked out by hand."""

from __future__ import annotations

import pytest
import torch
from given_signals import given_signals
from torch.optim import SGD, AdamW

from amft.balance.brake import Brake
from amft.balance.gram_pair import GramPairRule, best_pair
from amft.balance.success_gap import SuccessGap
from amft.balance.verdict_classes import by_verdict_and_source, verdict_of_branch
from amft.balance.verifier_gate import VerifierGate
from amft.meta import GramPair
from amft.signals.base import Observation, Signals
from amft.signals.held_out_likelihood import HELD_OUT_LIKELIHOOD
from amft.signals.paid import PAID
from amft.weighting.base import Tokens
from amft.weighting.mastered import Unmastered

CLASSES = ("sft/right", "sft/silent", "sft/wrong")


def test_classes_are_verdicts_times_sources():
    assert by_verdict_and_source({"verdict": "wrong", "source": "web"}) == "wrong/web"
    assert by_verdict_and_source({"verdict": "right"}) == "right"
    words = {name: verdict_of_branch(name) for name in ("sft", "sft/wrong/web", "sft/right", "sft/silent", "sft/book")}
    assert [*words.values()] == ["silent", "wrong", "right", "silent", "silent"]


def gate(paid, state=None, rule=VerifierGate()):  # noqa: B008
    return rule.update(state or rule.init(), Signals(0, 9, {PAID: paid}, CLASSES))


def test_the_gate_leaves_out_what_is_wrong():
    weights, _, metrics = gate({"wrong": (8, 0), "right": (8, 3)})
    assert dict(weights) == {"sft/right": 0.7, "sft/silent": 0.7, "sft/wrong": 0.0, "rl": 0.3}
    assert metrics == {"mix/verifier_silent": 0.0}


@pytest.mark.parametrize(
    ("last", "silent"),
    [
        ({"wrong": (8, 0), "none": (24, 1)}, True),  # 64 rollouts that earned nothing, and somebody is paid
        ({"wrong": (7, 0), "none": (24, 1)}, False),  # 63
        ({"wrong": (8, 1), "none": (24, 1)}, False),  # one of them is paid: the verifier is not silent there
        ({"wrong": (8, 0), "none": (24, 0)}, False),  # nobody is paid anywhere, so nothing can be said
    ],
)
def test_a_verifier_that_pays_nobody_where_it_says_wrong_is_silent(last, silent):
    state = VerifierGate().init()
    for _ in range(7):
        _, state, _ = gate({"wrong": (8, 0), "none": (24, 0)}, state)
    weights, _, _ = gate(last, state)
    assert weights["sft/wrong"] == (0.7 if silent else 0.0)


def test_what_is_mastered_is_imitated_less():
    # two tokens of probability .5 and .8 make .4, and padding does not count
    logps = torch.tensor([[0.5, 0.8], [0.25, 1e-9]]).log()
    weights = Unmastered()(Tokens(logps, torch.tensor([[1.0, 1.0], [1.0, 0.0]])))
    assert weights.flatten().tolist() == pytest.approx([0.6, 0.75])


def test_the_gap_between_demonstrations_and_policy():
    # q = 3 / 4; p after the first step .25, after the second (.2 * .25 * .8 + .2 * .75) / (1 - .64) = .19 / .36
    rule, counts = SuccessGap(), {"right": 3, "wrong": 1, "silent": 9}
    weights, state, metrics = rule.update(rule.init(), given_signals(success=(0.5, 0.0), verdicts=counts))
    assert weights["sft"] == pytest.approx(0.7 * (0.75 - 0.25) / 0.75)
    assert metrics == pytest.approx({"mix/demo_success": 0.75, "mix/success": 0.25})
    weights, state, _ = rule.update(state, given_signals(success=(1.0, 0.5), verdicts=counts))
    assert weights["sft"] == pytest.approx(0.7 * (0.75 - 0.19 / 0.36) / 0.75)
    assert rule.update(state, given_signals(verdicts=counts))[0] == weights  # no rollouts, nothing new
    assert rule.update(rule.init(), given_signals(success=(1.0,), verdicts=counts))[0]["sft"] == 0.0
    assert rule.update(rule.init(), given_signals(success=(0.0,), verdicts={"wrong": 4}))[0]["sft"] == 0.0
    assert rule.update(rule.init(), given_signals(success=(0.0,), verdicts={"silent": 4}))[0]["sft"] == 0.7


def test_two_falls_in_a_row_pull_the_brake():
    rule = Brake()
    state, brakes = rule.init(), []
    # rises; one fall; a rise; two falls (brake); a fall (the first of the next two); nothing measured; a fall (brake)
    for found in (-2.0, -1.0, -1.5, -1.2, -1.3, -1.4, -1.5, None, -1.6):
        weights, state, metrics = rule.update(state, Signals(0, 9, {HELD_OUT_LIKELIHOOD: found}, CLASSES))
        brakes.append(metrics["mix/brake"])
        assert weights["sft/right"] == weights["sft/silent"] == 0.7 * brakes[-1]
        assert (weights["sft/wrong"], weights["rl"]) == (0.0, 0.3)
    assert brakes == pytest.approx([1, 1, 1, 1, 1, 0.7, 0.7, 0.7, 0.49])


def test_the_best_pair_is_the_best_of_many():
    c, r, total_rl, total_sft = 0.6, 0.5, 3.0, 2.0
    sft, rl = best_pair(c, r, total_rl, total_sft)

    def gain(mu):
        length = mu * mu * total_sft + 2 * mu * (1 - mu) * c + (1 - mu) ** 2 * total_rl
        return (mu * c + (1 - mu) * r) / length**0.5

    best = max((i / 10000 for i in range(10001)), key=gain)
    assert sft / (sft + rl) == pytest.approx(best, abs=1e-4)
    assert (sft, rl) == pytest.approx((0.6 * 2.5, 1.0 - 0.36))


def gram(c, r, total_rl=3.0, total_sft=2.0):
    return Signals(
        meta={"rl": Observation(r, 0.0, total_rl), "sft": Observation(c, 0.0, total_sft)}, step=0, total_steps=9
    )


def test_the_gram_rule_waits_until_the_reward_is_sure_of_its_direction():
    rule = GramPairRule()
    state = rule.init()
    weights, state, _ = rule.update(state, Signals(0, 9))
    assert weights["sft"] == 0.6
    for r in (0.4, 0.6):
        weights, state, metrics = rule.update(state, gram(0.6, r))
    # decayed means of c .6, of r (.97 * .4 + .6) / 1.97 = .50152: w_sft ~ .6 * (3 - r), w_rl ~ 2 r - .36
    r = (0.97 * 0.4 + 0.6) / 1.97
    sft, rl = 0.6 * (3 - r), 2 * r - 0.36
    assert weights["sft"] == pytest.approx(sft / (sft + rl))
    assert metrics["mix/gram_r"] == pytest.approx(r)
    for unsure in (-3.0, 3.0):
        weights, state, metrics = rule.update(state, gram(0.6, unsure))
    assert metrics["mix/gram_snr"] < 2.0
    assert weights["sft"] == 0.6


@pytest.mark.parametrize("adam", [False, True])
def test_products_of_gradients_in_the_metric_of_the_optimizer(adam):
    theta = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = AdamW([theta], 0.1, betas=(0.9, 0.99)) if adam else SGD([theta], 0.1)
    mix = GramPair([theta], optimizer)
    draws = torch.Generator().manual_seed(0)
    v = torch.zeros(3, dtype=torch.float64)
    for t in range(1, 4):
        g_rl, g_sft, following = (torch.randn(3, generator=draws, dtype=torch.float64) for _ in range(3))
        theta.grad = g_rl.clone()
        mix.stash("rl")
        theta.grad = g_sft.clone()
        mix.stash("sft")
        mix.combine({"rl": 0.4, "sft": 0.6})
        norm = mix.clip_(0.5)
        mixed = 0.4 * g_rl + 0.6 * g_sft
        assert norm == pytest.approx(float(mixed.norm()))
        optimizer.step()
        mix.after_step()
        clipped = mixed * min(1.0, 0.5 / (norm + 1e-6))
        v = 0.99 * v + 0.01 * clipped**2
        metric = 0.1 / ((v / (1 - 0.99**t)).sqrt() + 1e-8) if adam else torch.full((3,), 0.1, dtype=torch.float64)
        theta.grad = following.clone()
        again = GramPair([theta], optimizer)
        again.load_state_dict({name: tensor.clone() for name, tensor in mix.state_dict().items()})
        for seen in (mix.observe(), again.observe()):
            assert seen["rl"].dot == pytest.approx(float((following * metric * g_rl).sum()))
            assert seen["sft"].dot == pytest.approx(float((following * metric * g_sft).sum()))
            assert seen["rl"].total == pytest.approx(float((g_rl * metric * g_rl).sum()))
            assert seen["sft"].total == pytest.approx(float((g_sft * metric * g_sft).sum()))
