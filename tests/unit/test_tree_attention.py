"""Rows in a prefix tree give what padded rows give: every score and every gradient."""

from __future__ import annotations

from dataclasses import replace

import exact_norms
import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention
from transformers import Qwen2Config, Qwen2ForCausalLM

from amft import tensors
from amft.batch import pad_batch
from amft.errors import ModelError
from amft.models import head, prefix_tree, tree_attention
from amft.models.attention import attention
from amft.models.forward import token_scores
from amft.models.layout import branched
from amft.models.load import load_tokenizer
from amft.models.tiny import tiny_model
from amft.models.tiny_vision import tiny_vision_model, tiny_vision_processor
from amft.models.tree_attention import TREE, block_mask, tree_blocks, unfit_for_tree

VOCAB = 61
BOUNDS = {torch.float32: 1e-5, torch.float64: 1e-10}


@pytest.fixture(autouse=True)
def _exact(monkeypatch):
    exact_norms.use(monkeypatch)
    monkeypatch.setattr(prefix_tree, "SHORTEST", 2)


def rows():
    """Three prompts with a preamble in common; some answers with a hint in common, two the same, some empty."""
    noise = torch.Generator().manual_seed(2)

    def some(n):
        return torch.randint(0, VOCAB, (n,), generator=noise).tolist()

    preamble, prompts, completions = some(4), [], []
    for length in (3, 9, 1):
        prompt, hint = preamble + some(length), some(3)
        answers = [some(5), some(5), hint + some(2), hint + some(7), some(11), []]
        prompts += [prompt] * (len(answers) + 1)
        completions += [*answers, answers[0]]
    return [*prompts, some(1), some(1)], [*completions, [], some(4)]


def scored(model, batch):
    """Every score where a token stands, and every gradient."""
    model.zero_grad()
    scores = token_scores(model, batch, temperature=0.7, entropy="graph", smoothing=True, accuracy=True, hidden=True)
    mask = batch.completion_mask
    total = ((scores.logps + 0.1 * scores.entropy + 0.3 * scores.mean_logps) * mask).sum()
    ((total + 0.01 * (scores.hidden * mask[..., None]).sum()) / mask.sum()).backward()
    values = [scores.logps, scores.entropy, scores.mean_logps, scores.correct, scores.hidden]
    kept = [value.detach()[mask == 1] for value in values]
    return kept + [p.grad.clone() for p in model.parameters()]


def model_of(family, dtype, **sizes):
    model = tiny_model(family, vocab_size=VOCAB, hidden_size=32, dtype=dtype, **sizes)
    model.set_attn_implementation("sdpa" if dtype == torch.float64 else "eager")
    return model


@pytest.mark.parametrize("is_wide", [False, True])
@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_tree_equals_padded(family, dtype, is_wide, monkeypatch):
    if is_wide:
        monkeypatch.setattr(head, "WIDE", 1)
        monkeypatch.setattr(tensors, "CHUNK_ELEMENTS", 4 * VOCAB)
    model, batch = model_of(family, dtype), pad_batch(*rows(), 0)
    expected = scored(model, batch)
    with attention(model, TREE):
        found = scored(model, batch)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=BOUNDS[dtype], atol=BOUNDS[dtype])


def test_gradient_checkpointing_gives_the_same():
    model, batch = model_of("qwen3", torch.float64), pad_batch(*rows(), 0)
    with attention(model, TREE):
        expected = scored(model, batch)
        older = model.gradient_checkpointing_enable
        getattr(model, "activation_checkpointing_enable", older)({"use_reentrant": False})
        model.train()
        found = scored(model, batch)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_autocast_is_as_far_from_float32_as_padded_rows_are():
    model, batch = model_of("qwen3", torch.float32), pad_batch(*rows(), 0)
    exact = scored(model, batch)
    apart = []
    for way in ("eager", TREE):
        with attention(model, way), torch.autocast("cpu", torch.bfloat16):
            found = scored(model, batch)
        apart.append([float((one - other).abs().mean()) for one, other in zip(found, exact, strict=True)])
    padded, tree = apart
    assert all(other <= 2 * one + 1e-6 for one, other in zip(padded, tree, strict=True))
    assert max(tree) > 0


@pytest.mark.parametrize("row", [0, 2, 8, 20])
def test_a_row_sees_no_other(row):
    model, (prompts, completions) = model_of("qwen3", torch.float64), rows()
    with torch.no_grad(), attention(model, TREE):
        together = token_scores(model, pad_batch(prompts, completions, 0)).logps[row]
        alone = token_scores(model, pad_batch([prompts[row]], [completions[row]], 0)).logps[0]
    torch.testing.assert_close(together[: len(alone)], alone, rtol=1e-12, atol=1e-12)


def test_where_everything_lies():
    batch = pad_batch([[5, 6], [5, 6], [7]], [[8, 2], [9, 2], [4]], 0)
    layout = branched(batch)
    assert layout.inputs["input_ids"].tolist() == [[7, 5, 6, 8, 9]]
    assert layout.inputs["position_ids"].tolist() == [[0, 0, 1, 2, 2]]
    assert layout.inputs["logits_to_keep"].tolist() == [2, 3, 2, 4, 0]
    assert layout.ids.tolist() == [[8, 2, 9, 2, 4]]
    assert layout.back(torch.tensor([[1, 2, 3, 4, 5]])).tolist() == [[1, 2], [3, 4], [5, 0]]
    assert layout.back(torch.ones(1, 5, 4)).shape == (3, 2, 4)


def test_a_row_without_a_prompt_would_read_its_neighbour():
    batch = pad_batch([[5, 6], [7]], [[8], [9]], 0)
    silent = replace(batch, attention_mask=torch.tensor([[1, 1, 1], [0, 0, 1]]))
    with pytest.raises(AssertionError, match="prompt"):
        branched(silent)


def test_answers_that_are_all_empty_have_a_gradient_of_zero():
    model, batch = model_of("llama", torch.float32), pad_batch([[5, 6], [7]], [[], []], 0)
    with attention(model, TREE):
        scores = token_scores(model, batch, entropy="graph", hidden=True)
    assert scores.logps.tolist() == [[0.0], [0.0]]
    (scores.logps.sum() + scores.entropy.sum()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def lines(tree, dtype=torch.float64, width=4):
    noise = torch.Generator().manual_seed(0)
    n = len(tree.tokens)
    return [torch.randn(1, heads, n, width, generator=noise, dtype=dtype, requires_grad=True) for heads in (4, 2, 2)]


def small_tree():
    return prefix_tree.prefix_tree([[1, 2, 3, 4], [1, 2, 5, 6], [1, 2, 3, 4, 7, 8, 9], [0, 1]])


@pytest.mark.parametrize("by_products", [False, True])
def test_gradients_of_the_blocks(by_products, monkeypatch):
    if by_products:
        monkeypatch.setattr(tree_attention, "is_fused", lambda *_, **__: False)
    tree = small_tree()
    assert tree.bands
    assert torch.autograd.gradcheck(lambda *states: tree_blocks(*states, tree, 0.7), lines(tree))


def through(tree, states, monkeypatch, is_fused):
    """Output and gradients by one of the two ways."""
    monkeypatch.setattr(tree_attention, "is_fused", lambda *_, **__: is_fused)
    states = [each.detach().clone().requires_grad_() for each in states]
    out = tree_blocks(*states, tree, 0.7)
    out.square().sum().backward()
    return [out.detach(), *(each.grad for each in states)]


def test_products_equal_the_fused_kernel(monkeypatch):
    tree = small_tree()
    ways = [through(tree, lines(tree), monkeypatch, is_fused) for is_fused in (True, False)]
    for one, other in zip(*ways, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("is_fused", [True, False])
def test_half_precision_rounds_and_does_no_more(is_fused, monkeypatch):
    tree = small_tree()
    states = [each.detach().bfloat16() for each in lines(tree, width=8)]
    exact = through(tree, [each.double() for each in states], monkeypatch, True)
    for one, other in zip(through(tree, states, monkeypatch, is_fused), exact, strict=True):
        assert one.dtype == torch.bfloat16
        assert 0 < (one - other).norm() / other.norm() < 0.02  # eps of bfloat16 is 0.0078


def test_which_blocks_are_fused():
    def ways(queries, keys, dtype=torch.bfloat16):
        block = [torch.zeros(1, 1, n, 1, dtype=dtype) for n in (queries, keys)]
        return [tree_attention.is_fused(*block, backward=backward) for backward in (False, True)]

    assert ways(60, 60) == [True, False]
    assert ways(100, 100) == ways(4000, 100) == [False, False]
    assert ways(1024, 1024) == ways(100, 100, torch.float32) == ways(100, 100, torch.float64) == [True, True]


def test_sums_of_large_and_of_tiny_scores(monkeypatch):
    """Neither an overflow nor a sum of nothing, whatever stands above the diagonal."""
    monkeypatch.setattr(tree_attention, "is_fused", lambda *_, **__: False)
    query, key = torch.tensor([[[-40.0]], [[40.0]], [[900.0]]]), torch.tensor([[[20.0]], [[-20.0]], [[21.0]]])
    value, tree = torch.tensor([[[1.0]], [[2.0]], [[3.0]]]), prefix_tree.prefix_tree([[1, 2, 3]])
    out = tree_blocks(*(states.transpose(0, 1)[None] for states in (query, key, value)), tree, 1.0)
    assert out.flatten().tolist() == [1.0, 1.0, 3.0]


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_the_mask_for_a_gpu_sees_the_same():
    """FlexAttention has no backward on a CPU; its mask can be tried there all the same."""
    tree = prefix_tree.prefix_tree([ids + more for ids, more in zip(*rows())] + [[60] * 20])
    assert len(tree.tokens) > 128  # more than one block of the mask
    states = [each.detach() for each in lines(tree, torch.float32, 16)]
    found = flex_attention(
        *states, scale=0.3, block_mask=block_mask(tree, torch.device("cpu")), enable_gqa=True
    ).transpose(1, 2)
    torch.testing.assert_close(found, tree_blocks(*states, tree, 0.3), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_its_gradient_is_that_of_the_blocks(monkeypatch):
    """torch refuses FlexAttention's backward on a CPU; the formulas of its dense backward run there all the same."""
    monkeypatch.setattr("torch.nn.attention.flex_attention._validate_device", lambda *_: None)
    tree = prefix_tree.prefix_tree([ids + more for ids, more in zip(*rows())] + [[60] * 20])
    mask, found = block_mask(tree, torch.device("cpu")), []
    states = [each.detach() for each in lines(tree, torch.float32, 16)]
    weights = torch.randn(1, len(tree.tokens), *states[0].shape[1::2], generator=torch.Generator().manual_seed(5))
    for way in ("flex", "blocks"):
        given = [each.clone().requires_grad_() for each in states]
        if way == "flex":
            out = flex_attention(*given, scale=0.3, block_mask=mask, enable_gqa=True).transpose(1, 2)
        else:
            out = tree_blocks(*given, tree, 0.3)
        (out * weights).sum().backward()
        found.append([each.grad for each in given])
    for flex, blocks in zip(*found):
        assert blocks.abs().max() > 0.1
        torch.testing.assert_close(flex, blocks, rtol=1e-5, atol=1e-5)


def test_models_that_do_not_fit():
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
    assert "cache is not plain keys and values" in unfit_for_tree(model)
    model._supports_attention_backend = False
    assert unfit_for_tree(model) == "its attention cannot be replaced"
    processor = tiny_vision_processor(load_tokenizer("nano"), image_size=28)
    seeing = tiny_vision_model(processor, hidden_size=32, layers=1, vision_size=16, vision_layers=1)
    assert unfit_for_tree(seeing) == "it is not a plain text model"
    assert unfit_for_tree(model_of("llama", torch.float32)) is None
    state = torch.zeros(1, 2, 2, 8)
    with pytest.raises(ModelError, match="softcap"):
        tree_attention.tree_attention(
            model, state, state, state, None, prefix_tree=prefix_tree.prefix_tree([[1, 2]]), softcap=30.0
        )
