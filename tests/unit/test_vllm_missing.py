"""The engine `vllm` where it cannot run; what it does is in test_served_sampler.py and tests/vllm_engine."""

import importlib.util
import sys

import pytest
import torch
from served_policies import sampler

from amft.errors import ConfigError, ModelError
from amft.models.tiny import tiny_model
from amft.settings.config import AMFTConfig


def build(dtype=torch.float32, **options):
    return sampler(tiny_model(vocab_size=7, hidden_size=16, dtype=dtype), **options)


@pytest.fixture
def installed(monkeypatch):
    package = importlib.util.spec_from_loader("vllm", None, origin="somewhere")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: package)


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
    ("machines", "options", "said"),
    [
        (("1", "2"), {}, "with several machines"),
        (("1", "1"), {"where": "elsewhere"}, "neither own nor of the form http://host:port"),
        (("1", "1"), {"serve": {"max_model_len": 9, "dtype": "half"}}, "serve.dtype: is set by amft"),
        (("1", "1"), {"sleep": True}, "only the memory of a GPU"),
        (("1", "1"), {"exchange": "/no/such/directory"}, None),
    ],
)
@pytest.mark.usefixtures("installed")
def test_what_it_does_not_do_is_said(monkeypatch, machines, options, said):
    for name, value in zip(("LOCAL_WORLD_SIZE", "WORLD_SIZE"), machines, strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises((ConfigError, OSError), match=said or "/no/such/directory.*cannot be written"):
        build(**options)


@pytest.mark.usefixtures("installed")
def test_models_that_cannot_be_pushed_are_refused():
    with pytest.raises(ConfigError, match="no float64"):
        build(torch.float64)
    model = tiny_model(vocab_size=7, hidden_size=16)
    model.config.quantization_config = {"load_in_4bit": True}
    with pytest.raises(ModelError, match="few bits"):
        sampler(model)


@pytest.mark.usefixtures("installed")
def test_an_adapter_of_a_rank_that_vllm_does_not_take_is_refused(monkeypatch):
    monkeypatch.setattr("amft.distributed.vllm_place.has_adapter", lambda model: True)
    monkeypatch.setattr("amft.distributed.vllm_place.lora_rank", lambda model: 513)
    with pytest.raises(ModelError, match=r"^lora\.r: vllm takes adapters up to rank 512"):
        build()


@pytest.mark.usefixtures("installed")
def test_vllms_own_ways_need_it_beside_the_trainer(monkeypatch):
    from amft.rollout.vllm_client import VllmClient
    from amft.rollout.weight_push import vllm_push

    monkeypatch.setitem(sys.modules, "vllm", None)
    for way in ("ipc", "nccl"):
        with pytest.raises(ConfigError, match=f"^engine_options.transfer: {way} is vLLM's own"):
            vllm_push(way, VllmClient("http://h:1", "", 1.0), [], 0)


def test_options_of_another_engine_are_refused():
    with pytest.raises(ConfigError, match="^engine_options: only engine vllm has any, this is decode"):
        AMFTConfig(engine="decode", engine_options={"timeout": 5.0})
    with pytest.raises(ConfigError, match=r"^engine_options\.timeout"):
        AMFTConfig(engine="vllm", engine_options={"timeout": 0.0})
