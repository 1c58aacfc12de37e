"""Rows laid end to end give what padded rows give, and no sequence sees another."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from amft import tensors
from amft.batch import pad_batch
from amft.errors import ModelError
from amft.models import head
from amft.models.attention import attention
from amft.models.forward import token_scores
from amft.models.layout import packed
from amft.models.load import load_tokenizer
from amft.models.packed import PACKED, _at_once, _one_by_one, check_packable, packed_attention
from amft.models.tiny import tiny_model
from amft.models.tiny_vision import tiny_vision_model, tiny_vision_processor

VOCAB = 61
LENGTHS = [(3, 5), (1, 1), (9, 2), (4, 0), (2, 11), (7, 4)]


def rows():
    """Token lists of mixed lengths, one completion empty."""
    noise = torch.Generator().manual_seed(2)
    draw = [[torch.randint(0, VOCAB, (n,), generator=noise).tolist() for n in pair] for pair in LENGTHS]
    return [prompt for prompt, _ in draw], [completion for _, completion in draw]


def scored(model, batch):
    """Every score where a token stands, and every gradient."""
    model.zero_grad()
    scores = token_scores(model, batch, temperature=0.7, entropy="graph", smoothing=True, accuracy=True, hidden=True)
    mask = batch.completion_mask
    total = ((scores.logps + 0.1 * scores.entropy + 0.3 * scores.mean_logps) * mask).sum()
    (total + 0.01 * (scores.hidden * mask[..., None]).sum()).backward()
    values = [scores.logps, scores.entropy, scores.mean_logps, scores.correct, scores.hidden]
    kept = [value.detach()[mask == 1] for value in values]
    return kept + [p.grad.clone() for p in model.parameters()]


def model_of(family, dtype, **sizes):
    model = tiny_model(family, vocab_size=VOCAB, hidden_size=32, dtype=dtype, **sizes)
    model.set_attn_implementation("sdpa" if dtype == torch.float64 else "eager")
    return model


@pytest.mark.parametrize("is_wide", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_packed_equals_padded(family, dtype, is_wide, monkeypatch):
    if is_wide:
        monkeypatch.setattr(head, "WIDE", 1)
        monkeypatch.setattr(tensors, "CHUNK_ELEMENTS", 4 * VOCAB)
    model, batch = model_of(family, dtype), pad_batch(*rows(), 0)
    expected = scored(model, batch)
    with attention(model, PACKED):
        found = scored(model, batch)
    bound = 1e-5 if dtype == torch.float32 else 1e-10
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=bound, atol=bound)


@pytest.mark.parametrize("changed", range(len(LENGTHS)))
def test_no_sequence_sees_another(changed):
    model, (prompts, completions) = model_of("qwen3", torch.float64), rows()
    others = [row for row in range(len(prompts)) if row != changed]
    with torch.no_grad(), attention(model, PACKED):
        before = token_scores(model, pad_batch(prompts, completions, 0)).logps
        for part in (prompts, completions):
            part[changed] = [(token + 7) % VOCAB for token in part[changed]]
        after = token_scores(model, pad_batch(prompts, completions, 0)).logps
    torch.testing.assert_close(after[others], before[others], rtol=0, atol=0)
    assert len(completions[changed]) == 0 or not torch.equal(after[changed], before[changed])


def test_where_everything_lies():
    # the rows [. 5 6 | 8 .] and [7 5 1 | 9 2]
    batch = pad_batch([[5, 6], [7, 5, 1]], [[8], [9, 2]], 0)
    layout = packed(batch)
    assert layout.inputs["input_ids"].tolist() == [[5, 6, 8, 7, 5, 1, 9, 2]]
    assert layout.inputs["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2, 3, 4]]
    assert layout.inputs["logits_to_keep"].tolist() == [1, 5, 6]
    assert layout.of_attention == {"packed_lengths": [3, 5]}
    assert layout.ids.tolist() == [[8, 9, 2]]
    assert layout.back(torch.tensor([[0.1, 0.2, 0.3]])).tolist() == torch.tensor([[0.1, 0], [0.2, 0.3]]).tolist()
    assert layout.back(torch.ones(1, 3, 4)).shape == (2, 2, 4)


def test_a_row_without_a_prompt_would_read_its_neighbour():
    batch = pad_batch([[5, 6], [7]], [[8], [9]], 0)
    silent = replace(batch, attention_mask=torch.tensor([[1, 1, 1], [0, 0, 1]]))
    with pytest.raises(AssertionError, match="prompt"):
        packed(silent)


def test_answers_that_are_all_empty_have_a_gradient_of_zero():
    model, batch = model_of("llama", torch.float32), pad_batch([[5, 6], [7]], [[], []], 0)
    with attention(model, PACKED):
        scores = token_scores(model, batch, entropy="graph", hidden=True)
    assert scores.logps.tolist() == [[0.0], [0.0]]
    (scores.logps.sum() + scores.entropy.sum()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_one_by_one_equals_all_at_once():
    noise, lengths = torch.Generator().manual_seed(0), [3, 1, 6]
    states = [torch.randn(1, heads, 10, 8, generator=noise, dtype=torch.float64) for heads in (4, 2, 2)]
    found = [way(*states, lengths, 0.5) for way in (_one_by_one, _at_once)]
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
    # The second sequence has one token, so it attends to itself alone: its value, of the head's group.
    torch.testing.assert_close(found[0][0, :, 3], states[2][0, :, 3].repeat_interleave(2, 0))


def test_models_that_cannot_are_refused():
    sliding = Qwen2Config(
        vocab_size=VOCAB,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        use_sliding_window=True,
        sliding_window=4,
        max_window_layers=1,
    )
    with torch.random.fork_rng():
        model = Qwen2ForCausalLM(sliding)
    with pytest.raises(ModelError, match=r"^padding_free: Qwen2ForCausalLM does not fit: .*; leave padding_free out$"):
        check_packable(model)
    model._supports_attention_backend = False
    with pytest.raises(ModelError, match="its attention cannot be replaced"):
        check_packable(model)
    processor = tiny_vision_processor(load_tokenizer("nano"), image_size=28)
    with pytest.raises(ModelError, match="LlavaForConditionalGeneration does not fit: it is not a plain text model"):
        check_packable(tiny_vision_model(processor, hidden_size=32, layers=1, vision_size=16, vision_layers=1))
    state = torch.zeros(1, 2, 3, 8)
    with pytest.raises(ModelError, match="^padding_free: .* softcap"):
        packed_attention(model, state, state, state, None, packed_lengths=[3], softcap=30.0)
