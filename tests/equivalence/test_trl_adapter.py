"""`AMFTGRPOTrainer` on the shipped nano model: TRL's trainer where mu = 0, the core's meta-gradient, exact resume."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl")
from datasets import Dataset
from given_signals import given_signals
from transformers import PreTrainedModel
from trl import GRPOConfig, GRPOTrainer

from amft.balance.registry import build_method
from amft.batch import Batch
from amft.distributed.parallel import build_parallel
from amft.distributed.ranks import Ranks
from amft.errors import CheckpointError, OptimizerError
from amft.integrations.trl import AMFTGRPOTrainer
from amft.meta import MixGrad
from amft.models.load import load_model, load_tokenizer
from amft.settings.config import AMFTConfig
from amft.step.learner import Learner
from amft.step.objective import Objective
from amft.step.optimizers import SharedOptimizer, build_optimizer
from amft.step.row_layout import RowLayout

pytestmark = pytest.mark.filterwarnings("ignore")

HANDS = [(1, 2, 3, 4), (2, 3, 4, 5), (5, 5, 5, 1), (6, 6, 6, 6)]
PROMPTS = [[{"role": "user", "content": f"make 24 from {' '.join(map(str, hand))}"}] for hand in HANDS]
ANSWERS = ["1*2*3*4", "2*(3+4+5)", "5*5-1", "6+6+6+6"]
DEMOS = [
    {"prompt": prompt, "completion": [{"role": "assistant", "content": answer}]}
    for prompt, answer in zip(PROMPTS, ANSWERS)
]
ONLY_META = {"rule": "amft-scalar", "entropy": "none"}
LENGTH, ROWS, STEPS, HEAT = 12, 4, 4, 2.0


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def residue(completion_ids: list[list[int]], **columns: Any) -> list[float]:
    """A reward that differs within almost every group."""
    return [float(sum(ids) % 5) for ids in completion_ids]


def arguments(folder: Path, **settings: Any) -> GRPOConfig:
    return GRPOConfig(
        **{
            "output_dir": str(folder),
            "report_to": "none",
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "disable_tqdm": True,
            "save_strategy": "no",
            "logging_steps": 1,
            "lr_scheduler_type": "constant",
            "learning_rate": 1e-4,
            "temperature": HEAT,
            "per_device_train_batch_size": ROWS,
            "num_generations": 4,
            "max_completion_length": LENGTH,
            "max_steps": STEPS,
            "seed": 3,
            **settings,
        }
    )


def build(cls: type, args: GRPOConfig, double: bool = False, **extra: Any) -> Any:
    return cls(
        model=load_model("nano").to(torch.float64 if double else torch.float32),
        args=args,
        reward_funcs=residue,
        processing_class=load_tokenizer("nano"),
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS]),
        **extra,
    )


def history(trainer: Any, name: str) -> list[float | None]:
    return [row.get(name) for row in trainer.state.log_history if "grad_norm" in row]


class Recording(AMFTGRPOTrainer):
    """Keeps TRL's micro-batches, for the core to train on too."""

    def compute_loss(self, model: Any, inputs: Any, **options: Any) -> Any:
        self.seen = [*getattr(self, "seen", []), {k: v.clone() for k, v in inputs.items() if torch.is_tensor(v)}]
        return super().compute_loss(model, inputs, **options)


def as_batch(parts: list[dict[str, torch.Tensor]]) -> Batch:
    whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0] if parts[0][name].dim()}
    return Batch(
        ids=torch.cat([whole["prompt_ids"], whole["completion_ids"]], 1),
        attention_mask=torch.cat([whole["prompt_mask"], whole["completion_mask"]], 1),
        completion_mask=whole["completion_mask"].float(),
        advantages=whole["advantages"],
    )


def core(model: PreTrainedModel, trainer: Recording, optim: str, accumulate: int) -> list[tuple[float, Any]]:
    """mu and the meta-gradient of every step, by amft's own learner and objective on the same completions."""
    config = AMFTConfig(
        optim=optim,
        learning_rate=1e-4,
        loss_type="dapo",
        temperature=HEAT,
        max_completion_length=LENGTH,
        max_steps=STEPS,
    )
    optimizer = build_optimizer(model, config)
    method = build_method(ONLY_META)
    mix = MixGrad(model.named_parameters(), optimizer, skip=1, horizon=method.rule.horizon)
    learner = Learner(
        model,
        SharedOptimizer(model, optimizer),
        mix,
        config,
        build_parallel(config),
        RowLayout(False, config.dtype, Ranks()),
    )
    objective, rule = Objective(config, method), method.rule
    state, found = rule.init(), []
    demos = copy.copy(trainer.imitation)
    demos.order = copy.deepcopy(demos.order)
    demos.order.stream.begin_epoch(0)
    demos.micro_batch = demos.num_demos
    for step in range(STEPS):
        batch = as_batch(trainer.seen[step * accumulate : (step + 1) * accumulate])
        learner.gradient(objective.rl, batch, objective.rl_count(batch))
        observed = mix.observe().get("sft")
        dot, cos = (None, None) if observed is None else (observed.dot, observed.cos)
        weights, state, _ = rule.update(state, given_signals(step, STEPS, meta_grad=dot, meta_cos=cos))
        mix.stash("rl")
        by_branch, count = demos.next({})
        ((demonstrations,),) = by_branch.values()
        learner.gradient(objective.sft, demonstrations, count)
        mix.stash("sft")
        mix.combine(weights)
        learner.update(step, weights, lambda norm: True)
        found.append((weights["sft"], observed))
    return found


@pytest.mark.parametrize(("optim", "theirs", "accumulate"), [("adamw", "adamw_torch", 2), ("sgd", "sgd", 1)])
def test_meta_gradient_is_the_cores(optim: str, theirs: str, accumulate: int, tmp_path: Path) -> None:
    args = arguments(tmp_path, optim=theirs, gradient_accumulation_steps=accumulate)
    trainer = build(Recording, args, demonstrations=DEMOS, balance={**ONLY_META, "meta_skip": 1})
    trainer.train()
    model = load_model("nano")
    expected = core(model, trainer, optim, accumulate)
    found = history(trainer, "mix/meta_grad")
    assert found[:2] == [None, None]
    assert [observed for _, observed in expected[:2]] == [None, None]
    for value, (_, observed) in zip(found[2:], expected[2:]):
        assert value is not None
        # The scale of a dot product is that of its two vectors, |g| |effect| = dot / cos.
        assert abs(value - observed.dot) <= 1e-5 * abs(observed.dot / observed.cos)
        assert value == pytest.approx(observed.dot, rel=1e-3)
    assert history(trainer, "mix/mu") == pytest.approx([mu for mu, _ in expected], rel=1e-5)
    for ours, its in zip(model.parameters(), trainer.model.parameters()):
        torch.testing.assert_close(ours, its, rtol=0, atol=1e-5)


def test_without_imitation_it_is_trls_trainer_to_the_bit(tmp_path: Path) -> None:
    args = arguments(tmp_path, gradient_accumulation_steps=2, max_steps=2, max_grad_norm=0.1)
    plain = build(GRPOTrainer, args)
    plain.train()
    ours = build(AMFTGRPOTrainer, args, demonstrations=DEMOS, balance="rl", prefix_tree=False)
    ours.train()
    assert history(ours, "grad_norm") == pytest.approx(history(plain, "grad_norm"), rel=1e-6)
    assert history(ours, "loss") == history(plain, "loss")
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, ours.model.state_dict()[name]), name


@pytest.mark.parametrize(
    "settings",
    [
        {"gradient_accumulation_steps": 2},
        {"gradient_checkpointing": True, "num_iterations": 2, "beta": 0.1},
        {"entropy_coef": 0.05, "mask_truncated_completions": True, "loss_type": "grpo"},
    ],
    ids=["plain", "checkpointed", "entropy"],
)
def test_a_prefix_tree_gives_what_trls_own_passes_give(settings: dict[str, Any], tmp_path: Path) -> None:
    """Losses, both gradients, the meta-gradient and the weights, in float64."""
    found = []
    for tree in (False, True):
        args = arguments(tmp_path / str(tree), max_steps=4, optim="sgd", learning_rate=1e-3, **settings)
        balance = {**ONLY_META, "meta_skip": 0}
        trainer = build(AMFTGRPOTrainer, args, demonstrations=DEMOS, balance=balance, prefix_tree=tree, double=True)
        passes = counted_tree_passes(trainer)
        trainer.train()
        assert trainer.tree_rows.wanted == tree
        assert bool(passes) == tree
        found.append(trainer)
    padded, tree = found
    for name in ("loss", "grad_norm", "entropy", "mix/meta_grad", "mix/grad_cos", "sft/loss"):
        values = [[value for value in history(trainer, name) if value is not None] for trainer in found]
        assert values[0], name
        assert values[1] == pytest.approx(values[0], rel=1e-6, abs=1e-7), name
    for ours, its in zip(tree.model.parameters(), padded.model.parameters()):
        torch.testing.assert_close(ours, its, rtol=0, atol=1e-9)


def counted_tree_passes(trainer: Any) -> list[int]:
    """Grows with each pass whose attention is that of a prefix tree."""
    passes: list[int] = []
    forward = trainer.model.forward

    def counting(*args: Any, **given: Any) -> Any:
        if "prefix_tree" in given:
            passes.append(1)
        return forward(*args, **given)

    trainer.model.forward = functools.wraps(forward)(counting)
    return passes


def test_rules_without_a_meta_gradient_take_any_optimizer(tmp_path: Path) -> None:
    """transformers' Adafactor, whose Jacobian nobody wrote down: TRL's own numbers, no buffer, and a whole resume."""
    args = {"optim": "adafactor", "max_steps": 2}
    plain = build(GRPOTrainer, arguments(tmp_path / "plain", **args))
    plain.train()
    ours = build(
        AMFTGRPOTrainer, arguments(tmp_path / "ours", **args), demonstrations=DEMOS, balance="rl", prefix_tree=False
    )
    ours.train()
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, ours.model.state_dict()[name]), name
    assert ours.backend.mix._effects == {}
    extra = {"demonstrations": DEMOS, "balance": "amft-entropy-only"}
    whole = build(AMFTGRPOTrainer, arguments(tmp_path / "whole", **args), **extra)
    whole.train()
    assert any(
        not torch.equal(value, plain.model.state_dict()[name]) for name, value in whole.model.state_dict().items()
    )
    halves = {**args, "save_strategy": "steps", "save_steps": 1}
    first = build(AMFTGRPOTrainer, arguments(tmp_path / "halves", **halves), **extra)
    first.args.max_steps = 1
    first.train()
    second = build(AMFTGRPOTrainer, arguments(tmp_path / "halves", **halves), **extra)
    second.train(resume_from_checkpoint=True)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_the_meta_gradient_needs_a_known_jacobian(tmp_path: Path) -> None:
    trainer = build(AMFTGRPOTrainer, arguments(tmp_path, optim="adafactor"), demonstrations=DEMOS)
    with pytest.raises(OptimizerError, match="optimizer Adafactor has no Jacobian: use Adafactor, Adam"):
        trainer.train()


def test_completions_that_were_trained_on_give_no_meta_gradient(tmp_path: Path) -> None:
    args = arguments(tmp_path, num_iterations=2, max_steps=6, learning_rate=1e-5)
    trainer = build(AMFTGRPOTrainer, args, demonstrations=DEMOS, balance={**ONLY_META, "meta_skip": 0})
    trainer.train()
    assert [value is not None for value in history(trainer, "mix/meta_grad")] == [
        False,
        False,
        True,
        False,
        True,
        False,
    ]


def test_resume_gives_back_weight_buffer_and_demonstrations(tmp_path: Path) -> None:
    extra = {"demonstrations": DEMOS, "balance": {"rule": "amft", "meta_skip": 0}, "num_demos": 3}
    whole = build(AMFTGRPOTrainer, arguments(tmp_path / "whole"), **extra)
    whole.train()
    halves = {"save_strategy": "steps", "save_steps": 2}
    first = build(AMFTGRPOTrainer, arguments(tmp_path / "halves", **halves), **extra)
    first.args.max_steps = 2
    first.train()
    second = build(AMFTGRPOTrainer, arguments(tmp_path / "halves", **halves), **extra)
    second.train(resume_from_checkpoint=True)
    assert second.state.global_step == STEPS
    assert second.backend.balancer.state_dict() == whole.backend.balancer.state_dict()
    assert second.backend.balancer.entropy_target is not None
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_save_only_model_saves_no_buffer_and_a_resume_says_so(tmp_path: Path) -> None:
    saves = {"save_strategy": "steps", "save_steps": 1, "max_steps": 1, "save_only_model": True}
    extra = {"demonstrations": DEMOS, "balance": {"rule": "amft", "meta_skip": 0}, "num_demos": 3}
    build(AMFTGRPOTrainer, arguments(tmp_path, **saves), **extra).train()
    names = {path.name for path in (tmp_path / "checkpoint-1").iterdir()}
    assert "model.safetensors" in names
    assert not {"amft", "optimizer.pt"} & names
    again = build(AMFTGRPOTrainer, arguments(tmp_path, **{**saves, "max_steps": 2}), **extra)
    with pytest.raises(CheckpointError, match="amft: missing .save_only_model leaves it out"):
        again.train(resume_from_checkpoint=True)
