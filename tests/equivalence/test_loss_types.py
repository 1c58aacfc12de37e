"""Every loss type through the trainer: 20 steps with accumulation and re-used rollouts, a resume, rewards of zero."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch

from amft.losses.choices import POLICY_LOSSES
from amft.settings.config import AMFTConfig
from amft.training.trainer import AMFTTrainer

STEPS = 20
PROMPTS = [{"prompt": f"Make {n} from {n} and 0:", "completion": f" {n}"} for n in range(12)]
EXTRA = {"dapo": {"dynamic_sampling_rounds": 2, "soft_punish_cache": 2, "epsilon_high": 0.28}}


def share_of_odd(completion_ids, **_):
    """Of the first tokens; coarse, so that some groups are flat."""
    return [float(ids[0] % 2) for ids in completion_ids]


def trainer(base, directory, reward=share_of_odd, **changes):
    settings = {
        "output_dir": str(directory),
        "max_steps": STEPS,
        "num_prompts": 2,
        "num_generations": 3,
        "num_demos": 3,
        "micro_batch_size": 4,
        "steps_per_generation": 2,
        "num_iterations": 2,
        "max_completion_length": 4,
        "learning_rate": 1e-3,
        "beta": 0.02,
        "eval": {"steps": 0},
        "sample_steps": 0,
        "checkpoint": {"steps": 14},
        "balance": {"rule": "amft", "meta_skip": 1},
    }
    config = AMFTConfig(**(settings | changes))
    return AMFTTrainer(str(base), config, train_dataset=PROMPTS, reward_funcs=reward)


def bytes_of(run):
    files = sorted((run / "checkpoints" / f"step-{STEPS}").rglob("*.safetensors"))
    return {path.name: path.read_bytes() for path in [run / "metrics.jsonl", *files]}


@pytest.mark.parametrize("name", POLICY_LOSSES)
def test_twenty_steps_and_a_resume(name, tiny_base, tmp_path):
    settings = {"loss_type": name, **EXTRA.get(name, {})}
    trainer(tiny_base, tmp_path / "whole", **settings).train()
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert all(math.isfinite(row["policy_loss"]) and row["grad_norm"] > 0 for row in rows)
    assert all("kl" in row for row in rows[::4]), "steps 1, 5, 9 ... use a new generation"

    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / f"step-{STEPS}")
    # Windows last 4 steps: the checkpoint of step 14 lies inside one.
    trainer(tiny_base, tmp_path / "cut", **settings).train(resume=True)
    assert bytes_of(tmp_path / "cut") == bytes_of(tmp_path / "whole")
    assert ("critic.safetensors" in bytes_of(tmp_path / "cut")) == (POLICY_LOSSES[name].baseline == "value")


@pytest.mark.parametrize("name", POLICY_LOSSES)
def test_rewards_of_zero_teach_nothing(name, tiny_base, tmp_path):
    built = trainer(
        tiny_base,
        tmp_path,
        reward=lambda completions, **_: [0.0] * len(completions),
        loss_type=name,
        balance={"rule": "rl"},
        max_steps=1,
        beta=0.0,
        checkpoint={"steps": 0},
    )
    before = torch.cat([p.detach().flatten().clone() for p in built.model.parameters()])
    built.train()
    assert torch.equal(torch.cat([p.detach().flatten() for p in built.model.parameters()]), before)
