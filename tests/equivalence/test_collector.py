"""What the collector hands to a step: dynamic sampling and the overlong penalty on real rollouts."""

import pytest
import torch

from amft.data.rewards import RewardBatch
from amft.settings.config import AMFTConfig
from amft.tasks.registry import build_task
from amft.training.trainer import AMFTTrainer


class SometimesFlat:
    """Groups whose first prompt token sum is even are all wrong; in the others odd first tokens are right."""

    def score(self, rows, texts, completion_ids):
        del texts
        dead = [row["problem"].key.encode()[-1] % 2 == 0 for row in rows]
        rewards = [0.0 if flat else float(ids[0] % 2) for flat, ids in zip(dead, completion_ids, strict=True)]
        return RewardBatch(rewards, {"odd": rewards})


def trainer(base, directory, **changes):
    settings = {
        "output_dir": str(directory),
        "max_steps": 4,
        "num_prompts": 4,
        "num_generations": 4,
        "num_demos": 2,
        "max_completion_length": 72,
        "learning_rate": 1e-3,
        "eval": {"steps": 0, "test_splits": []},
        "sample_steps": 0,
        "checkpoint": {"steps": 1},
        "balance": {"rule": "rl"},
        "dynamic_sampling_rounds": 4,
    }
    built = AMFTTrainer(
        str(base), AMFTConfig(**(settings | changes)), task=build_task("general_points", demonstrations="answer")
    )
    built.sources.scorer = SometimesFlat()
    built.build()
    return built


def test_dynamic_sampling_leaves_fewer_flat_groups(tiny_base, tmp_path):
    with_draws = trainer(tiny_base, tmp_path / "a")
    without = trainer(tiny_base, tmp_path / "b", dynamic_sampling_rounds=0)
    after, before = (built.organs.collector.next(built.sources.prompts) for built in (with_draws, without))
    assert after.sums["frac_reward_zero_std"][0] < before.sums["frac_reward_zero_std"][0]
    extra = after.sums["dynamic_sampling/extra_prompts"][0]
    assert 0 < extra <= 4 * 4
    assert with_draws.sources.prompts.stream.cursor == 4 + extra
    assert len(after.batch) == len(before.batch) == 16
    assert not [name for name in before.sums if "dynamic" in name]


def test_the_overlong_penalty_reaches_the_advantages(tiny_base, tmp_path):
    # Random answers cut at 72 tokens cost 1; a shorter one of n tokens costs (n - 12) / 60 or nothing.
    built = trainer(tiny_base, tmp_path, dynamic_sampling_rounds=0, soft_punish_cache=60, loss_type="reinforce")
    found = built.organs.collector.next(built.sources.prompts)
    lengths = found.batch.completion_mask.sum(1)
    penalty = -((lengths - 12).clamp(min=0) / 60)
    assert penalty.min() == -1
    assert -1 < penalty.max() < 0
    earned = found.batch.advantages - penalty
    torch.testing.assert_close(earned, earned.round(), rtol=0, atol=1e-6)
    assert found.sums["rewards/soft_overlong/mean"] == (pytest.approx(float(penalty.sum())), 16)
