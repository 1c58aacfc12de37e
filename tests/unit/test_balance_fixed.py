"""Constant and scheduled weights."""

from __future__ import annotations

import pytest
from given_signals import given_signals

from amft.balance.fixed import Fixed
from amft.balance.scheduled import SwitchAt
from amft.balance.weights import Weights
from amft.errors import ConfigError


def _mu(rule, step, total=200):
    weights, _, metrics = rule.update(rule.init(), given_signals(step=step, total_steps=total))
    assert metrics["mix/mu"] == weights["sft"]
    assert weights["sft"] + weights["rl"] == 1.0
    return weights["sft"]


def test_fixed_is_constant():
    assert [_mu(Fixed(0.3), step) for step in (0, 7, 199)] == [0.3] * 3
    assert Fixed(1).update({}, given_signals(step=0, total_steps=1))[0] == Weights(sft=1.0, rl=0.0)


@pytest.mark.parametrize(("switch", "first"), [(0.25, 50), (50, 50), (0, 0), (1, 1), (200, 200), (0.999, 200)])
def test_switch_is_a_fraction_or_a_step(switch, first):
    rule = SwitchAt(switch=switch)
    mus = [_mu(rule, step) for step in range(200)]
    assert mus == [1.0] * first + [0.0] * (200 - first)


def test_switch_between_any_two_weights():
    rule = SwitchAt(switch=2, before=0.2, after=0.7)
    assert [_mu(rule, step) for step in range(4)] == [0.2, 0.2, 0.7, 0.7]


@pytest.mark.parametrize(
    "build",
    [
        lambda: Fixed(1.1),
        lambda: Fixed("half"),
        lambda: Fixed(True),
        lambda: SwitchAt(switch=-1),
        lambda: SwitchAt(switch=10.5),
        lambda: SwitchAt(before=2),
    ],
)
def test_out_of_range_is_refused(build):
    with pytest.raises(ConfigError, match=r"balance\.(mu|switch|before) "):
        build()
