"""The decode engine with pictures: the answers of `generate`, and of a loop without cache, batch or padding."""

from types import SimpleNamespace

import pytest
import torch
from transformers import Qwen2VLConfig

from amft.errors import ModelError
from amft.models.load import load_tokenizer
from amft.models.tiny_vision import tiny_vision_model, tiny_vision_processor
from amft.rollout.decode import DecodeSampler, undecodable
from amft.rollout.hf import HFSampler
from amft.rollout.registry import build_sampler
from amft.rollout.token_sampling import next_tokens
from amft.types import Sampling

PLACES = 4
"""Tokens of a picture: patches of 14 pixels, 28 x 28 pixels."""
EOS = range(0, 1576, 11)


def lively_model(dtype=torch.float64):
    """Random weights large enough that the next token depends on the picture and on the whole context."""
    processor = tiny_vision_processor(load_tokenizer("nano"), image_size=28)
    model = tiny_vision_model(
        processor, hidden_size=32, layers=2, vision_size=16, vision_layers=1, seed=1, dtype=torch.float64
    )
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(6.0 if p.dim() > 1 else 1.0)
    return model.to(dtype)


def asked(model, texts=([1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11], [4], [4])):
    """Prompts of several lengths, three of them the very same object, and a picture of its own for each."""
    known = {}
    prompts = [known.setdefault(str(text), [text[0], *[model.config.image_token_id] * PLACES, *text]) for text in texts]
    draws = torch.Generator().manual_seed(3)
    return prompts, torch.randn(len(texts), 3, 28, 28, generator=draws, dtype=model.dtype)


@pytest.mark.parametrize("max_batch", [256, 3])
def test_greedy_equals_generate_token_for_token(max_batch):
    model, sampling = lively_model(torch.float32), Sampling(n=2, max_new_tokens=16, temperature=0)
    prompts, pixels = asked(model)
    # What ends an answer stands in the middle of one, whatever weights a version of the libraries draws.
    unended = HFSampler(model, 0, ()).generate(prompts, sampling, torch.Generator(), pixels)
    stops = (unended[0].completion_ids[7],)
    ours = DecodeSampler(model, 0, stops, max_batch).generate(prompts, sampling, torch.Generator(), pixels)
    theirs = HFSampler(model, 0, stops).generate(prompts, sampling, torch.Generator(), pixels)
    assert ours == theirs
    lengths = {len(t.completion_ids) for t in ours}
    assert 16 in lengths
    assert min(lengths) < 16
    assert ours[2] != ours[6]  # one text, two pictures


@pytest.mark.parametrize("max_batch", [256, 5, 1])
def test_every_token_is_the_draw_from_a_teacher_forced_forward(max_batch):
    model, sampling = lively_model(), Sampling(n=4, max_new_tokens=12)
    prompts, pixels = asked(model)
    uniforms = torch.rand(20, 12, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    found = DecodeSampler(model, 0, EOS, max_batch).generate(
        prompts, sampling, torch.Generator().manual_seed(5), pixels
    )
    assert len({len(t.completion_ids) for t in found}) > 4, "rows must finish at different times"
    for row, trajectory in enumerate(found):
        ids = torch.tensor([[*prompts[row // 4], *trajectory.completion_ids]])
        with torch.no_grad():
            logits = model(input_ids=ids, pixel_values=pixels[row // 4 : row // 4 + 1]).logits[0]
        logits[:, model.config.image_token_id] = -torch.inf
        length = len(trajectory.completion_ids)
        drawn = next_tokens(logits[-length - 1 : -1], uniforms[row, :length], sampling)[0]
        assert tuple(drawn.tolist()) == trajectory.completion_ids


def test_each_picture_is_seen_once(monkeypatch):
    model = lively_model()
    prompts, pixels = asked(model)
    seen = []
    tower = model.model.vision_tower
    monkeypatch.setattr(tower, "forward", lambda x, _f=tower.forward, **k: seen.append(len(x)) or _f(x, **k))
    DecodeSampler(model, 0, []).generate(prompts, Sampling(n=8, max_new_tokens=3), torch.Generator(), pixels)
    assert seen == [5]


@pytest.mark.parametrize("name", ["decode", "hf"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_image_token_is_never_drawn(name, temperature):
    model, sampling = lively_model(), Sampling(n=2, max_new_tokens=4, temperature=temperature)
    prompts, pixels = asked(model)
    image = torch.tensor([model.config.image_token_id])
    model.lm_head.register_forward_hook(lambda _, __, out: out.index_fill(-1, image, 99.0))  # it says nothing else
    found = build_sampler(name, model, pad_id=0, eos_ids=EOS).generate(prompts, sampling, torch.Generator(), pixels)
    assert all(int(image) not in t.completion_ids for t in found)


def test_prompts_without_pictures_are_answered_too():
    model, sampling = lively_model(torch.float32), Sampling(n=1, max_new_tokens=8, temperature=0)
    ours, theirs = (
        engine(model, 0, EOS).generate([[1, 2], [5]], sampling, torch.Generator())
        for engine in (DecodeSampler, HFSampler)
    )
    assert ours == theirs


def test_the_default_engine_is_the_fast_one_where_it_fits():
    model = lively_model(torch.float32)
    assert type(build_sampler("auto", model, pad_id=0, eos_ids=[])) is DecodeSampler
    assert "plain text" in undecodable(SimpleNamespace(config=Qwen2VLConfig()))
    model.config.text_config.layer_types = ["sliding_attention"] * 2
    model.config.text_config.sliding_window = 4
    assert type(build_sampler("auto", model, pad_id=0, eos_ids=[])) is HFSampler
    with pytest.raises(ModelError, match="engine decode: LlavaForConditionalGeneration does not fit.*use engine hf"):
        build_sampler("decode", model, pad_id=0, eos_ids=[])
