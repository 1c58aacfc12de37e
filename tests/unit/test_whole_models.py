"""A model directory is loaded whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_runs import ROWS, parity, tiny_tokenizer
from tiny_runs import tiny_model as few_words
from transformers import AutoTokenizer

from amft import AMFTConfig, AMFTTrainer
from amft.errors import ConfigError, ModelError, NonFiniteError
from amft.models.load import load_model, load_tokenizer
from amft.models.tiny import tiny_model
from amft.models.whole import check_tokenizer
from amft.rollout.registry import build_sampler
from amft.types import Sampling

WEIGHTS = "model.safetensors"
NORM = "model.layers.1.input_layernorm.weight"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tiny_model("qwen3", vocab_size=50, hidden_size=16).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def changed(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    state = load_file(directory / WEIGHTS)
    change(state)
    save_file(state, directory / WEIGHTS, {"format": "pt"})


def configured(directory: Path, **changes: object) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | changes))


CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (lambda d: changed(d, lambda s: s.pop(NORM)), f"{NORM} missing from the weight files.*allow_missing"),
    "left over": (lambda d: changed(d, lambda s: s.update(extra=torch.ones(1))), "extra of no use"),
    "another shape": (lambda d: changed(d, lambda s: s.update({NORM: torch.ones(5)})), rf"{NORM} is \[5\].*\[16\]"),
    "nan": (lambda d: changed(d, lambda s: s[NORM].fill_(torch.nan)), f"{NORM} is not finite"),
    "bert": (lambda d: configured(d, model_type="bert"), "missing from the weight files|do not belong"),
    "llama": (lambda d: configured(d, model_type="llama"), "of no use to this architecture"),
    "contradiction": (lambda d: configured(d, architectures=["GPT2LMHeadModel"]), "qwen3 and architectures GPT2"),
    "vast": (lambda d: configured(d, vocab_size=2**40), "describes .* parameters and the weight files hold"),
    "deep": (lambda d: configured(d, num_hidden_layers=10**9, layer_types=None), "num_hidden_layers 1000000000"),
    "deeper": (lambda d: configured(d, num_hidden_layers=5000, layer_types=None), "5000 layers and the weight files"),
    "norm": (lambda d: configured(d, rms_norm_eps=float("nan")), "logits that are not finite"),
    "rope": (
        lambda d: configured(d, rope_parameters={"rope_type": "default", "rope_theta": float("nan")}),
        "rotary_emb.* is not finite; see the rope settings",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_belong_together_is_refused(directory: Path, case: str) -> None:
    spoil, said = CASES[case]
    spoil(directory)
    with pytest.raises(ModelError, match=said) as caught:
        load_model(str(directory))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("named", ["pytorch_model.bin", "../model.safetensors"])
def test_an_index_may_name_safetensors_beside_it_only(directory: Path, named: str) -> None:
    state = load_file(directory / WEIGHTS)
    torch.save(state, directory / "pytorch_model.bin")
    (directory / WEIGHTS).rename(directory.parent / WEIGHTS)
    (directory / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(state, named)}))
    with pytest.raises(ModelError, match="weights are read from safetensors files beside it"):
        load_model(str(directory))


def test_an_index_of_safetensors_is_loaded(directory: Path) -> None:
    expected = load_model(str(directory)).state_dict()
    model = load_model(str(directory))
    shutil.rmtree(directory)
    model.save_pretrained(directory, max_shard_size="5KB")
    assert (directory / f"{WEIGHTS}.index.json").is_file()
    found = load_model(str(directory)).state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_missing_tensors_that_are_meant_are_drawn_and_the_same_every_time(directory: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    changed(directory, lambda s: (s.pop(name), s.update(extra=torch.ones(1))))
    first, again = (load_model(str(directory), allow_missing=["*.up_proj.*", "ex*"]) for _ in range(2))
    drawn = dict(first.named_parameters())[name]
    assert drawn.std() > 0
    assert torch.equal(drawn, dict(again.named_parameters())[name])
    with pytest.raises(ModelError, match="up_proj"):
        load_model(str(directory), allow_missing=["lm_head.*", "extra"])


def test_the_setting_reaches_the_loading(directory: Path) -> None:
    changed(directory, lambda s: s.pop(NORM))
    arguments = {"train_dataset": ROWS, "reward_funcs": parity, "processing_class": tiny_tokenizer()}
    AMFTTrainer(str(directory), AMFTConfig(allow_missing=[NORM]), **arguments)
    with pytest.raises(ModelError, match="allow_missing"):
        AMFTTrainer(str(directory), AMFTConfig(), **arguments)


def test_a_model_from_python_is_looked_at_too() -> None:
    model = few_words()
    with torch.no_grad():
        model.model.norm.weight[0] = torch.inf
    arguments = {"train_dataset": ROWS, "reward_funcs": parity, "processing_class": tiny_tokenizer()}
    with pytest.raises(ModelError, match=r"the weight model\.norm\.weight is not finite"):
        AMFTTrainer(model, AMFTConfig(), **arguments)
    with pytest.raises(ConfigError, match="allow_missing: the model is loaded already"):
        AMFTTrainer(model, AMFTConfig(allow_missing=["x"]), **arguments)


def test_a_tokenizer_beyond_the_vocabulary_is_refused_unless_nothing_writes_its_tokens() -> None:
    tokenizer = load_tokenizer("nano")
    model = tiny_model(vocab_size=len(tokenizer))
    check_tokenizer("m", tokenizer, model)
    tokenizer.add_tokens(["<image_soft_token>"], special_tokens=True)
    check_tokenizer("m", tokenizer, model)
    tokenizer.add_tokens(["plain"])
    with pytest.raises(
        ModelError, match=rf"'plain' is number {len(tokenizer) - 1} and the model has {len(tokenizer) - 2}"
    ):
        check_tokenizer("m", tokenizer, model)


def test_an_adapter_is_whole_and_no_pickle(directory: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from amft.models.lora import ADAPTER, add_lora, save_adapter

    model = load_model(str(directory))
    add_lora(model, r=2, alpha=4.0, target_modules="all-linear", seed=0, base=str(directory))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    state = {name: value for name, value in model.named_parameters() if "lora_" in name}
    save_adapter(model, adapter, state)
    load_model(str(adapter))
    save_adapter(model, adapter, dict(list(state.items())[1:]))
    with pytest.raises(ModelError, match=r"no .*lora_A.* in it"):
        load_model(str(adapter))
    (adapter / ADAPTER).rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match="from safetensors only"):
        load_model(str(adapter))


@pytest.mark.parametrize("engine", ["decode", "hf"])
def test_a_policy_that_has_left_the_numbers_ends_rollouts_with_one_line(engine: str) -> None:
    model = tiny_model(vocab_size=20)
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    sampler = build_sampler(engine, model, pad_id=0, eos_ids=[1])
    with pytest.raises(NonFiniteError, match="logits are not finite"):
        sampler.generate([[3, 4]], Sampling(2, 4), torch.Generator().manual_seed(0))


def test_the_tokenizer_of_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    AutoTokenizer.from_pretrained(load_tokenizer("nano").name_or_path).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match="the tokenizer cannot be loaded"):
        load_tokenizer(str(tmp_path))
