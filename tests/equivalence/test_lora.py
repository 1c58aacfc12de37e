"""Training an adapter: what it trains, keeps and saves; exact resume; the merged model is the adapter's model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import exact_norms
import pytest
import torch

pytest.importorskip("peft")
from safetensors.torch import load_file
from transformers import PreTrainedModel

from amft.assembly.evaluation import Asked, build_evaluation
from amft.assembly.models import merge_adapter
from amft.batch import pad_batch
from amft.errors import CheckpointError, ConfigError, ModelError
from amft.models.forward import token_scores
from amft.models.load import load_model, load_tokenizer
from amft.models.lora import adapter_off, adapter_state, add_lora, in_four_bits
from amft.models.tiny import tiny_model
from amft.models.tokenizer import train_tokenizer
from amft.settings.config import AMFTConfig
from amft.training.trainer import AMFTTrainer

ROWS = [{"prompt": f"max {a} {b}:", "completion": f"{max(a, b)}"} for a in range(5) for b in range(4)]
R = 2


def longer(completions: list[str], **columns: Any) -> list[float]:
    return [float(len(set(text))) for text in completions]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("base")
    tokenizer = train_tokenizer(row["prompt"] for row in ROWS)
    tiny_model("qwen3", vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def trainer(base: str, out: Path, **settings: Any) -> AMFTTrainer:
    config = AMFTConfig(
        **{
            "output_dir": str(out),
            "lora": {"r": R, "alpha": 8.0, "target_modules": ["q_proj", "down_proj"]},
            "max_steps": 4,
            "balance": {"rule": "amft", "meta_skip": 1},
            "num_prompts": 2,
            "num_generations": 4,
            "num_demos": 4,
            "max_completion_length": 4,
            "learning_rate": 1e-2,
            "eval": {"steps": 0},
            "checkpoint": {"steps": 2},
            **settings,
        }
    )
    return AMFTTrainer(base, config, train_dataset=ROWS, reward_funcs=longer)


def weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def adapter_size(model: PreTrainedModel) -> int:
    """By hand: r (rows + columns) for q_proj and down_proj of every layer."""
    layers = [module for name, module in model.named_modules() if name.endswith(("q_proj", "down_proj"))]
    assert len(layers) == 2 * model.config.num_hidden_layers
    return sum(R * (layer.in_features + layer.out_features) for layer in layers)


def test_only_the_adapter_is_trained_and_only_it_has_a_buffer(base: str, tmp_path: Path) -> None:
    run = trainer(base, tmp_path / "run", beta=0.1)
    before, mix = weights(run.model), run.learner.mix
    assert mix is not None
    run.train()
    changed = {name for name, value in run.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if "lora_" in name}
    effect = {name: value for name, value in mix.state_dict().items() if name.startswith("effect0.")}
    assert sum(value.numel() for value in effect.values()) == adapter_size(run.model)
    moments = run.learner.state_dict()["optimizer"]
    assert sum(v.numel() for name, v in moments.items() if name.startswith("exp_avg.")) == adapter_size(run.model)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(row["mix/grad_norm/sft/right"] > 0 for row in rows)
    assert any("mix/meta_grad/sft/right" in row for row in rows)
    assert rows[0]["kl"] == pytest.approx(0.0, abs=1e-7)  # B = 0: the policy is its own reference
    assert rows[-1]["kl"] > 1e-4


def test_a_checkpoint_holds_the_adapter_alone(base: str, tmp_path: Path) -> None:
    run = trainer(base, tmp_path / "run", max_steps=2)
    run.train()
    folder = tmp_path / "run" / "checkpoints" / "step-2" / "model"
    assert {path.name for path in folder.glob("*.safetensors")} == {"adapter_model.safetensors"}
    saved = load_file(folder / "adapter_model.safetensors")
    assert sum(value.numel() for value in saved.values()) == adapter_size(run.model)
    for name, value in adapter_state(folder).items():
        assert torch.equal(run.model.state_dict()[name], value), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_resume_is_exact(base: str, tmp_path: Path, dtype: str) -> None:
    whole = trainer(base, tmp_path / "whole", dtype=dtype)
    whole.train()
    run = trainer(base, tmp_path / "halves", dtype=dtype)
    stop_after(run, 2)
    with pytest.raises(KeyboardInterrupt):
        run.train()
    trainer(base, tmp_path / "halves", dtype=dtype).train(resume=True)
    one, other = (tmp_path / name / "metrics.jsonl" for name in ("whole", "halves"))
    assert one.read_bytes() == other.read_bytes()
    ends = [adapter_state(tmp_path / name / "checkpoints" / "step-4" / "model") for name in ("whole", "halves")]
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name
        assert value.dtype == torch.float32


def stop_after(run: AMFTTrainer, steps: int) -> None:
    """Dies in the step after `steps`, as a killed process would."""
    step = run.one_step

    def dying(guard: Any) -> Any:
        if run.step == steps:
            raise KeyboardInterrupt
        return step(guard)

    run.one_step = dying  # type: ignore[method-assign]


def test_the_frozen_weights_of_a_half_precision_run_take_two_bytes(base: str, tmp_path: Path) -> None:
    run = trainer(base, tmp_path / "run", dtype="bfloat16")
    kinds = {"lora_" in name: p.dtype for name, p in run.model.named_parameters()}
    assert kinds == {False: torch.bfloat16, True: torch.float32}


def test_the_merged_model_is_the_adapters_model(base: str, tmp_path: Path) -> None:
    run = trainer(base, tmp_path / "run")
    run.train()
    merge_adapter(str(tmp_path / "run"), str(tmp_path / "merged"))
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    batch = pad_batch([[5, 6, 7], [8, 9]], [[4, 5], [6]], 0)
    adapted = load_model(str(tmp_path / "run" / "checkpoints" / "step-4" / "model"), torch.float64)
    merged, plain = load_model(str(tmp_path / "merged"), torch.float64), load_model(base, torch.float64)
    expected = token_scores(adapted, batch).logps
    torch.testing.assert_close(token_scores(merged, batch).logps, expected, rtol=0, atol=1e-5)
    assert (token_scores(plain, batch).logps - expected).abs().max() > 1e-2
    with adapter_off(adapted):
        torch.testing.assert_close(token_scores(adapted, batch).logps, token_scores(plain, batch).logps)
    with pytest.raises(ModelError, match="nothing to merge"):
        merge_adapter(base, str(tmp_path / "again"))


def test_the_adapters_gradient_is_the_full_gradient_seen_through_its_factors() -> None:
    """W' = W + s B A, so dL/dA = s B^T dL/dW' and dL/dB = s dL/dW' A^T, with s = alpha / r."""
    batch = pad_batch([[5, 6, 7], [8, 9]], [[4, 5], [6]], 0)
    model, full = (tiny_model("qwen3", vocab_size=16).double() for _ in range(2))
    full.load_state_dict(model.state_dict())
    add_lora(model, r=R, alpha=6.0, target_modules=["o_proj"], seed=1, base="tiny")
    layer = model.model.layers[0].self_attn.o_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    torch.nn.init.normal_(b, std=0.1, generator=torch.Generator().manual_seed(0))
    weight = full.model.layers[0].self_attn.o_proj.weight
    with torch.no_grad():
        weight += 3.0 * b @ a
    for one in (model, full):
        token_scores(one, batch).logps.sum().backward()
    assert a.grad is not None
    torch.testing.assert_close(a.grad, 3.0 * b.T @ weight.grad)
    torch.testing.assert_close(b.grad, 3.0 * weight.grad @ a.T)


def test_a_run_and_an_adapter_can_be_evaluated(tmp_path: Path) -> None:
    config = AMFTConfig(
        output_dir=str(tmp_path / "run"), lora={"r": R}, max_steps=1, num_prompts=2, num_generations=2, num_demos=2,
        max_completion_length=64, eval={"steps": 0, "test_splits": []},
    )  # fmt: skip
    from amft.tasks.registry import build_task

    run = AMFTTrainer("nano", config, task=build_task("general_points-v1"), recipe={"model": "nano"})
    run.train()
    folder = tmp_path / "run" / "checkpoints" / "step-1" / "model"
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "nano"
    assert settings["target_modules"] == sorted(settings["target_modules"]), "the same run writes the same bytes"
    assert len(settings["target_modules"]) > 4
    for model in (tmp_path / "run", folder):
        ((row,), _) = build_evaluation(str(model), Asked(task="general_points-v1", splits=["id"], problems=1))
        assert row["n"] == 1


def test_the_seed_reaches_the_adapter_and_nothing_else_is_drawn() -> None:
    state = torch.get_rng_state()
    drawn = []
    for seed in (1, 1, 2):
        model = tiny_model("qwen3", vocab_size=16)
        add_lora(model, r=R, alpha=4.0, target_modules="all-linear", seed=seed, base="tiny")
        drawn.append(model.model.layers[0].self_attn.q_proj.lora_A["default"].weight)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("lora", "words"),
    [
        ({"rank": 8}, "lora.rank: unknown key; valid keys: r, alpha, target_modules, load_in_4bit"),
        ({"r": 0}, "lora.r: expected a whole number >= 1 and <= 16384, got 0"),
        ({"dropout": 0.1}, "lora.dropout: unknown key"),
    ],
)
def test_settings_are_strict(lora: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AMFTConfig(lora=lora)
    assert str(caught.value).startswith(words)


def test_mistakes_are_one_line(base: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^lora.target_modules: Target modules .*nothing"):
        trainer(base, tmp_path / "a", lora={"target_modules": ["nothing"]})
    with pytest.raises(ConfigError, match="cannot be sharded"):
        AMFTConfig(lora={"load_in_4bit": True}, parallel="fsdp2")
    with pytest.raises(CheckpointError, match="not one with lora"):
        adapter_state(tmp_path)
    with pytest.raises(ModelError, match="pip install bitsandbytes"):
        in_four_bits()
    run = trainer(base, tmp_path / "run", max_steps=1)
    run.train()
    adapter = str(tmp_path / "run" / "checkpoints" / "step-1" / "model")
    for settings in ({}, {"lora": None}):
        with pytest.raises((ConfigError, ModelError), match="amft merge"):
            trainer(adapter, tmp_path / "b", **settings)
    assert load_tokenizer(adapter).eos_token_id is not None


def test_an_adapter_is_trained_the_same_on_a_tree(base: str, tmp_path: Path, monkeypatch) -> None:
    exact_norms.use(monkeypatch)
    ends = []
    for tree in (False, True):
        out = tmp_path / str(tree)
        trainer(base, out, dtype="float64", beta=0.1, micro_batch_size=2, prefix_tree=tree).train()
        ends.append(adapter_state(out / "checkpoints" / "step-4" / "model"))
    padded, tree = ends
    assert any(value.abs().max() > 1e-3 for name, value in padded.items() if "lora_B" in name)
    for name, value in padded.items():
        torch.testing.assert_close(tree[name], value, rtol=1e-9, atol=1e-10)
