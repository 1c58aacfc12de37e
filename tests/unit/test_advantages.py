from __future__ import annotations

import math

import pytest
import torch

from amft.advantages import group_advantages, reward_statistics
from amft.errors import ConfigError

NAN = math.nan
EPS = 1e-4


def advantages(rewards, **options) -> list[float]:
    options = {"num_generations": 4} | options
    return group_advantages(torch.tensor(rewards, dtype=torch.float64), **options).tolist()


def test_group_by_hand() -> None:
    # Rewards 1, 0, 0, 1: mean 1/2, unbiased variance 4 * 1/4 / 3 = 1/3.
    a = 0.5 / (math.sqrt(1 / 3) + EPS)
    assert advantages([1.0, 0, 0, 1]) == pytest.approx([a, -a, -a, a])


def test_each_group_has_its_own_mean_and_std() -> None:
    # Second group 10, 10, 10, 14: mean 11, variance (3 * 1 + 9) / 3 = 4.
    b = 1 / (2 + EPS)
    found = advantages([1.0, 0, 0, 1, 10, 10, 10, 14])
    assert found[4:] == pytest.approx([-b, -b, -b, 3 * b])
    assert found[:4] == advantages([1.0, 0, 0, 1])


def test_batch_scale_and_no_scale() -> None:
    # Both groups centred; the std of (1, 0, 2, 5) is sqrt((1 + 4 + 0 + 9) / 3) around the mean 2.
    s = math.sqrt(14 / 3) + EPS
    rewards = [1.0, 0, 2, 5]
    expected = [0.5, -0.5, -1.5, 1.5]
    assert advantages(rewards, num_generations=2, scale="none") == pytest.approx(expected)
    assert advantages(rewards, num_generations=2, scale="batch") == pytest.approx([e / s for e in expected])


def test_leave_one_out() -> None:
    # Baseline of the first: (0 + 0 + 1) / 3.
    expected = [2 / 3, -2 / 3, -2 / 3, 2 / 3]
    assert advantages([1.0, 0, 0, 1], baseline="leave_one_out", scale="none") == pytest.approx(expected)


def test_no_baseline() -> None:
    assert advantages([1.0, 0, 0, 3], baseline="none", scale="none") == [1, 0, 0, 3]
    assert advantages([1.0, 0, 3], num_generations=1, baseline="none", scale="group") == [1, 0, 3]


@pytest.mark.parametrize("baseline", ["mean", "leave_one_out"])
@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_an_equal_group_is_exactly_zero(baseline, scale) -> None:
    # 0.1 summed three times and divided by three is not 0.1; over a std of 1e-4 the rounding would be a signal.
    rewards = torch.tensor([0.1] * 3 + [0.0, 1.0, 2.0] + [1e8] * 3, dtype=torch.float32)
    found = group_advantages(rewards, num_generations=3, scale=scale, baseline=baseline)
    assert not found[:3].any()
    assert found[3] < 0 < found[5]
    assert not found[6:].any()


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_an_abstention_is_as_if_it_were_not_there(scale) -> None:
    with_gap = advantages([1.0, NAN, 0, 4, NAN, 2, 2, 5], scale=scale)
    assert with_gap[1] == with_gap[4] == 0.0
    without = advantages([1.0, 0, 4, 2, 2, 5], num_generations=3, scale=scale)
    assert [with_gap[i] for i in (0, 2, 3, 5, 6, 7)] == pytest.approx(without)


@pytest.mark.parametrize("baseline", ["mean", "leave_one_out", "none"])
@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_one_reward_or_none_in_a_group(baseline, scale) -> None:
    found = advantages([NAN, NAN, 3.0, NAN, NAN, NAN], num_generations=3, baseline=baseline, scale=scale)
    assert found == [0, 0, 3.0 if baseline == "none" else 0, 0, 0, 0]


def test_shape_and_dtype() -> None:
    rewards = torch.tensor([[1, 0], [0, 3]])
    found = group_advantages(rewards, num_generations=2)
    assert found.shape == (2, 2)
    assert found.dtype == torch.float32
    assert group_advantages(rewards.reshape(-1), num_generations=2).tolist() == found.reshape(-1).tolist()
    assert group_advantages(torch.zeros(0), num_generations=2).shape == (0,)


def test_shift_and_scale_of_the_rewards() -> None:
    rewards = torch.randn(24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    base = group_advantages(rewards, num_generations=6)
    assert base.reshape(4, 6).sum(1).abs().max() < 1e-12
    moved = group_advantages(rewards * 50 + 7, num_generations=6)
    torch.testing.assert_close(moved, base, rtol=1e-3, atol=0)  # only the 1e-4 beside the std differs


def test_a_group_that_does_not_divide_the_rewards() -> None:
    with pytest.raises(ConfigError, match="num_generations 4 does not divide 6"):
        group_advantages(torch.zeros(6), num_generations=4)


def test_statistics_by_hand() -> None:
    # Groups (1, 0): std sqrt(1/2); (2, 2): 0; (NaN, 5): none; (NaN, NaN): none.
    rewards = torch.tensor([1.0, 0, 2, 2, NAN, 5, NAN, NAN])
    assert reward_statistics(rewards, num_generations=2) == {
        "reward": (10.0, 5.0),
        "reward_std": (pytest.approx(math.sqrt(0.5)), 2.0),
        "frac_reward_zero_std": (3.0, 4.0),
        "frac_reward_abstained": (3.0, 8.0),
    }


def test_statistics_add_up() -> None:
    rewards = torch.tensor([1.0, 0, 2, 2, NAN, 5, 7, NAN])
    whole = reward_statistics(rewards, num_generations=2)
    parts = [reward_statistics(part, num_generations=2) for part in (rewards[:2], rewards[2:], rewards[:0])]
    for name, (total, count) in whole.items():
        assert sum(part[name][0] for part in parts) == pytest.approx(total)
        assert sum(part[name][1] for part in parts) == count
