"""BRIDGE (arXiv 2509.06948) against a plain unroll: theta, theta' and the factors of w apart, slopes by autograd."""

from __future__ import annotations

import copy

import exact_norms
import pytest
import torch
from tiny_runs import build, parameters, train
from torch.func import functional_call
from torch.optim import SGD, AdamW

from amft.balance.registry import build_method
from amft.errors import ConfigError
from amft.step.optimizers import hidden_matrices

MU, RANK, RATE, STEPS, CLIP = 0.3, 3, 7.0, 5, 0.05
SPEC = {"rule": "bridge", "mu": MU, "rank": RANK, "teacher_rate": RATE}
RUN = {"dtype": "float64", "max_steps": STEPS, "prefix_tree": False, "lr_warmup_steps": 0, "loss_type": "dapo"}
RUN |= {"epsilon": CLIP, "epsilon_high": CLIP, "temperature": 1.0}
OPTIMIZERS = {
    "sgd": ({"optim": "sgd", "sgd_momentum": 0.0, "learning_rate": 0.3}, SGD),
    "adamw": ({"optim": "adamw", "learning_rate": 0.02, "adam_epsilon": 1e-3, "weight_decay": 0.0}, AdamW),
}


class Unroll:
    """The three kinds of parameters as leaves of their own; `model` only says how a forward pass goes."""

    def __init__(self, trainer, make):
        self.model = copy.deepcopy(trainer.model)
        matrices = set(hidden_matrices(self.model))
        named = dict(self.model.named_parameters())
        self.taught = [name for name, p in named.items() if p in matrices]
        self.theta = {name: p.detach().clone().requires_grad_() for name, p in named.items()}
        self.other = {name: p.detach().clone().requires_grad_() for name, p in named.items()}
        teacher = trainer.learner.optimizer.teacher
        order = [{p: n for n, p in named.items()}[p] for p in hidden_matrices(self.model)]
        self.up = {n: p.detach().clone().requires_grad_() for n, p in zip(order, teacher.up, strict=True)}
        self.down = {n: p.detach().clone().requires_grad_() for n, p in zip(order, teacher.down, strict=True)}
        self.steps = [make(list(self.theta.values()), 1.0), make(list(self.other.values()), 1.0)]
        self.steps.append(make([*self.up.values(), *self.down.values()], RATE))

    def at(self, backbone):
        """The weights of a policy."""
        return {n: p + self.up[n] @ self.down[n] if n in self.taught else p for n, p in backbone.items()}

    def logps(self, backbone, batch):
        """[B, C] of the tokens of the completions, with gradients to backbone and factors."""
        ids, length = batch.ids, batch.completion_mask.shape[1]
        places = (batch.attention_mask.cumsum(1) - 1).clamp(min=0)
        inputs = {"attention_mask": batch.attention_mask, "position_ids": places, "use_cache": False}
        logits = functional_call(self.model, self.at(backbone), (ids,), inputs).logits
        found = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        return found[:, -length:]

    def imitation(self, branch, backbone):
        """Mean NLL."""
        return -(self.logps(backbone, branch.batch) * branch.batch.completion_mask).sum() / branch.count

    def exploration(self, branch, backbone, old):
        """The clipped surrogate, a mean over tokens (DAPO)."""
        batch = branch.batch
        ratio, gains = (self.logps(backbone, batch) - old).exp(), batch.advantages[:, None]
        value = torch.minimum(ratio * gains, ratio.clamp(1 - CLIP, 1 + CLIP) * gains)
        return -(value * batch.completion_mask).sum() / branch.count

    def step(self, exploration, imitation, limit):
        old = self.logps(self.theta, exploration.batch).detach()
        mine, theirs = [*self.theta.values()], [*self.other.values()]
        factors = [*self.up.values(), *self.down.values()]
        alone = self.exploration(exploration, self.other, old)
        mixed = (1 - MU) * self.exploration(exploration, self.theta, old) + MU * self.imitation(imitation, self.theta)
        taught = mixed - (1 - MU) * alone
        for leaves, loss in ((mine, mixed), (theirs, alone), (factors, taught)):
            slopes = torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True)
            for leaf, slope in zip(leaves, slopes, strict=True):
                leaf.grad = torch.zeros_like(leaf) if slope is None else slope
            torch.nn.utils.clip_grad_norm_(leaves, limit)
        for optimizer in self.steps:
            optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_five_steps_are_those_of_a_plain_unroll(name, tmp_path, monkeypatch):
    exact_norms.use(monkeypatch)
    settings, kind = OPTIMIZERS[name]
    trainer = build(tmp_path / "run", SPEC, lr_scheduler_type="constant", max_grad_norm=0.5, **(RUN | settings))
    rest = {"eps": 1e-3, "weight_decay": 0.0, "betas": (0.9, 0.999)} if kind is AdamW else {}
    unroll = Unroll(trainer, lambda leaves, scale: kind(leaves, lr=settings["learning_rate"] * scale, **rest))
    backend, optimizer, seen = trainer.organs.backend, trainer.learner.optimizer, []
    explore, imitate, update = backend.exploration, backend.imitation, backend.update

    def exploration(rollouts):
        seen.append(explore(rollouts))
        return seen[-1]

    def imitation(rollouts):
        seen.extend(imitate(rollouts))
        return seen[-1:]

    def updating(*args):
        exploration, imitation = seen[-2:]
        norm = update(*args)
        unroll.step(exploration, imitation, 0.5)
        for model, backbone in ((trainer.model, unroll.theta), (optimizer.shadow, unroll.other)):
            expected = unroll.at(backbone)
            for key, p in model.named_parameters():
                torch.testing.assert_close(p.detach(), expected[key].detach(), rtol=0, atol=1e-9)
        return norm

    backend.exploration, backend.imitation, backend.update = exploration, imitation, updating
    trainer.train()
    assert len(seen) == 2 * STEPS
    assert max(float(product.abs().max()) for product in optimizer.teacher.products()) > 1e-3
    apart = [p - q for p, q in zip(trainer.model.parameters(), optimizer.shadow.parameters(), strict=True)]
    assert max(float(p.detach().abs().max()) for p in apart) > 1e-3


def test_a_teacher_that_stands_still_leaves_a_constant_mu(tmp_path):
    run = {"dtype": "float64", "max_steps": 4, "sft_warmup_steps": 2}
    plain = train(tmp_path / "plain", {"rule": "fixed", "mu": MU}, **run)
    still = train(tmp_path / "still", {**SPEC, "teacher_rate": 0.0}, **run)
    taught = train(tmp_path / "taught", SPEC, **run)
    assert torch.equal(parameters(plain), parameters(still))
    assert (parameters(plain) - parameters(taught)).norm() > 1e-3 * parameters(plain).norm()


def test_after_the_warm_up_the_shadow_begins_where_the_policy_is(tmp_path):
    trainer = train(tmp_path / "run", SPEC, max_steps=3, sft_warmup_steps=3)
    shadow = torch.cat([p.detach().double().flatten() for p in trainer.learner.optimizer.shadow.parameters()])
    assert torch.equal(parameters(trainer), shadow)


def test_the_seed_draws_the_teacher(tmp_path):
    def drawn(seed):
        return [p.detach().clone() for p in build(tmp_path / str(seed), SPEC, seed=seed).learner.optimizer.teacher.down]

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_rank_is_a_whole_number():
    with pytest.raises(ConfigError, match=r"balance\.rank must be a whole number from 1 on, got 2\.5"):
        build_method({"rule": "bridge", "rank": 2.5})


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"lora": {"r": 2}}, "lora: the rule's teacher has low-rank matrices of its own"),
        ({"parallel": "fsdp2"}, "parallel: fsdp2 cuts the matrices"),
    ],
)
def test_what_a_shadow_cannot_have_is_refused_by_name(changes, names, tmp_path):
    with pytest.raises(ConfigError, match=names):
        build(tmp_path / "run", SPEC, **changes)
