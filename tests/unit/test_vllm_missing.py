"""The vLLM engine where it cannot run; what it does is in tests/vllm_engine."""

import importlib.util
import sys

import pytest
import torch

from amft.errors import ConfigError, ModelError
from amft.models.lora import add_lora, merged_weights
from amft.models.tiny import tiny_model
from amft.rollout.registry import build_sampler
from amft.settings.config import AMFTConfig


def build(dtype=torch.float32, **options):
    model = tiny_model(vocab_size=7, hidden_size=16, dtype=dtype)
    return build_sampler("vllm", model, pad_id=0, eos_ids=[], options=options)


def test_a_missing_package_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value) == (
        "engine: vllm is not installed; `pip install 'amft[vllm]'` on Linux, or use decode or hf"
    )


def test_a_folder_of_that_name_is_not_the_package(monkeypatch, tmp_path):
    (tmp_path / "vllm").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    with pytest.raises(ConfigError, match="not installed"):
        build()


@pytest.mark.parametrize(
    ("dtype", "ranks", "options", "said"),
    [
        (torch.float64, "1", {}, "no float64"),
        (torch.float32, "2", {}, "use worker"),
        (torch.float32, "1", {"where": "elsewhere"}, "none of trainer, worker and host:port"),
        (torch.float32, "1", {"llm": {"max_model_len": 9, "dtype": "half"}}, "llm.dtype: is set by amft"),
    ],
)
def test_what_it_does_not_do_is_said(monkeypatch, dtype, ranks, options, said):
    package = importlib.util.spec_from_loader("vllm", None, origin="somewhere")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: package)
    monkeypatch.setenv("WORLD_SIZE", ranks)
    with pytest.raises(ConfigError, match=said):
        build(dtype, **options)


def test_quantized_weights_are_refused(monkeypatch):
    package = importlib.util.spec_from_loader("vllm", None, origin="somewhere")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: package)
    model = tiny_model(vocab_size=7, hidden_size=16)
    model.config.quantization_config = {"load_in_4bit": True}
    with pytest.raises(ModelError, match="few bits"):
        build_sampler("vllm", model, pad_id=0, eos_ids=[])


def test_options_of_another_engine_are_refused():
    with pytest.raises(ConfigError, match="^engine_options: only engine vllm has any, this is decode"):
        AMFTConfig(engine="decode", engine_options={"timeout": 5.0})
    with pytest.raises(ConfigError, match=r"^engine_options\.timeout"):
        AMFTConfig(engine="vllm", engine_options={"timeout": 0.0})


def test_an_adapter_is_pushed_as_part_of_the_weights():
    """x (W + 2 B A): with r = 1 and alpha = 2 the scale is 2."""
    pytest.importorskip("peft")
    model, plain = (tiny_model(vocab_size=7, hidden_size=16, tie=True) for _ in range(2))
    add_lora(model, r=1, alpha=2.0, target_modules=["q_proj"], seed=0, base="none")
    weights = dict(plain.named_parameters())
    assert [name for name, _ in merged_weights(model)] == list(weights)
    for name, value in merged_weights(model):
        assert torch.equal(value, weights[name]), name  # B is 0 at first
    before = {name: value.clone() for name, value in model.named_parameters()}
    layer = model.model.layers[1].self_attn.q_proj
    with torch.no_grad():
        layer.lora_B["default"].weight.fill_(0.5)
    expected = weights["model.layers.1.self_attn.q_proj.weight"] + layer.lora_A["default"].weight  # 2 * 0.5 * A
    found = dict(merged_weights(model))
    assert torch.allclose(found["model.layers.1.self_attn.q_proj.weight"], expected, atol=1e-7)
    assert not found["model.layers.1.self_attn.q_proj.weight"].requires_grad
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]) or "layers.1.self_attn.q_proj.lora_B" in name
