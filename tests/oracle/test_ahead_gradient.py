"""The RL gradient on rollouts of an older policy, by enumeration in float64: what `ahead: 1` may say of utility.

All answers of two tokens stand in one batch, each with the probability under the policy that drew it as part of its
advantage, so that the loss is its expectation. Its gradient is compared with that of U(theta) = sum pi(y) R(y), written
out.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from tiny_runs import WORDS, tiny_model

from amft.balance.registry import build_method
from amft.batch import pad_batch
from amft.settings.config import AMFTConfig
from amft.step.objective import Objective

PROMPT = [2, 3]
ANSWERS = [(a, b) for a in range(len(WORDS)) for b in range(len(WORDS))]


def policies(size):
    """The policy that drew, and the one a step of this size later."""
    old = tiny_model().double()
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in old.parameters():
            p.add_(0.5 * torch.randn(p.shape, generator=draws, dtype=p.dtype))
    new = copy.deepcopy(old)
    with torch.no_grad():
        for p in new.parameters():
            p.add_(size * torch.randn(p.shape, generator=draws, dtype=p.dtype))
    return old, new


def token_logps(model):
    """[A, 2] of every answer."""
    ids = torch.tensor([[*PROMPT, *answer] for answer in ANSWERS])
    logps = model(ids).logits[:, 1:-1].log_softmax(-1)
    return logps.gather(-1, ids[:, 2:, None]).squeeze(-1)


REWARDS = torch.rand(len(ANSWERS), generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def gradient(loss, model):
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(model.parameters()))])


def of_utility(model):
    return gradient((token_logps(model).sum(1).exp() * REWARDS).sum(), model)


def of_rollouts(old, new, **settings):
    """Minus the gradient of the RL loss at `new`, over rollouts of `old`."""
    config = AMFTConfig(loss_type="reinforce", importance_sampling=settings, dtype="float64")
    objective = Objective(config, build_method({"rule": "amft"}), None)
    with torch.no_grad():
        drawn = token_logps(old)
    batch = pad_batch([PROMPT] * len(ANSWERS), [list(answer) for answer in ANSWERS], 1)
    batch = replace(batch, advantages=drawn.sum(1).exp() * REWARDS, engine_logps=drawn)
    return -gradient(objective.rl(new, batch, 1.0).loss, new)


def apart(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


SEQUENCE = {"mode": "sequence_truncate", "clip_max": 1e9}
TOKEN = {"mode": "token_truncate", "clip_max": 1e9}


@pytest.mark.parametrize("size", [0.0, 0.01, 0.1])
def test_with_weights_of_whole_answers_it_is_the_utility_after_the_step(size):
    old, new = policies(size)
    assert apart(of_rollouts(old, new, **SEQUENCE), of_utility(new)) < 1e-10


def test_without_weights_it_is_that_of_no_policy():
    old, new = policies(0.1)
    found = of_rollouts(old, new, correction=False)
    assert apart(found, of_utility(new)) > 0.05
    assert apart(found, of_utility(old)) > 0.05


def test_weights_of_tokens_leave_an_error_of_the_size_of_the_step():
    errors = []
    for size in (0.01, 0.02, 0.04):
        old, new = policies(size)
        errors.append(apart(of_rollouts(old, new, **TOKEN), of_utility(new)))
        assert errors[-1] < apart(of_rollouts(old, new, correction=False), of_utility(new))
    assert errors[1] / errors[0] == pytest.approx(2.0, rel=0.15)
    assert errors[2] / errors[1] == pytest.approx(2.0, rel=0.15)
