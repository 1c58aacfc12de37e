"""Rollouts from a bfloat16 copy: whose weights they are, and that the engines say with which they sampled."""

from __future__ import annotations

import pytest
import torch
from tiny_runs import build, train

from amft.batch import pad_batch
from amft.models.forward import token_scores
from amft.models.half_copy import HalfCopy
from amft.models.tiny import tiny_model
from amft.rollout.registry import build_sampler
from amft.types import Sampling

VOCAB = 61
PROMPTS = [[5, 6, 7], [9], [3, 3, 8, 1]]


@pytest.fixture
def model():
    return tiny_model("qwen3", vocab_size=VOCAB, hidden_size=32)


def test_the_copy_is_the_model_in_half_precision(model):
    copied = HalfCopy(model).model
    assert {p.dtype for p in copied.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    for half, weight in zip(copied.parameters(), model.parameters(), strict=True):
        assert torch.equal(half, weight.bfloat16())
    assert copied.lm_head.weight is copied.model.embed_tokens.weight
    assert copied.model.rotary_emb.inv_freq is model.model.rotary_emb.inv_freq
    assert copied.model.rotary_emb.inv_freq.dtype == torch.float32


def test_it_follows_the_weights_when_asked(model):
    half = HalfCopy(model)
    with torch.no_grad():
        model.model.norm.weight.mul_(3)
    assert not torch.equal(half.model.model.norm.weight, model.model.norm.weight.bfloat16())
    half.refresh()
    assert torch.equal(half.model.model.norm.weight, model.model.norm.weight.bfloat16())


def sampled(name, model, **sampling):
    half = HalfCopy(model)
    with torch.no_grad():
        model.model.norm.weight.mul_(2)  # after the copy was made: sampling must read the weights anew
    sampler = build_sampler(name, model, pad_id=0, eos_ids=[2, 7, 11, 12, 13], half=half)
    generator = torch.Generator().manual_seed(0)
    return half, sampler.generate(PROMPTS, Sampling(4, 9, **sampling), generator)


@pytest.mark.parametrize("name", ["decode", "hf"])
def test_an_engine_says_how_likely_its_tokens_were(name, model):
    half, samples = sampled(name, model, temperature=0.7)
    batch = pad_batch([sample.prompt_ids for sample in samples], [sample.completion_ids for sample in samples], 0)
    with torch.no_grad():
        expected = token_scores(half.model, batch, temperature=0.7).logps
    assert len({len(sample.completion_ids) for sample in samples}) > 1
    for sample, row in zip(samples, expected, strict=True):
        assert len(sample.logps) == len(sample.completion_ids)
        # one bfloat16 model, once token by token and once at a time: rounding of its logits
        torch.testing.assert_close(torch.tensor(sample.logps), row[: len(sample.logps)], rtol=0, atol=0.1)
    far = token_scores(model, batch, temperature=1.0).logps.detach()
    assert (far - expected).abs().mean() > 0.1  # the bound above could fail


@pytest.mark.parametrize("name", ["decode", "hf"])
@pytest.mark.parametrize("sampling", [{"temperature": 0.0}, {"top_p": 0.5}, {"top_k": 3}])
def test_nothing_is_said_of_draws_from_another_distribution(name, sampling, model):
    _, samples = sampled(name, model, **sampling)
    assert all(sample.logps == () for sample in samples)
    assert all(sample.completion_ids for sample in samples)


@pytest.mark.parametrize("engine", ["decode", "hf"])
def test_a_run_in_half_precision_measures_and_corrects_the_difference(engine, tmp_path):
    trainer = train(tmp_path / "run", {"rule": "fixed", "mu": 0.3}, dtype="bfloat16", engine=engine, max_steps=3)
    rows = list(trainer.run_logger.run.rows("metrics"))
    assert all(0 < row["sampling/logp_difference"] < 0.02 for row in rows)
    assert all(row["sampling/importance_sampling_ratio/mean"] == pytest.approx(1, abs=0.02) for row in rows)
    on = trainer.foundation
    assert {p.dtype for p in on.sampler.sampler.model.parameters()} == {torch.bfloat16}
    assert on.evaluator.sampler.model is on.model


@pytest.mark.parametrize(
    "settings",
    [
        {"dtype": "float32"},
        {"dtype": "float64"},
        {"dtype": "bfloat16", "rollout_weights": "master"},
        {"dtype": "bfloat16", "lora": {"r": 2}},
    ],
)
def test_other_runs_sample_from_the_weights_themselves(settings, tmp_path):
    trainer = build(tmp_path / "run", "rl", **settings)
    assert trainer.foundation.sampler.sampler is trainer.foundation.evaluator.sampler
    assert trainer.foundation.sampler.sampler.model is trainer.model
