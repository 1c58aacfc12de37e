"""PPO's limits, its three orders of branches, and what its value head touches."""

from __future__ import annotations

import json

import pytest
import torch

from amft.balance.describe import describe
from amft.balance.meta_gradient import MetaGradient
from amft.balance.methods import RULES
from amft.balance.requirements import Requirements
from amft.balance.weights import Weights
from amft.errors import ConfigError
from amft.settings.config import AMFTConfig
from amft.signals.reward import REWARD
from amft.training.trainer import AMFTTrainer

PROMPTS = [{"prompt": f"Make {n} from {n} and 0:", "completion": f" {n}"} for n in range(12)]


def share_of_odd(prompts, completions, completion_ids, **_):
    del prompts, completions
    return [sum(token % 2 for token in ids) / len(ids) for ids in completion_ids]


def trainer(base, directory, rule=None, **changes):
    settings = {
        "output_dir": str(directory),
        "max_steps": 3,
        "num_prompts": 3,
        "num_generations": 2,
        "num_demos": 3,
        "max_completion_length": 6,
        "learning_rate": 1e-2,
        "dtype": "float64",
        "eval": {"steps": 0},
        "sample_steps": 0,
        "checkpoint": {"steps": 0},
        "loss_type": "ppo",
        "balance": {"rule": "fixed", "mu": 0.3},
    }
    config = AMFTConfig(**(settings | changes))
    return AMFTTrainer(str(base), config, train_dataset=PROMPTS, reward_funcs=share_of_odd, balance=rule)


def parameters(built):
    return torch.cat([p.detach().flatten() for p in built.model.parameters()])


def distance(a, b):
    return float((a - b).norm() / a.norm())


def test_lambda_1_and_a_zero_head_is_reinforce_with_returns(tiny_base, tmp_path):
    limit = trainer(tiny_base, tmp_path / "ppo", ppo={"gamma": 1.0, "lam": 1.0, "vf_coef": 0.0}, scale_rewards="none")
    plain = trainer(tiny_base, tmp_path / "reinforce", loss_type="reinforce")
    limit.train()
    plain.train()
    start = parameters(trainer(tiny_base, tmp_path / "start"))
    assert not any(p.any() for p in limit.learner.critic.head.parameters())
    assert distance(parameters(plain), parameters(limit)) < 1e-6
    assert distance(start, parameters(plain)) > 1e-3


def test_a_frozen_head_leaves_gae_with_gamma_as_discounted_returns(tiny_base, tmp_path):
    built = trainer(tiny_base, tmp_path, ppo={"gamma": 0.5, "lam": 1.0}, scale_rewards="none")
    batch = built.organs.collector.next(built.sources.prompts).batch
    lengths = batch.completion_mask.sum(1)
    rewards = [sum(ids[-6:][:n]) for ids, n in zip((batch.ids % 2).tolist(), lengths.int().tolist(), strict=True)]
    for row, (total, n) in enumerate(zip(rewards, lengths.int().tolist(), strict=True)):
        expected = [total / n * 0.5 ** (n - 1 - t) for t in range(n)]
        assert batch.advantages[row, :n].tolist() == pytest.approx(expected)
        assert batch.returns[row, :n].tolist() == pytest.approx(expected)


class Constant:
    """The weights 0.3 and 0.7, by a rule that makes the trainer work as its requirements demand."""

    def __init__(self, requirements):
        self.requirements = requirements

    def init(self):
        return {}

    def update(self, state, signals):
        del signals
        return Weights.convex(0.3), state, {}


@pytest.mark.parametrize("trunk", ["shared", "detached"])
def test_the_order_of_the_branches_does_not_change_the_numbers(trunk, tiny_base, tmp_path):
    # Weights known before the step; after its rollouts; after its RL gradient, with the two gradients apart.
    settings = {"optim": "sgd", "learning_rate": 0.1, "ppo": {"value_trunk": trunk}, "max_grad_norm": None}
    first, after, apart = (
        trainer(tiny_base, tmp_path / name, rule=Constant(requirements), **settings)
        for name, requirements in [
            ("first", Requirements()),
            ("after", Requirements((REWARD,))),
            ("apart", Requirements(meta_gradient=MetaGradient())),
        ]
    )
    for built in (first, after, apart):
        built.train()
    for other in (after, apart):
        assert distance(parameters(first), parameters(other)) < 1e-6  # transformers normalises in float32
        for a, b in zip(*(x.learner.critic.head.parameters() for x in (first, other)), strict=True):
            assert a.any()
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-9)


def test_a_detached_head_does_not_move_the_policy(tiny_base, tmp_path):
    # lam = 1 and no whitening: the values would enter the advantages, so one step only, where they are all 0.
    settings = {"max_steps": 1, "scale_rewards": "none"}
    with_loss = trainer(tiny_base, tmp_path / "a", ppo={"value_trunk": "detached", "vf_coef": 5.0}, **settings)
    without = trainer(tiny_base, tmp_path / "b", ppo={"vf_coef": 0.0}, **settings)
    with_loss.train()
    without.train()
    assert torch.equal(parameters(with_loss), parameters(without))
    assert with_loss.learner.critic.head.weight.any()
    assert not without.learner.critic.head.weight.any()


def test_the_head_learns_the_return(tiny_base, tmp_path):
    # The policy stands still, so the only way for the value loss to fall is that V explains the returns.
    built = trainer(
        tiny_base,
        tmp_path,
        max_steps=12,
        balance={"rule": "rl"},
        dtype="float32",
        learning_rate=1e-9,
        ppo={"value_learning_rate": 3e-3, "lam": 1.0, "cliprange_value": None, "value_trunk": "detached"},
    )
    built.train()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["value/mean"] == 0.0
    assert rows[0]["value/explained_variance"] == 0.0
    # Six answers a step: the loss of a single one depends on their returns.
    losses = [row["value/loss"] for row in rows]
    assert sum(losses[-4:]) < 0.5 * sum(losses[:4])


def test_the_head_is_in_no_export_and_not_in_the_mix(tiny_base, tmp_path):
    from safetensors import safe_open

    built = trainer(tiny_base, tmp_path / "run", balance={"rule": "amft"}, checkpoint={"steps": 1})
    built.train()
    checkpoint = tmp_path / "run" / "checkpoints" / "step-3"
    with safe_open(checkpoint / "critic.safetensors", "pt") as file:
        assert {"head.weight", "head.bias", "exp_avg.weight"} <= set(file.keys())
    head = {id(p) for p in built.learner.critic.head.parameters()}
    assert not head & {id(p) for p in built.model.parameters()}
    assert not head & {id(p) for p in built.learner.mix._params}
    with safe_open(checkpoint / "model" / "model.safetensors", "pt") as file:
        assert set(file.keys()) <= {name for name, _ in built.model.named_parameters()}


def test_a_gradient_of_the_head_that_is_not_finite_refuses_the_step(tiny_base, tmp_path):
    built = trainer(tiny_base, tmp_path, max_steps=1)
    before = parameters(built)
    built.learner.critic.head.weight.register_hook(lambda grad: grad * float("nan"))
    built.train()
    assert torch.equal(parameters(built), before)
    assert not built.learner.critic.head.weight.any()
    assert "non-finite" in (tmp_path / "events.jsonl").read_text()


@pytest.mark.parametrize("rule", RULES)
def test_under_every_balance_rule(rule, tiny_base, tmp_path):
    settings = {"meta_every": 1, "meta_skip": 0}
    known = next(entry["settings"] for entry in describe() if entry["rule"] == rule)
    early = {name: value for name, value in settings.items() if name in known}
    built = trainer(tiny_base, tmp_path, balance={"rule": rule, **early}, max_steps=2, dtype="float32")
    if built.foundation.method.demo_mixer.pool != "all":
        # Its advantage is defined by a comparison of rows, which a value per token has no place in.
        with pytest.raises(ConfigError, match=f"balance rule {rule} compares rows; choose another loss_type"):
            built.train()
        return
    start = parameters(built)
    built.train()
    found = parameters(built)
    assert found.isfinite().all()
    assert not torch.equal(found, start)
