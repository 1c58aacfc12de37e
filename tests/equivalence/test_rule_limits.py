"""Each rule at the setting or on the data where it is another one: the same parameters after a whole small run."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from tiny_runs import build, one, parameters, parity, train, zero

from amft.balance.method import Method
from amft.balance.requirements import Requirements
from amft.balance.weights import Weights
from amft.signals.advantage_variance import ADVANTAGE_VARIANCE
from amft.signals.coefficient_gap import COEFFICIENT_GAP
from amft.signals.entropy import ENTROPY
from amft.signals.nll_variance import NLL_VARIANCE
from amft.signals.reward import REWARD
from amft.signals.success import SUCCESS

RUN = {"max_steps": 4, "dtype": "float64", "optim": "sgd", "learning_rate": 0.1, "max_grad_norm": None}


def run(directory, balance, reward=parity, **changes):
    return parameters(train(directory, balance, reward, **(RUN | changes)))


def bare(directory, balance, reward=parity, **changes):
    """The run with prompts that have no demonstrations."""
    trainer = build(directory, balance, reward, **(RUN | changes))
    trainer.sources.prompts.answers[:] = [[] for _ in trainer.sources.prompts.answers]
    with patch("amft.training.training_run.check_sources"):
        trainer.train()
    return parameters(trainer)


def assert_same(a, b):
    assert float((a - b).norm() / b.norm()) < 1e-6


def assert_moved(a, b):
    assert float((a - b).norm() / b.norm()) > 1e-6


@pytest.mark.parametrize(
    ("balance", "limit"),
    [
        ({"rule": "chord-mu", "peak": 0.0, "valley": 0.0}, "rl"),
        ({"rule": "chord-mu", "peak": 1.0, "valley": 1.0}, "sft"),
        ({"rule": "chord-phi", "mu": 0.0}, "rl"),
        ({"rule": "chord-phi", "mu": 0.3, "token_weight": "none"}, {"rule": "fixed", "mu": 0.3}),
        ({"rule": "linear", "start": 0.3, "stop": 0.3}, {"rule": "fixed", "mu": 0.3}),
        ({"rule": "cosine", "start": 0.3, "stop": 0.3}, {"rule": "fixed", "mu": 0.3}),
        ({"rule": "sft-then-rl", "switch": 0}, "rl"),
        ({"rule": "sft-then-rl", "switch": 99}, "sft"),
        ({"rule": "chord-reward", "tau": -9.0}, "rl"),
        (
            {"rule": "gac", "mu_min": 0.3, "mu_max": 0.3, "mu_init": 0.3, "token_weight": "none"},
            {"rule": "fixed", "mu": 0.3},
        ),
        (
            {"rule": "superrl-sigma", "s_rl": 0.0, "s_sft": 0.0, "lr": 0.0},
            {"rule": "uft", "sft": 1.0, "demo_mixer": "apart"},
        ),
        ({"rule": "sasr", "gamma": 0.0}, "sft"),
        ({"rule": "relift", "size": 10**6}, "rl"),
        ({"rule": "hpt", "gate": -1}, "rl"),
        ({"rule": "hpt-soft", "explore": [1, 1], "off_policy_row": [0, 0], "imitate": [0, 0]}, "rl"),
        (
            {"rule": "hpt-soft", "explore": [0, 0], "off_policy_row": [0, 0], "imitate": [1, 1]},
            {"rule": "hpt", "gate": 99},
        ),
        ({"rule": "hpt", "row_sum": 3}, {"rule": "hpt", "rl": 3.0}),
        ({"rule": "sdpo", "mu": 0.0}, "rl"),
        ({"rule": "sdft", "mu": 0.0}, "rl"),
        ({"rule": "srpo", "sft": 0.0, "demo_mixer": "peer-taught"}, "rl"),
        ({"rule": "hpt-soft", "token_weight": "importance", "iw_temperature": 1e-12}, {"rule": "hpt-soft"}),
        ({"rule": "tapo", "guided": 0.0}, "rl"),
        ({"rule": "uft", "share": 0.0}, "rl"),
        ({"rule": "dft", "token_weight": "none"}, "sft"),
        ({"rule": "iw-sft", "iw_temperature": 1e-12}, "sft"),
        ({"rule": "mifo", "size": 1, "gate": 9, "top": 1.0, "freeze": 0.0}, {"rule": "relift", "size": 1, "gate": 9}),
        ({"rule": "amft-entropy-only", "eta_h": 0.0}, {"rule": "fixed", "mu": 0.1}),
        ({"rule": "amft-meta-only", "eta_mu": 0.0}, {"rule": "fixed", "mu": 0.1}),
    ],
    ids=lambda spec: "-".join(map(str, spec.values())) if isinstance(spec, dict) else spec,
)
def test_a_rule_at_its_limit_is_another(balance, limit, tmp_path):
    assert_same(run(tmp_path / "rule", balance), run(tmp_path / "limit", limit))


@pytest.mark.parametrize("name", ["luffy", "ampo", "prefix-rft", "tapo", "hpt", "superrl", "relift", "uft"])
def test_without_demonstrations_it_is_the_rl_of_the_run(name, tmp_path):
    assert_same(bare(tmp_path / "rule", name), run(tmp_path / "rl", "rl"))


def test_hpt_with_every_prompt_failed_is_imitation_of_the_prompts(tmp_path):
    # All rewards zero: every prompt is imitated, as when the gate lets every prompt through and rewards differ.
    assert_same(run(tmp_path / "zero", "hpt", zero), run(tmp_path / "gate", {"rule": "hpt", "gate": 99}))
    assert_moved(run(tmp_path / "again", "hpt", zero), run(tmp_path / "rl", "rl", zero))


def test_superrl_and_hpt_agree_where_reward_is_success(tmp_path):
    assert_same(run(tmp_path / "superrl", "superrl"), run(tmp_path / "hpt", "hpt"))


def test_superrl_explores_where_every_rollout_is_right(tmp_path):
    assert_same(run(tmp_path / "superrl", "superrl", one), run(tmp_path / "rl", "rl", one))


def test_the_free_pair_is_the_convex_one(tmp_path):
    pair = {"rule": "uft", "sft": 0.3, "rl": 0.7, "demo_mixer": "apart"}
    assert_same(run(tmp_path / "pair", pair), run(tmp_path / "mu", {"rule": "fixed", "mu": 0.3}))


def test_luffy_with_the_plain_ratio_on_policy_is_a_row_of_rl(tmp_path):
    # No off-policy surrogate: a demonstration counts like a rollout. With f(p) = p its gradient is smaller.
    with_ratio = run(tmp_path / "ratio", {"rule": "luffy", "off_policy": "none"})
    assert_moved(run(tmp_path / "shaped", "luffy"), with_ratio)
    assert_moved(with_ratio, run(tmp_path / "rl", "rl"))


class Asking:
    """The weights 0.3 and 0.7 from a rule that reads signals."""

    def __init__(self, *signals):
        self.requirements, self.seen = Requirements(signals), []

    def init(self):
        return {}

    def update(self, state, signals):
        self.seen.append([signals[signal] for signal in self.requirements.signals])
        return Weights.convex(0.3), state, {}


@pytest.mark.parametrize(
    "signals",
    [(REWARD,), (SUCCESS, ADVANTAGE_VARIANCE), (NLL_VARIANCE, COEFFICIENT_GAP), (ENTROPY,)],
    ids=lambda signals: signals[0].name,
)
def test_weights_chosen_after_the_rollouts_give_the_same_step(signals, tmp_path):
    trainer = build(tmp_path / "after", "fixed", **RUN)
    trainer.foundation.method = Method(Asking(*signals))
    trainer.build()
    trainer.train()
    assert all(value is not None for seen in trainer.foundation.method.rule.seen[-4:] for value in seen)
    assert_same(parameters(trainer), run(tmp_path / "before", {"rule": "fixed", "mu": 0.3}))


def test_own_optimizer_starts_rl_with_fresh_moments(tmp_path):
    adam = {"optim": "adamw", "learning_rate": 1e-2}
    spec = {"rule": "sft-then-rl", "switch": 2}
    carried = train(tmp_path / "carried", spec, **(RUN | adam))
    fresh = train(tmp_path / "fresh", {**spec, "sft_optimizer": "own"}, **(RUN | adam))
    assert_moved(parameters(carried), parameters(fresh))
    (first,) = {int(state["step"]) for state in carried.learner.optimizer.optimizer.state.values()}
    (second,) = {int(state["step"]) for state in fresh.learner.optimizer.inner.optimizer.state.values()}
    (imitated,) = {int(state["step"]) for state in fresh.learner.optimizer.imitator.optimizer.state.values()}
    assert (first, second, imitated) == (4, 2, 2)


def test_frozen_entries_do_not_move_in_an_imitation_step(tmp_path):
    trainer = build(tmp_path / "run", {"rule": "mifo", "size": 1, "gate": 9, "freeze": 0.5}, **RUN)
    moves, optimizer, step = [], trainer.learner.optimizer, trainer.learner.optimizer.step

    def watched(imitates):
        before, frozen = parameters(trainer), None
        if imitates:
            named = [(n, p) for n, p in trainer.model.named_parameters() if p.requires_grad]
            frozen = torch.cat([optimizer.frozen(n, p).flatten() for n, p in named])
        moves.append((imitates, before, frozen))
        step(imitates)

    optimizer.step = watched
    trainer.train()
    ends = [before for _, before, _ in moves[1:]] + [parameters(trainer)]
    imitation = [(b, e, f) for (imitates, b, f), e in zip(moves, ends, strict=True) if imitates]
    assert imitation
    for before, end, frozen in imitation:
        assert 0.1 < frozen.double().mean() < 0.6
        assert not (end - before)[frozen].any()
        assert (end - before)[~frozen].any()
