"""The planner on models with pictures: sizes against real models, bytes by hand and against what autograd keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from plan_shapes import SIZES
from plan_shapes import SMALL as TEXT
from transformers import (
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen3Config,
    SiglipVisionConfig,
)

from amft.batch import pad_batch
from amft.cli import main
from amft.errors import ConfigError, ModelError
from amft.models.forward import token_scores
from amft.models.load import load_tokenizer
from amft.models.lora import add_lora
from amft.models.tiny_vision import tiny_vision_model, tiny_vision_processor
from amft.planning.devices import DEVICES
from amft.planning.memory import Load, activations, kv_cache, memory_of, prefill
from amft.planning.plan import load_of, plan_step
from amft.planning.seconds import Work, seconds_of
from amft.planning.shape import read_shape, shape_of
from amft.planning.tower import Tower, kept_of_picture
from amft.settings.config import AMFTConfig

VISION = {
    "hidden_size": 48,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 56,
    "patch_size": 14,
}
KINDS: dict[str, dict[str, Any]] = {
    "siglip": {"vision_config": SiglipVisionConfig(**VISION, vision_use_head=False), "vision_feature_layer": -1},
    "siglip with its head": {"vision_config": SiglipVisionConfig(**VISION), "vision_feature_layer": -1},
    "clip": {"vision_config": CLIPVisionConfig(**VISION), "vision_feature_layer": -2},
    "clip, two layers": {"vision_config": CLIPVisionConfig(**VISION), "vision_feature_layer": [1, 3]},
}
TOWER = Tower(
    hidden=4, intermediate=6, layers=2, heads=2, side=6, patch=2, channels=3, outer=8, read=(2,),
    is_clip=False, is_cropped=False, has_head=False, is_quick=False, bias=True,
)  # fmt: skip
SMALL = replace(TEXT, tower=TOWER)
LOAD = Load(
    rows=4, prompt=20, completion=10, sampled=4, trained=SMALL.parameters, width=4, half=False, moments=2, buffers=1,
    fused=False, prefilled=4, pictures=6,
)  # fmt: skip


def build(kind: str) -> LlavaForConditionalGeneration:
    given = KINDS[kind]
    strategy = "full" if kind.startswith("siglip") else "default"
    config = LlavaConfig(
        text_config=Qwen3Config(**SIZES, tie_word_embeddings=True),
        image_token_id=49,
        vision_feature_select_strategy=strategy,
        tie_word_embeddings=True,
        **given,
    )
    return LlavaForConditionalGeneration(config)


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_are_those_of_the_model(kind: str, tmp_path: Path) -> None:
    model = build(kind)
    model.config.save_pretrained(tmp_path)  # as a reader meets it: config.json on disk
    shape = read_shape(str(tmp_path))
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert shape.decoder == shape.parameters - sum(
        p.numel() for name, p in model.named_parameters() if "vision_tower" in name or "projector" in name
    )
    assert shape.tower is not None
    assert shape.tower.tokens == 16  # (56 / 14)^2


def test_the_known_model_has_its_published_size() -> None:
    """LLaVA-1.5-7B: Vicuna 7B of 6.74 B, the tower of CLIP-L/14-336 of 0.30 B, a projector of 0.02 B; 576 tokens."""
    shape = read_shape("llava-hf/llava-1.5-7b-hf")
    assert shape.parameters / 1e9 == pytest.approx(7.063, abs=0.001)
    assert shape.tower is not None
    assert shape.tower.tokens == 576


@pytest.mark.parametrize("names", [None, ["q_proj", "v_proj"], ["gate_proj", "down_proj"], ["fc1", "linear_2"]])
def test_adapters_are_those_of_peft(names: list[str] | None) -> None:
    pytest.importorskip("peft")
    model = build("clip")
    shape = shape_of(model.config.to_dict(), "config")
    add_lora(model, r=3, alpha=6.0, target_modules=names or "all-linear", seed=0, base="x")
    assert shape.adapter(3, names) == sum(p.numel() for p in model.parameters() if p.requires_grad)


def kept_by_autograd(model: Any, rows: int) -> int:
    """Bytes of the different storages that are kept at the end of a forward pass, weights and pixels apart."""
    batch = pad_batch([[49] * 16 + [1] * 4] * rows, [[2] * 10] * rows, 0)
    batch = replace(batch, pixel_values=torch.zeros(rows, 3, 56, 56))
    own = {p.untyped_storage().data_ptr() for p in [*model.parameters(), batch.pixel_values]}
    kept: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept.append(tensor)  # kept alive, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        token_scores(model, batch).logps.sum()
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}.values())


@pytest.mark.parametrize("kind", ["siglip", "clip"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_pictures_are_what_autograd_keeps(kind: str, attention: str) -> None:
    """What the tower adds is the difference to a frozen one. CLIP's last layer is not read, its graph gone before
    the backward pass; here everything is kept alive, so it counts."""
    model = build(kind)
    model.set_attn_implementation(attention)
    shape = shape_of(model.config.to_dict(), "config")
    assert shape.tower is not None
    assert shape.tower.read == ((3,) if kind == "siglip" else (2,))
    tower, options = replace(shape.tower, read=(3,)), {"half": False, "fused": attention == "sdpa", "recompute": False}
    load = replace(LOAD, fused=attention == "sdpa")
    whole = kept_by_autograd(model, 4)
    model.model.vision_tower.requires_grad_(False)
    frozen = kept_by_autograd(model, 4)
    difference = 4 * (
        kept_of_picture(tower, trained=True, **options) - kept_of_picture(tower, trained=False, **options)
    )
    assert difference == pytest.approx(whole - frozen, rel=0.05)
    passing = 4 * 120.0 * max(3 * 160, 2 * 4 * 30 * (attention == "eager"))
    assert activations(shape, replace(load, trains_tower=False)) - passing == pytest.approx(frozen, rel=0.06)


def test_bytes_of_a_picture_by_hand() -> None:
    """TOWER: 9 positions. A layer keeps 8 * 4 + 2 * 6 and 2 * 9 probabilities: 62 numbers a position, 558; the
    projector keeps 9 * (4 + 2 * 8) = 180."""
    assert (TOWER.positions, TOWER.tokens, TOWER.pixels) == (9, 9, 108)
    options = {"trained": True, "half": False, "fused": False, "recompute": False}
    assert kept_of_picture(TOWER, **options) == 4 * (2 * 558 + 180)
    assert kept_of_picture(TOWER, **{**options, "fused": True}) == 4 * (2 * 9 * 44 + 180)
    # In bfloat16 the two inputs of norms stay in float32.
    assert kept_of_picture(TOWER, **{**options, "half": True}) == 2 * 9 * (4 * 8 + 2 * 54) + 2 * 180
    # One layer, and the edges of both.
    assert kept_of_picture(TOWER, **{**options, "recompute": True}) == 4 * (558 + 2 * 36 + 180)
    assert kept_of_picture(TOWER, **{**options, "trained": False}) == 4 * 180
    # CLIP: a position and a norm more, quick_gelu, and the first position is not handed on.
    clip = replace(TOWER, is_clip=True, is_cropped=True, is_quick=True)
    assert kept_of_picture(clip, **options) == 4 * (2 * 10 * (8 * 4 + 3 * 6 + 2 * 10) + 10 * 4 + 9 * 20)


def test_parts_by_hand() -> None:
    """A layer of TOWER: 4 * 4 * 4 + 2 * 4 * 6 weights, 4 * 4 + 6 + 4 biases, 4 * 4 norms = 154; 3 * 4 * 4 + 4 patches,
    9 * 4 positions, 2 * 4 of the last norm; projector 8 * 4 + 8 + 8 * 8 + 8. Decoder: 1272 (`test_planning.py`)."""
    assert TOWER.parameters == 2 * 154 + 52 + 36 + 8 + 112 == 516
    assert SMALL.parameters == 1272 + 516
    memory = memory_of(SMALL, LOAD, 0.0)
    assert memory.weights == 4 * 1788
    assert memory.pictures == 4 * 6 * 108
    text = replace(SMALL, tower=None)
    options = {"trained": True, "half": False, "fused": False, "recompute": False}
    assert memory.activations - activations(text, LOAD) == 4 * kept_of_picture(TOWER, **options)
    # The prompt's place in the cache, 20 of 30 tokens; the decoder's layer is widest: 2 * 2 * 20 probabilities a token.
    assert prefill(SMALL, LOAD) == kv_cache(SMALL, LOAD) * 20 / 30 + 4 * 20 * (4 * 80 + 12 * 8)
    # A tower of 40 heads is wider: 9 * (4 * 2 * 40 * 9 + 12 * 4) bytes a picture.
    wide = replace(SMALL, tower=replace(TOWER, heads=40))
    assert prefill(wide, LOAD) == kv_cache(SMALL, LOAD) * 20 / 30 + 4 * 9 * (4 * 720 + 12 * 4)
    assert memory.sampling == memory.kept + max(memory.kv_cache + memory.choices, memory.prefill)


def test_settings_reach_the_load() -> None:
    def load(kind: str = "h100", **settings: Any) -> Load:
        return load_of(AMFTConfig(**settings).model_dump(), SMALL, DEVICES[kind], 2, None)

    # 64 completions and 32 demonstrations a device.
    assert (load().pictures, load("cpu").pictures) == (64, 96)
    assert load(engine="hf").prefilled == 64
    assert load().prefilled == 8  # each prompt once
    assert load(lora={}).trains_tower
    assert load(lora={"target_modules": ["q_proj"]}).trains_tower
    decoder = load(lora={"r": 2, "target_modules": ["up_proj", "gate_proj"]})
    assert not decoder.trains_tower
    assert decoder.trained == 2 * 2 * 2 * (16 + 8)  # 2 layers, 2 modules, rank 2


def test_seconds_of_a_picture_by_hand() -> None:
    """Training: 6 * 516 * 9 operations a picture; a frozen tower runs forward only, a third. Sampling: 2 * 516 * 9."""
    device, work = replace(DEVICES["h100"], flops=1.0 / 0.4), Work(sampled=0, demos=1, passes=1, length=30)
    text = replace(SMALL, tower=None)
    trained = seconds_of(SMALL, LOAD, work, device, 1).sft - seconds_of(text, LOAD, work, device, 1).sft
    assert trained == pytest.approx(6 * 516 * 9)
    frozen = replace(LOAD, trains_tower=False)
    assert seconds_of(SMALL, frozen, work, device, 1).sft == pytest.approx(6 * (1272 * 30 + 516 * 9 / 3))
    two = replace(work, sampled=2)
    drawn = seconds_of(SMALL, LOAD, two, device, 1).generate - seconds_of(text, LOAD, two, device, 1).generate
    assert drawn == pytest.approx(2 * 2 * 516 * 9)


def test_mistakes_are_one_line() -> None:
    with pytest.raises(ConfigError, match="mean lengths: rows with pictures are padded to the longest"):
        plan_step(AMFTConfig(), SMALL, DEVICES["cpu"], 1, (5, 7))
    with pytest.raises(ConfigError, match="max_prompt_length: 9, but a picture alone takes 9 tokens"):
        plan_step(AMFTConfig(max_prompt_length=9), SMALL, DEVICES["cpu"], 1)
    llava = {"model_type": "llava", "text_config": {"vocab_size": 9}}
    with pytest.raises(ModelError, match="vision_config.model_type 'vit' is not one a plan knows: clip_vision_model"):
        shape_of({**llava, "vision_config": {"model_type": "vit"}}, "x")
    with pytest.raises(ModelError, match="no vision_config.hidden_size in it"):
        shape_of({**llava, "vision_config": {"model_type": "siglip_vision_model"}}, "x")
    with pytest.raises(ModelError, match="no hidden_size in it"):
        shape_of({**llava, "text_config": {"model_type": "qwen2"}, "vision_config": {}}, "x")


def test_the_command_reads_a_saved_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    processor = tiny_vision_processor(load_tokenizer("nano"), image_size=56)
    model = tiny_vision_model(processor, hidden_size=32, layers=1, vision_size=16, vision_layers=1)
    model.config.save_pretrained(tmp_path)
    arguments = ["plan", "general_points", "--gpu", "cpu", "--model-config", str(tmp_path / "config.json")]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    assert found["memory"]["pictures"] > 0
