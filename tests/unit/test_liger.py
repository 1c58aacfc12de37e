"""`use_liger_kernel`: what a machine without a GPU can tell of it. The kernels themselves are not run here."""

import importlib.util
import sys
from types import SimpleNamespace

import pytest
import torch
from tiny_runs import build, tiny_model

from amft.errors import ConfigError, IntegrationError
from amft.models import liger
from amft.models.liger import check_liger, put_liger
from amft.training import foundation

NO_GPU = r"^use_liger_kernel: its kernels run on a GPU, and none is found here; leave it out$"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


@pytest.fixture
def patched(monkeypatch):
    """A package in the place of Liger's that writes down how it is called."""
    calls = []
    fake = SimpleNamespace(
        MODEL_TYPE_TO_APPLY_LIGER_FN={"llama": None},
        _apply_liger_kernel_to_instance=lambda model, **options: (
            calls.append((model, options)) or model.add_module("mark", torch.nn.Module())
        ),
    )
    for name in ("liger_kernel", "liger_kernel.transformers"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(__path__=[], transformers=None, monkey_patch=fake))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers.monkey_patch", fake)
    return calls


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_a_run_ends_before_anything_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(foundation, "load_processing_class", None)  # the first thing that is loaded
    with pytest.raises(ConfigError, match=NO_GPU):
        build(tmp_path / "run", "amft", use_liger_kernel=True)
    assert not (tmp_path / "run").exists()


def test_without_the_package_the_line_names_the_extra(gpu, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(IntegrationError, match=r"^use_liger_kernel needs liger_kernel, .*'amft\[liger\]'$"):
        check_liger()


def test_float64_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="use_liger_kernel: its kernels compute in float32; use dtype float32 or"):
        build(tmp_path / "run", "amft", use_liger_kernel=True, dtype="float64")


def test_the_policy_is_patched_once_before_its_reference_is_copied_and_keeps_its_head(tmp_path, patched, monkeypatch):
    monkeypatch.setattr(foundation, "check_liger", lambda: None)
    trainer = build(tmp_path / "run", "amft", use_liger_kernel=True, beta=0.1)
    ((model, options),) = patched
    assert model is trainer.model
    assert options == {"cross_entropy": False, "fused_linear_cross_entropy": False}
    assert "mark" in dict(trainer.foundation.reference.named_modules())
    patched.clear()
    build(tmp_path / "plain", "amft", beta=0.1)
    assert patched == []


def test_a_family_that_liger_does_not_know(patched):
    model = tiny_model()
    model.config.model_type = "gpt2"
    with pytest.raises(ConfigError, match=r"^use_liger_kernel: Liger has no kernels for models of type gpt2; leave it"):
        put_liger(model)
    assert patched == []


def test_liger_itself_leaves_the_head_and_cross_entropy_alone(monkeypatch):
    pytest.importorskip("triton")
    pytest.importorskip("liger_kernel")
    from transformers.models.llama import modeling_llama

    for name in ("apply_rotary_pos_emb", "LlamaRMSNorm", "LlamaMLP"):  # put back afterwards
        monkeypatch.setattr(modeling_llama, name, getattr(modeling_llama, name))
    model, loss = tiny_model(), torch.nn.functional.cross_entropy
    plain = type(model).forward
    liger.put_liger(model)
    assert torch.nn.functional.cross_entropy is loss
    assert type(model).forward is plain
    assert "forward" not in vars(model)
    assert "forward" not in vars(model.lm_head)
    layer = model.model.layers[0]
    parts = (model.model.norm, layer.input_layernorm, layer.post_attention_layernorm, layer.mlp)
    assert all(part.forward.__func__.__module__.startswith("liger_kernel.") for part in parts)
    assert modeling_llama.apply_rotary_pos_emb.__module__ == "liger_kernel.transformers.rope"
