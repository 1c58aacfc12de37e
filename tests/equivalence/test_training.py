"""One training, several routes: accumulation, the imitation limit, the RL limit, paths without a buffer."""

from pathlib import Path

import exact_norms
import pytest
import torch
from tiny_runs import build
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from amft.balance.meta_gradient import MetaGradient
from amft.balance.method import Method
from amft.balance.requirements import Requirements
from amft.balance.weights import Weights
from amft.models.load import load_model
from amft.runs import RunDirectory
from amft.settings.config import AMFTConfig
from amft.signals.base import Signals
from amft.tasks.registry import build_task
from amft.training.trainer import AMFTTrainer


def trainer(base, directory, **changes):
    settings = {
        "output_dir": str(directory),
        "max_steps": 3,
        "num_prompts": 2,
        "num_generations": 3,
        "num_demos": 6,
        "max_completion_length": 72,
        "learning_rate": 1e-3,
        "dtype": "float64",
        "balance": {"rule": "amft", "meta_skip": 0},
        "eval": {"steps": 0, "test_splits": []},
        "sample_steps": 0,
        "checkpoint": {"steps": 0},
    }
    config = AMFTConfig(**(settings | changes))
    built = AMFTTrainer(str(base), config, task=build_task("general_points", demonstrations="answer"))
    built.sources.scorer = OddReward()
    built.build()
    return built


class OddReward:
    """Odd token ids are good: dense, so that every group of random answers has an advantage."""

    def score(self, rows, texts, completion_ids):
        from amft.data.rewards import RewardBatch

        del rows, texts
        rewards = [sum(token % 2 for token in ids) / len(ids) for ids in completion_ids]
        return RewardBatch(rewards, {"odd": rewards})


def parameters(built):
    built.train()
    return torch.cat([p.detach().flatten() for p in built.model.parameters()])


@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "dr_grpo", "gspo", "rloo", "cispo", "reinforce_plus_plus"])
def test_accumulation_does_not_change_the_numbers(loss_type, tiny_base, tmp_path, monkeypatch):
    # A state that rows share gets their gradients summed: in the float32 norms of transformers that sum is rounded once
    # a micro-batch, so another number of them would differ by 1e-9.
    exact_norms.use(monkeypatch)
    # With AdamW's own epsilon, rounding in coordinates near it becomes whole steps of mu while the optimizer is young.
    settings = {"loss_type": loss_type, "adam_epsilon": 1e-4}
    whole = parameters(trainer(tiny_base, tmp_path / "8", micro_batch_size=8, **settings))
    for size in (4, 1):
        split = parameters(trainer(tiny_base, tmp_path / str(size), micro_batch_size=size, **settings))
        assert (split - whole).norm() / whole.norm() < 1e-10


@pytest.mark.parametrize("tree", [True, False])
def test_a_budget_of_tokens_does_not_change_the_numbers(tree, tiny_base, tmp_path, monkeypatch):
    exact_norms.use(monkeypatch)
    settings = {"adam_epsilon": 1e-4, "prefix_tree": tree}
    whole = parameters(trainer(tiny_base, tmp_path / "whole", micro_batch_size=8, **settings))
    for tokens in (250, 130, 1):
        built = trainer(tiny_base, tmp_path / str(tokens), micro_batch_tokens=tokens, **settings)
        parts = counted_parts(built.learner)
        split = parameters(built)
        assert (split - whole).norm() / whole.norm() < 1e-10
        assert max(parts) == 6 if tokens == 1 else max(parts) > 1


def counted_parts(learner):
    """How many micro-batches each gradient is made of."""
    counts, cut = [], learner._parts

    def counting(*arguments):
        parts = cut(*arguments)
        counts.append(len(parts))
        return parts

    learner._parts = counting
    return counts


def test_mu_1_is_transformers_cross_entropy_training(tiny_base, tmp_path):
    built = trainer(tiny_base, tmp_path / "run", max_steps=20, balance={"rule": "sft"}, num_demos=4, weight_decay=0.01)
    twin = trainer(tiny_base, tmp_path / "twin", max_steps=20, balance={"rule": "sft"}, num_demos=4)
    model = load_model(str(tiny_base), torch.float64)
    model.set_attn_implementation("eager")
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    for _ in range(20):
        batch = twin.sources.demonstrations.next(4)["sft"]
        labels = torch.full_like(batch.ids, -100)
        width = batch.completion_mask.shape[1]
        labels[:, -width:] = torch.where(batch.completion_mask > 0, batch.completion_ids, -100)
        positions = (batch.attention_mask.cumsum(-1) - 1).clamp(min=0)
        loss = model(batch.ids, attention_mask=batch.attention_mask, position_ids=positions, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    ours = parameters(built)
    theirs = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert (ours - theirs).norm() / theirs.norm() < 1e-6


class Apart:
    """Constant weights, measured through the two-gradient path."""

    requirements = Requirements(meta_gradient=MetaGradient())

    def __init__(self, mu):
        self.mu = mu

    def init(self):
        return {}

    def update(self, state, signals: Signals):
        del signals
        return Weights.convex(self.mu), state, {}


@pytest.fixture
def exact_norm(monkeypatch):
    """RMSNorm in the input's own type: transformers computes it in float32, even in a float64 model."""

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon)

    monkeypatch.setattr(LlamaRMSNorm, "forward", forward)


@pytest.mark.usefixtures("exact_norm")
@pytest.mark.parametrize("mu", [0.0, 0.3, 1.0])
def test_the_two_gradient_path_equals_the_joint_backward(mu, tiny_base, tmp_path):
    settings = {"balance": {"rule": "fixed", "mu": mu}, "optim": "sgd", "learning_rate": 0.1}
    joint = trainer(tiny_base, tmp_path / "joint", **settings)
    apart = trainer(tiny_base, tmp_path / "apart", **settings)
    apart.foundation.method = Method(Apart(mu))
    apart.build()
    a, b = parameters(joint), parameters(apart)
    # A branch of weight 0 is not run on the joint path; on the other it is run and weighs exactly nothing.
    assert (a - b).norm() / a.norm() < 1e-12


def test_the_model_as_it_came_is_validated_too(tmp_path: Path) -> None:
    """Its success stands in events.jsonl: metrics.jsonl begins with step 1."""
    validating = build(tmp_path / "run", "fixed", max_steps=2, eval={"steps": 1})
    expected = validating.held_out.validate(0)["eval/val/success"]
    validating.train()
    (event,) = [row for row in RunDirectory(tmp_path / "run").rows("events") if row["kind"] == "validation"]
    assert (event["step"], event["success"]) == (0, expected)
    assert [row["step"] for row in RunDirectory(tmp_path / "run").rows("metrics")] == [1, 2]
    build(tmp_path / "blind", "fixed", max_steps=1, eval={"steps": 0}).train()
    assert [row for row in RunDirectory(tmp_path / "blind").rows("events") if row["kind"] == "validation"] == []
