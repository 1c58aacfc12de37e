"""The decode engine against a loop without cache, padding or batch, and the draw against hand values."""

import pytest
import torch
from transformers.generation.logits_process import TopKLogitsWarper, TopPLogitsWarper

from amft.errors import ModelError
from amft.models.tiny import tiny_model
from amft.rollout import decode
from amft.rollout.decode import DecodeSampler
from amft.rollout.hf import HFSampler
from amft.rollout.token_sampling import next_tokens
from amft.types import Sample, Sampling

PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11], [2, 2], [4]]
EOS = [3, 7]


def lively_model(family="qwen3", dtype=torch.float64, tie=True):
    """Random weights large enough that the next token depends on the whole context."""
    model = tiny_model(family, vocab_size=13, hidden_size=32, seed=1, dtype=dtype, tie=tie)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(6.0 if p.dim() > 1 else 1.0)
    return model


@torch.no_grad()
def reference(model, prompts, sampling, uniforms):
    """Every row alone, every step a full forward over unpadded ids."""
    found = []
    for row in range(len(prompts) * sampling.n):
        prompt, completion = prompts[row // sampling.n], []
        while len(completion) < sampling.max_new_tokens and not set(completion) & set(EOS):
            logits = model(torch.tensor([prompt + completion])).logits[:, -1]
            u = None if uniforms is None else uniforms[row, len(completion)].view(1)
            completion.append(int(next_tokens(logits, u, sampling)[0]))
        found.append(Sample(tuple(prompt), tuple(completion), completion[-1] in EOS))
    return found


@pytest.mark.parametrize("family", ["qwen3", "qwen2", "llama"])
def test_greedy_equals_generate_token_for_token(family):
    model = lively_model(family, torch.float32)
    sampling = Sampling(n=2, max_new_tokens=16, temperature=0)
    ours = DecodeSampler(model, 0, EOS).generate(PROMPTS, sampling, torch.Generator())
    theirs = HFSampler(model, 0, EOS).generate(PROMPTS, sampling, torch.Generator())
    assert ours == theirs
    lengths = {len(t.completion_ids) for t in ours}
    assert 16 in lengths
    assert min(lengths) < 16


@pytest.fixture(scope="module")
def alone():
    """A model, and every row of a request decoded alone."""
    model, sampling = lively_model(), Sampling(n=4, max_new_tokens=12)
    uniforms = torch.rand(20, 12, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    expected = reference(model, PROMPTS, sampling, uniforms)
    assert len({len(t.completion_ids) for t in expected}) > 4, "rows must finish at different times"
    return model, sampling, expected


@pytest.mark.parametrize(("slack", "max_batch"), [(1, 256), (2, 3), (16, 256), (16, 1), (10**6, 256), (10**6, 7)])
def test_samples_equal_a_loop_without_cache_batch_and_compaction(monkeypatch, alone, slack, max_batch):
    model, sampling, expected = alone
    monkeypatch.setattr(decode, "SLACK", slack)
    found = DecodeSampler(model, 0, EOS, max_batch).generate(PROMPTS, sampling, torch.Generator().manual_seed(5))
    assert found == expected


def test_finished_rows_leave_the_batch(monkeypatch):
    model = lively_model()
    widths = []
    forward = decode._Batch.forward
    monkeypatch.setattr(
        decode._Batch, "forward", lambda self, m, tokens: widths.append(len(tokens)) or forward(self, m, tokens)
    )
    DecodeSampler(model, 0, EOS).generate(PROMPTS, Sampling(n=8, max_new_tokens=12), torch.Generator().manual_seed(0))
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < widths[0] <= 40


def test_each_prompt_is_prefilled_once(monkeypatch):
    model = lively_model()
    seen = []
    monkeypatch.setattr(
        model, "forward", lambda *a, _f=model.forward, **k: seen.append(k["input_ids"].shape) or _f(*a, **k)
    )
    DecodeSampler(model, 0, []).generate([[1, 2, 3], [4, 5, 6]], Sampling(n=8, max_new_tokens=3), torch.Generator())
    assert seen == [(2, 3), (16, 1), (16, 1)]


def test_decoding_uses_the_fused_kernel_whatever_the_model_is_set_to(monkeypatch):
    model = lively_model()
    model.set_attn_implementation("eager")
    kernels = []
    monkeypatch.setattr(
        model,
        "forward",
        lambda *a, _f=model.forward, **k: kernels.append(model.config._attn_implementation) or _f(*a, **k),
    )
    DecodeSampler(model, 0, []).generate([[1, 2, 3]], Sampling(max_new_tokens=2), torch.Generator())
    assert kernels == ["sdpa", "sdpa"]
    assert model.config._attn_implementation == "eager"


def test_a_group_larger_than_the_batch_is_split():
    sampling = Sampling(n=7, max_new_tokens=5)
    whole, split = (
        DecodeSampler(lively_model(), 0, EOS, rows).generate([[1, 2]], sampling, torch.Generator().manual_seed(1))
        for rows in (7, 3)
    )
    assert whole == split


def test_a_foreign_architecture_is_refused():
    model = lively_model()
    model.config.layer_types = ["sliding_attention"] * 2
    model.config.sliding_window = 4
    with pytest.raises(ModelError, match="engine hf"):
        DecodeSampler(model, 0, EOS)


def test_draw_inverts_the_distribution_function():
    # probabilities 0.1, 0.2, 0.0, 0.7: F = 0.1, 0.3, 0.3, 1.0
    logits = torch.tensor([0.1, 0.2, 0.0, 0.7]).log().repeat(6, 1)
    u = torch.tensor([0.0, 0.0999, 0.1001, 0.2999, 0.3001, 1 - 2**-53], dtype=torch.float64)
    assert next_tokens(logits, u, Sampling())[0].tolist() == [0, 0, 1, 1, 3, 3]


def test_temperature_sharpens_by_hand():
    # at temperature 1/2 the probabilities 0.25, 0.75 become 0.0625 / 0.625 = 0.1 and 0.9
    logits = torch.tensor([[0.25, 0.75]]).log().repeat(2, 1)
    u = torch.tensor([0.0999, 0.1001], dtype=torch.float64)
    assert next_tokens(logits, u, Sampling(temperature=0.5))[0].tolist() == [0, 1]


def test_top_k_and_top_p_by_hand():
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log().repeat(3, 1)
    # top_k 2 keeps 0.4 and 0.3: F = 0, 4/7, 4/7, 1
    u = torch.tensor([0.0, 0.571, 0.572], dtype=torch.float64)
    assert next_tokens(logits, u, Sampling(top_k=2))[0].tolist() == [1, 1, 3]
    # top_p 0.8 keeps 0.4, 0.3 (mass above it 0.4) and 0.2 (mass above it 0.7): F = 0, 4/9, 6/9, 1
    u = torch.tensor([0.444, 0.445, 0.667], dtype=torch.float64)
    assert next_tokens(logits, u, Sampling(top_p=0.8))[0].tolist() == [1, 2, 3]
    # the likeliest token always stays
    assert next_tokens(logits, u, Sampling(top_p=1e-9))[0].tolist() == [1, 1, 1]


@pytest.mark.parametrize(("k", "p"), [(3, 1.0), (0, 0.6), (5, 0.7)])
def test_kept_tokens_are_those_of_transformers(k, p):
    logits = torch.randn(50, 12, generator=torch.Generator().manual_seed(2)) * 2
    warped = TopKLogitsWarper(k)(None, logits) if k else logits
    warped = TopPLogitsWarper(p)(None, warped) if p < 1 else warped
    for row in range(50):
        u = torch.linspace(0, 1 - 1e-9, 4000, dtype=torch.float64)
        drawn = next_tokens(logits[row].expand(4000, -1), u, Sampling(top_k=k, top_p=p))[0]
        share = torch.bincount(drawn, minlength=12) / 4000
        assert torch.equal(share > 0, warped[row].isfinite())
        torch.testing.assert_close(share, warped[row].softmax(-1), atol=1e-3, rtol=0)


def test_zero_probability_is_never_drawn_at_the_ends_of_a_large_vocabulary():
    logits = torch.full((2, 150_000), -torch.inf)
    logits[:, 70_000:80_000] = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    u = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert next_tokens(logits, u, Sampling())[0].tolist() == [70_000, 79_999]
