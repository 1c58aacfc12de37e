"""Switching the attention kernel and the evaluation mode for a block."""

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from amft.errors import ModelError
from amft.models.attention import attention
from amft.models.modes import evaluating
from amft.models.tiny import tiny_model
from amft.rollout.decode import undecodable


@pytest.fixture
def model():
    return tiny_model(vocab_size=11, hidden_size=16, heads=2, kv_heads=1, layers=3)


@pytest.fixture
def fused_calls(monkeypatch):
    """Calls of torch's fused kernel since the start of the test."""
    calls = []
    fused = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *args, **kwargs: calls.append(1) or fused(*args, **kwargs),
    )
    return calls


def test_the_kernel_really_changes(model, fused_calls):
    ids = torch.tensor([[1, 2, 3, 4]])
    with attention(model, "sdpa"):
        fused = model(ids).logits
    assert len(fused_calls) == 3  # one per layer
    with attention(model, "eager"):
        plain = model(ids).logits
    assert len(fused_calls) == 3
    torch.testing.assert_close(fused, plain)


@pytest.mark.parametrize("start", ["sdpa", "eager"])
def test_the_previous_kernel_returns_even_after_an_error(model, start):
    model.set_attn_implementation(start)
    with attention(model, "eager"), attention(model, "sdpa"):
        pass
    assert model.config._attn_implementation == start
    with pytest.raises(KeyError), attention(model, "eager" if start == "sdpa" else "sdpa"):
        raise KeyError
    assert model.config._attn_implementation == start


def test_unknown_kernel_is_a_model_error_and_changes_nothing(model):
    before = model.config._attn_implementation
    with pytest.raises(ModelError, match="no_such"), attention(model, "no_such"):
        pass
    assert model.config._attn_implementation == before


def test_evaluating_gives_every_module_its_own_mode_back(model):
    model.train()
    model.model.layers[0].eval()
    before = [module.training for module in model.modules()]
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before
    assert True in before
    assert False in before


def test_a_sliding_window_model_does_not_fit_the_decode_engine(model):
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 1}
    windowed = MistralForCausalLM(MistralConfig(vocab_size=11, intermediate_size=16, sliding_window=4, **sizes))
    assert "cache" in undecodable(windowed)
    assert undecodable(model) is None
