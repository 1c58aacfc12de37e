"""The planner: sizes against real models, bytes against hand counts and against what autograd keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from plan_shapes import SIZES, SMALL
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from amft.batch import pad_batch
from amft.cli import main
from amft.errors import ConfigError, ModelError
from amft.models.forward import token_scores
from amft.planning.devices import DEVICES, find_device
from amft.planning.memory import Load, Memory, activations, kv_cache, memory_of
from amft.planning.plan import HEADROOM, load_of, plan_step
from amft.planning.seconds import Work, seconds_of
from amft.planning.shape import KNOWN, read_shape, shape_of
from amft.settings.config import AMFTConfig

KINDS = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}
KINDS["qwen3"] = (Qwen3Config, Qwen3ForCausalLM)
LOAD = Load(
    rows=1, prompt=3, completion=5, sampled=4, trained=SMALL.parameters, width=4, half=False, moments=2, buffers=1
)
GIB = 2.0**30


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [True, False])
def test_sizes_are_those_of_the_model(kind: str, tied: bool) -> None:
    config, model = KINDS[kind]
    built = model(config(**SIZES, tie_word_embeddings=tied))
    shape = shape_of(built.config.to_dict(), "config")
    assert shape.parameters == sum(p.numel() for p in built.parameters())
    assert shape.layer == sum(p.numel() for p in built.model.layers[0].parameters())


@pytest.mark.parametrize(("name", "billions"), [("Qwen/Qwen2.5-Math-1.5B", 1.54), ("Qwen/Qwen2.5-Math-7B", 7.62)])
def test_known_models_have_the_published_number_of_parameters(name: str, billions: float) -> None:
    assert name in KNOWN
    assert read_shape(name).parameters / 1e9 == pytest.approx(billions, abs=0.005)


def kept_by_autograd(model: Any, rows: int, prompt: int, completion: int) -> int:
    """Bytes of the different storages that a forward pass saves, weights apart."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen: dict[int, tuple[int, torch.Tensor]] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = (storage.nbytes(), tensor)  # kept alive, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        token_scores(model, pad_batch([[1] * prompt] * rows, [[2] * completion] * rows, 0)).logps.sum()
    return sum(size for size, _ in seen.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_activations_are_what_autograd_keeps(kind: str, attention: str) -> None:
    config, model = KINDS[kind]
    built = model(config(**SIZES))
    built.set_attn_implementation(attention)
    shape = shape_of(built.config.to_dict(), "config")
    load = replace(LOAD, rows=4, prompt=10, completion=30, trained=shape.parameters, fused=attention == "sdpa")
    passing = 4 * 40 * 4.0 * max(3 * 160, 2 * 4 * 40 * (attention == "eager"))
    formula = activations(shape, load) - passing
    assert formula == pytest.approx(kept_by_autograd(built, 4, 10, 30), rel=0.06)


def test_parts_by_hand() -> None:
    """SMALL: a layer has 8*8 + 2*4*8 + 8*8 + 3*16*8 + 2*8 = 592 parameters; two, 10*8 embedding, 8 norm: 1272."""
    assert SMALL.layer == 592
    assert SMALL.parameters == 1272
    memory = memory_of(SMALL, LOAD, runtime=100.0)
    assert (memory.weights, memory.gradients, memory.optimizer, memory.rule) == (5088, 5088, 10176, 5088)
    assert (memory.casts, memory.reference, memory.gathered, memory.runtime) == (0, 0, 0, 100)
    # 2 (key and value) * 2 layers * width 4 * 4 rows * 8 tokens * 4 bytes
    assert memory.kv_cache == kv_cache(SMALL, LOAD) == 2 * 2 * 4 * 4 * 8 * 4
    assert memory.training == 25540 + memory.activations + memory.logits
    assert memory.sampling == 20452 + memory.kv_cache + memory.choices


def test_layouts_by_hand() -> None:
    whole, n = memory_of(SMALL, LOAD, 0.0), SMALL.parameters
    sharded = memory_of(SMALL, replace(LOAD, sharded=True, shards=4, half=True), 0.0)
    for part in ("weights", "gradients", "optimizer", "rule"):
        assert getattr(sharded, part) == getattr(whole, part) / 4
    assert sharded.gathered == 2 * n  # bfloat16
    layered = memory_of(SMALL, replace(LOAD, sharded=True, shards=4, layered=True), 0.0)
    assert layered.gathered == 4 * (80 + 8 + 2 * 592)  # embedding, last norm, a layer and the next
    assert layered.training == memory_of(SMALL, replace(LOAD, sharded=True, shards=4), 0.0).training
    offloaded = memory_of(SMALL, replace(LOAD, sharded=True, offload=True), 0.0)
    assert offloaded.weights == offloaded.gradients == offloaded.optimizer == offloaded.rule == 0
    assert memory_of(SMALL, replace(LOAD, half=True), 0.0).casts == 2 * n
    adapter = SMALL.adapter(2)
    assert adapter == 2 * 2 * (2 * 16 + 2 * 12 + 3 * 24)  # 2 layers, rank 2, rows + columns of the seven modules
    lora = memory_of(SMALL, replace(LOAD, trained=adapter, width=2, half=True), 0.0)
    assert (lora.weights, lora.gradients, lora.rule) == (2 * (n - adapter) + 4 * adapter, 4 * adapter, 4 * adapter)
    assert lora.casts == 0
    assert memory_of(SMALL, replace(LOAD, references=1), 0.0).reference == 4 * n


def test_recomputing_activations_keeps_one_layer_and_the_edges() -> None:
    deep = replace(SMALL, layers=40)
    assert activations(deep, replace(LOAD, recompute=True)) < 0.3 * activations(deep, LOAD)


def test_seconds_by_hand() -> None:
    """Training: 6 N tokens / (0.4 flops). Decoding few rows: the weights are read once per token."""
    device, load = DEVICES["h100"], replace(LOAD, completion=100)
    big = read_shape("Qwen/Qwen2.5-Math-1.5B")
    found = seconds_of(
        big, replace(load, trained=big.parameters), Work(sampled=4, demos=2, passes=1, length=103), device, 1
    )
    assert found.sft == pytest.approx(6 * big.parameters * 2 * 103 / (0.4 * 989e12))
    assert found.rl == pytest.approx(2 * found.sft)
    assert found.generate == pytest.approx(100 * 4 * big.parameters / (0.6 * 3.35e12), rel=0.01)
    assert found.exchange == 0


def test_a_checkpoint_written_behind_the_training_is_held_once_more() -> None:
    def kept(device: str, **checkpoint: Any) -> float:
        settings = AMFTConfig(balance={"rule": "rl"}, checkpoint=checkpoint).model_dump()
        return memory_of(SMALL, load_of(settings, SMALL, DEVICES[device], 1, None), 0.0).kept

    weights = 4.0 * SMALL.parameters
    assert kept("cpu", async_save=True) - kept("cpu") == 3 * weights
    assert kept("cpu", async_save=True, only_model=True) - kept("cpu") == weights
    assert kept("h100", async_save=True) == kept("h100")


def test_settings_reach_the_load() -> None:
    def load(**settings: Any) -> Load:
        return load_of(AMFTConfig(**settings).model_dump(), SMALL, DEVICES["h100"], 2, None)

    assert load(balance={"rule": "rl"}).buffers == 0
    assert load(balance={"rule": "amft-scalar", "horizon": 0.5}).buffers == 2
    assert (
        load(balance={"rule": "amft", "horizon": 0.5}).buffers
        == 2 * load(balance={"rule": "amft", "classes": 1}).buffers
        == 4
    )
    assert (load().sampled, load(num_prompts=3, num_generations=3).sampled) == (64, 5)
    assert load(parallel="fsdp2").shards == 2
    assert load(parallel="fsdp2", replicate=2).shards == 1
    assert load(optim="sgd").moments == 0
    assert [load(optim=name).moments for name in ("adafactor", "lion", "adamw_8bit", "paged_adamw")] == [0, 1, 0.5, 2]
    # One on the matrices between, two on what is AdamW's: the embedding, which the output layer shares or not.
    ends = SMALL.embedding * (1 if SMALL.tied else 2)
    assert load(optim="muon").moments == pytest.approx((SMALL.parameters + ends) / SMALL.parameters)
    assert load(beta=0.1).references == 1
    assert load(beta=0.1, implicit_reward={"steps": 5}).references == 2
    assert load(beta=0.1, lora={}).references == 0
    assert load(lora={"r": 2}, dtype="bfloat16").width == 2
    assert load(lora={"r": 2}, dtype="bfloat16", parallel="fsdp2").width == 4


def test_advice_lowers_the_peak_until_it_fits() -> None:
    shape, device = read_shape("Qwen/Qwen2.5-Math-7B"), find_device("h100")
    config = AMFTConfig(max_completion_length=2048, num_prompts=64, num_demos=64)
    found = plan_step(config, shape, device, 8)
    assert not found.fits
    peaks = [found.memory.peak, *(change["peak_together"] for change in found.changes)]
    assert peaks == sorted(peaks, reverse=True)
    assert [change["fits"] for change in found.changes] == [*([False] * (len(found.changes) - 1)), True]
    changed = {name: value for change in found.changes for name, value in change["set"].items()}
    again = plan_step(AMFTConfig(**{**config.model_dump(), **changed}), shape, device, 8)
    assert again.fits
    assert again.memory.peak == peaks[-1] <= HEADROOM * device.memory


def test_copies_of_shards_take_more_memory_and_say_so() -> None:
    shape, device = read_shape("Qwen/Qwen2.5-Math-7B"), find_device("h100")
    config = AMFTConfig(parallel="fsdp2", dtype="bfloat16", gradient_checkpointing=True)
    one, two = (plan_step(config.model_copy(update={"replicate": n}), shape, device, 8) for n in (1, 2))
    assert two.memory.optimizer == 2 * one.memory.optimizer
    assert two.memory.gathered == one.memory.gathered
    assert two.seconds.exchange > one.seconds.exchange
    four = plan_step(config.model_copy(update={"replicate": 4}), shape, device, 8)
    assert not four.fits
    assert {"replicate": 1} in [change["set"] for change in four.changes]


def test_a_model_too_large_to_gather_is_sampled_from_layer_by_layer() -> None:
    shape, device = read_shape("Qwen/Qwen2.5-Math-7B"), find_device("rtx4090")
    found = plan_step(AMFTConfig(), shape, device, 8)
    changes = [change["set"] for change in found.changes]
    assert {"parallel": "fsdp2", "rollout_gather": "layer"} in changes
    assert plan_step(
        AMFTConfig(**{key: value for each in changes for key, value in each.items()}), shape, device, 8
    ).fits
    served = plan_step(AMFTConfig(engine="vllm"), shape, device, 8)
    assert not any("rollout_gather" in change["set"] for change in served.changes)
    whole, layered = (
        plan_step(AMFTConfig(parallel="fsdp2", rollout_gather=each), shape, device, 8) for each in ("model", "layer")
    )
    sent = AMFTConfig().max_completion_length * 4 * shape.layers * shape.layer / device.link
    assert layered.seconds.generate - whole.seconds.generate == pytest.approx(sent)


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="--gpu h900: not known; choose from h200"):
        find_device("h900")
    with pytest.raises(ConfigError, match="parallel: single, but --gpus 2"):
        plan_step(AMFTConfig(parallel="single"), SMALL, DEVICES["h100"], 2)
    with pytest.raises(ConfigError, match="replicate: 3 copies cannot be laid evenly on 8 ranks"):
        plan_step(AMFTConfig(parallel="fsdp2", replicate=3), SMALL, DEVICES["h100"], 8)
    with pytest.raises(ModelError, match="--model-config"):
        read_shape("no/such-model")
    with pytest.raises(ModelError, match="'gpt2' is not one a plan knows"):
        shape_of({"model_type": "gpt2"}, "config.json")
    with pytest.raises(ModelError, match="no hidden_size in it"):
        shape_of({"model_type": "llama"}, "config.json")
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="not JSON"):
        read_shape("x", str(tmp_path / "config.json"))
    assert main(["plan", "general_points", "--gpu", "toaster"]) == 2
    assert capsys.readouterr().err.startswith("amft: error: --gpu toaster: not known")


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "general_points", "--gpu", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fits"]
    assert found["parameters"] == read_shape("nano").parameters
    assert main(["plan", "general_points", "--gpu", "h100", "--memory", "0.1"]) == 0
    text = capsys.readouterr().out
    assert "does not fit" in text
    assert "change, in this order" in text


def test_rollouts_in_half_precision_need_a_copy_of_the_weights() -> None:
    def planned(**settings: Any) -> Any:
        return plan_step(AMFTConfig(dtype="bfloat16", **settings), SMALL, DEVICES["cpu"], 1).memory

    assert planned().copy == 2 * SMALL.parameters
    assert planned().kept - planned(rollout_weights="master").kept == 2 * SMALL.parameters
    assert planned().kv_cache == planned(rollout_weights="master").kv_cache / 2
    assert planned(lora={"r": 2}).copy == 0
    assert planned(parallel="fsdp2").copy == 0
    assert plan_step(AMFTConfig(), SMALL, DEVICES["cpu"], 1).memory.copy == 0


def test_a_shadow_is_weights_gradient_and_moments_more() -> None:
    def planned(rule: str) -> Memory:
        settings = AMFTConfig(output_dir="run", max_steps=1, balance={"rule": rule}).model_dump()
        return memory_of(SMALL, load_of(settings, SMALL, DEVICES["h100"], 1, None), 0.0)

    constant, bridge = planned("fixed"), planned("bridge")
    assert constant.rule == 0
    assert bridge.rule == constant.weights + constant.gradients + constant.optimizer > 0
