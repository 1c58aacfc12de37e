"""From rewards to advantages as each loss was published, with pencil and paper."""

from __future__ import annotations

import math

import pytest
import torch

from amft.advantages import soft_overlong_penalty
from amft.batch import pad_batch
from amft.errors import ConfigError
from amft.experience.advantage_estimator import AdvantageEstimator
from amft.losses.choices import POLICY_LOSSES
from amft.settings.config import AMFTConfig

EPS = 1e-4
# Two prompts, two completions each, of 2, 1, 1 and 1 tokens.
BATCH = pad_batch([[5]] * 4, [[6, 7], [6], [8], [9]], 0)
REWARDS = torch.tensor([1.0, 0.0, 3.0, 0.0])
NAN = math.nan


def credited(loss_type, rewards=REWARDS, kl=None, values=None, **settings):
    """`kl`: log pi - log pi_ref of the tokens; `values`: of a value head."""
    config = AMFTConfig(loss_type=loss_type, num_generations=2, **settings)
    zero = torch.zeros(4, 2)
    reference = None if kl is None else lambda batch: zero - torch.tensor(kl)
    value = None if values is None else lambda batch: torch.tensor(values)
    return AdvantageEstimator(config, lambda batch: zero, reference, value).assign(BATCH, rewards)


def assign(*given, **settings):
    batch, sums = credited(*given, **settings)
    return batch.advantages, sums


def test_group_baselines() -> None:
    # Groups (1, 0) and (3, 0): means 1/2, 3/2; unbiased stds sqrt(1/2), sqrt(9/2).
    a, b = 0.5 / (math.sqrt(0.5) + EPS), 1.5 / (math.sqrt(4.5) + EPS)
    for name in ("grpo", "dapo", "gspo", "cispo"):
        torch.testing.assert_close(assign(name)[0], torch.tensor([a, -a, b, -b]))
    torch.testing.assert_close(assign("dr_grpo")[0], torch.tensor([0.5, -0.5, 1.5, -1.5]))
    torch.testing.assert_close(assign("dr_grpo", scale_rewards="group")[0], torch.tensor([a, -a, b, -b]))
    assert assign("rloo")[0].tolist() == [1.0, -1.0, 3.0, -3.0]
    assert assign("reinforce")[0].tolist() == [1.0, 0.0, 3.0, 0.0]


def test_rloo_takes_the_kl_of_the_completion_off_its_reward() -> None:
    # beta 0.1; KL per row 3, 1, 0, 2: rewards 0.7, -0.1, 3, -0.2.
    kl = [[1.0, 2.0], [1.0, 9.0], [0.0, 9.0], [2.0, 9.0]]
    found, sums = assign("rloo", kl=kl, beta=0.1)
    torch.testing.assert_close(found, torch.tensor([0.8, -0.8, 3.2, -3.2]))
    assert sums == {"kl": (6.0, 5.0)}


def test_reinforce_plus_plus() -> None:
    # Rewards to go with beta 0.1: row 1 at its tokens 1 - 0.1 (1 + 2) and 1 - 0.1 * 2; then 0 - 0.1, 3 - 0, 0 - 0.2.
    # Over the five tokens: mean (0.7 + 0.8 - 0.1 + 3 - 0.2) / 5 = 0.84.
    kl = [[1.0, 2.0], [1.0, 9.0], [0.0, 9.0], [2.0, 9.0]]
    raw = [0.7, 0.8, -0.1, 3.0, -0.2]
    std = math.sqrt(sum((x - 0.84) ** 2 for x in raw) / 4) + EPS
    found, _ = assign("reinforce_plus_plus", kl=kl, beta=0.1)
    at = BATCH.completion_mask > 0
    torch.testing.assert_close(found[at], torch.tensor([(x - 0.84) / std for x in raw]))
    assert not found[~at].any()
    raw_found, _ = assign("reinforce_plus_plus", kl=kl, beta=0.1, scale_rewards="none")
    torch.testing.assert_close(raw_found[at], torch.tensor(raw))


def test_reinforce_plus_plus_with_a_baseline() -> None:
    # Minus the group's mean: 1/2, -1/2, 3/2, -3/2; the first row counts for two tokens, so the mean is 1/10.
    raw = [0.5, 0.5, -0.5, 1.5, -1.5]
    std = math.sqrt(sum((x - 0.1) ** 2 for x in raw) / 4) + EPS
    found, sums = assign("reinforce_plus_plus_baseline", kl=[[9.0, 9.0]] * 4, beta=0.1)
    torch.testing.assert_close(found[BATCH.completion_mask > 0], torch.tensor([(x - 0.1) / std for x in raw]))
    assert sums == {}, "its KL is k2, a term of the loss"


def test_ppo_with_values_and_a_penalty() -> None:
    # gamma 1, lam 1/2, beta 0.1. Row 1: r = -0.1, 1 - 0.2 = 0.8; V = 0.5, 0.4.
    # delta_2 = 0.8 - 0.4 = 0.4, delta_1 = -0.1 + 0.4 - 0.5 = -0.2; A = -0.2 + 0.4 / 2 = 0, 0.4; R = A + V = 0.5, 0.8.
    # The others have one token: A = r - V with r = -0.1, 3, -0.2 and V = 0.1, 1, -0.2; R = r.
    kl = [[1.0, 2.0], [1.0, 9.0], [0.0, 9.0], [2.0, 9.0]]
    values = [[0.5, 0.4], [0.1, 9.0], [1.0, 9.0], [-0.2, 9.0]]
    batch, sums = credited("ppo", kl=kl, values=values, beta=0.1, ppo={"lam": 0.5}, scale_rewards="none")
    torch.testing.assert_close(batch.advantages, torch.tensor([[0.0, 0.4], [-0.2, 0], [2.0, 0], [0.0, 0]]))
    torch.testing.assert_close(batch.returns, torch.tensor([[0.5, 0.8], [-0.1, 0], [3.0, 0], [-0.2, 0]]))
    torch.testing.assert_close(batch.old_values, torch.tensor([[0.5, 0.4], [0.1, 0], [1.0, 0], [-0.2, 0]]))
    assert sums["kl"] == (6.0, 5.0)
    assert sums["value/mean"] == (pytest.approx(1.8), 5.0)
    # R - V = 0, 0.4, -0.2, 2, 0 around 0.44: squares sum to 0.1936 + 0.0016 + 0.4096 + 2.4336 + 0.1936 = 3.232.
    # R = 0.5, 0.8, -0.1, 3, -0.2 around 0.8: 0.09 + 0 + 0.81 + 4.84 + 1 = 6.74.
    assert sums["value/explained_variance"] == (pytest.approx(1 - 3.232 / 6.74, rel=1e-6), 1.0)


def test_the_value_head_is_not_fitted_to_completions_without_a_reward() -> None:
    batch, sums = credited("ppo", torch.tensor([NAN, 0.0, 3.0, NAN]), values=[[7.0, 7.0]] * 4)
    assert batch.completion_mask.tolist() == [[0, 0], [1, 0], [1, 0], [0, 0]]
    assert not batch.returns[[0, 3]].any()
    assert sums["value/mean"] == (14.0, 2.0)


@pytest.mark.parametrize("name", POLICY_LOSSES)
def test_no_completions_at_all(name) -> None:
    empty = pad_batch([], [], 0)
    config = AMFTConfig(loss_type=name, num_generations=2, beta=0.1)
    nothing = lambda batch: torch.zeros_like(batch.completion_mask)  # noqa: E731
    values = nothing if POLICY_LOSSES[name].baseline == "value" else None
    batch, sums = AdvantageEstimator(config, nothing, nothing, values).assign(empty, torch.zeros(0))
    assert len(batch.advantages) == 0
    assert all(total == 0.0 for total, _ in sums.values())


@pytest.mark.parametrize("name", POLICY_LOSSES)
def test_equal_rewards_and_abstentions(name) -> None:
    found, _ = assign(name, torch.tensor([NAN, NAN, 2.0, NAN]))
    assert not found[[0, 1, 3]].any()
    if POLICY_LOSSES[name].baseline != "none":
        assert not assign(name, torch.full((4,), 0.1))[0].any()
    assert not assign(name, torch.zeros(4))[0].any()
    assert not assign(name, torch.full((4,), NAN))[0].any()


def test_soft_overlong_penalty_by_hand() -> None:
    # L_max 10, L_cache 4: free up to 6, then -(n - 6) / 4.
    lengths = torch.tensor([0, 6, 7, 8, 10, 12])
    found = soft_overlong_penalty(lengths, max_length=10, cache=4)
    assert found.tolist() == [0.0, 0.0, -0.25, -0.5, -1.0, -1.0]
    assert not soft_overlong_penalty(lengths, max_length=10, cache=0).any()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"loss_type": "grpo", "num_generations": 1}, "num_generations must be at least 2 for loss_type grpo"),
        ({"loss_type": "rloo", "num_generations": 1}, "num_generations must be at least 2"),
        ({"loss_type": "reinforce_plus_plus", "scale_rewards": "group"}, "scale_rewards: reinforce_plus_plus has adv"),
        ({"loss_type": "ppo", "scale_rewards": "batch"}, "scale_rewards: ppo has advantages per token"),
        ({"ppo": {"lam": 0.5}}, "ppo.lam: only loss_type ppo has a value head, this is dapo; leave ppo.lam out"),
        (
            {"loss_type": "grpo", "ppo": {"vf_coef": 0.5}},
            "ppo.vf_coef: only loss_type ppo .* this is grpo",
        ),
        ({"ppo": {"cliprange_value": None}}, "ppo.cliprange_value: only loss_type ppo"),
        ({"ppo": {"value_learning_rate": 1e-4}}, "ppo.value_learning_rate: only loss_type ppo"),
        ({"loss_type": "cispo", "epsilon_high": 0.28}, "epsilon_high: the largest ratio of cispo, so at least 1"),
    ],
)
def test_settings_that_do_not_fit_the_loss(settings, line) -> None:
    with pytest.raises(ConfigError, match=line):
        AMFTConfig(**settings)
    AMFTConfig(loss_type="reinforce_plus_plus", num_generations=1)
    AMFTConfig(loss_type="ppo", num_generations=1, ppo={"gamma": 0.9, "cliprange_value": None}, scale_rewards="none")
