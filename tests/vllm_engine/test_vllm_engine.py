"""The vLLM engine for real, on a CPU, in this process and in another: `make test-vllm`. Not in the ordinary suite."""

import pytest
import torch

from amft.errors import ConfigError
from amft.models.tiny import tiny_model
from amft.rollout.decode import DecodeSampler
from amft.rollout.vllm import VllmSampler
from amft.types import Sampling

VOCAB = 160
# The long prompt fills blocks of the prefix cache (128 tokens on a CPU), which a push must empty.
PROMPTS = [[1, 2, 3], [4], [5 + i % 50 for i in range(300)]]
SAMPLING = Sampling(n=4, max_new_tokens=12)


def policy(tie, seed=0):
    model = tiny_model(vocab_size=VOCAB, hidden_size=64, heads=2, kv_heads=1, tie=tie, seed=seed)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(4.0 if p.dim() > 1 else 1.0)
    return model


LAYOUTS = [(True, "trainer"), (False, "trainer"), (True, "worker"), (False, "worker")]


@pytest.fixture(scope="module", params=LAYOUTS, ids=lambda layout: f"{'tied' if layout[0] else 'untied'}-{layout[1]}")
def engine(request):
    tied, where = request.param
    sampler = VllmSampler(policy(tied), pad_id=0, eos_ids=[3], where=where)
    yield sampler
    if where == "worker":
        assert sampler.restarts == 0
        sampler.engine.close()


@pytest.fixture(autouse=True)
def _first_weights(engine):
    learn(engine, 0)


@torch.no_grad()
def learn(engine, seed):
    """Other weights, written in place as an optimizer does."""
    tied = engine.model.config.tie_word_embeddings
    for mine, other in zip(engine.model.parameters(), policy(tied, seed).parameters(), strict=True):
        mine.copy_(other)


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def worst_difference(model, found, temperature=1.0):
    """Largest |engine - forward of transformers| over all sampled tokens."""
    worst = 0.0
    for t in found:
        ids = torch.tensor([[*t.prompt_ids, *t.completion_ids]])
        start, stop = len(t.prompt_ids) - 1, ids.shape[1] - 1
        logps = (model(ids).logits[0, start:stop] / temperature).log_softmax(-1)
        own = logps.gather(1, torch.tensor(t.completion_ids)[:, None]).squeeze(1)
        worst = max(worst, float((own - torch.tensor(t.logps)).abs().max()))
    return worst


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_are_those_of_the_forward(engine, temperature):
    sampling = Sampling(n=4, max_new_tokens=12, temperature=temperature)
    assert worst_difference(engine.model, engine.generate(PROMPTS, sampling, seeded()), temperature) < 1e-4


def test_two_pushes_in_a_row_give_the_new_weights(engine):
    engine.generate(PROMPTS, SAMPLING, seeded())
    for seed in (1, 2):
        learn(engine, seed)
        assert worst_difference(engine.model, engine.generate(PROMPTS, SAMPLING, seeded())) < 1e-4


def test_without_a_push_the_check_fails(engine, monkeypatch):
    engine.generate(PROMPTS, SAMPLING, seeded())
    old = [(name, value.clone()) for name, value in engine.weights()]
    learn(engine, 1)
    monkeypatch.setattr(engine, "weights", lambda: old)
    assert worst_difference(engine.model, engine.generate(PROMPTS, SAMPLING, seeded())) > 0.1


@pytest.mark.parametrize("seed", [0, 1])
def test_greedy_is_that_of_decode(engine, seed):
    learn(engine, seed)
    sampling = Sampling(max_new_tokens=12, temperature=0.0)
    decode = DecodeSampler(engine.model, pad_id=0, eos_ids=[3])
    ours, theirs = (e.generate(PROMPTS, sampling, seeded()) for e in (decode, engine))
    assert ours == theirs


def test_draws_come_from_the_generator_alone(engine):
    before = torch.random.get_rng_state()
    first, again, other = (engine.generate(PROMPTS, SAMPLING, seeded(s)) for s in (1, 1, 2))
    tokens = [[t.completion_ids for t in found] for found in (first, again, other)]
    assert tokens[0] == tokens[1] != tokens[2]
    assert len(set(tokens[0][:4])) > 1  # the four completions of one prompt have seeds of their own
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_end_token_ends_and_is_kept(engine):
    free = engine.generate(PROMPTS, Sampling(max_new_tokens=8, temperature=0.0), seeded())[0].completion_ids
    end = free[2]
    engine.eos_ids, kept = [end], engine.eos_ids
    try:
        found = engine.generate(PROMPTS[:1], Sampling(max_new_tokens=8, temperature=0.0), seeded())[0]
    finally:
        engine.eos_ids = kept
    assert found.completion_ids == free[: free.index(end) + 1]
    assert found.finished


def test_truncated_sampling_keeps_to_the_top_tokens(engine):
    found = engine.generate([[1, 2, 3]], Sampling(n=64, max_new_tokens=1, top_k=2), seeded())
    with torch.no_grad():
        best = set(engine.model(torch.tensor([[1, 2, 3]])).logits[0, -1].topk(2).indices.tolist())
    assert {t.completion_ids[0] for t in found} <= best
    assert found[0].logps is None


def test_too_long_is_one_clear_line(engine):
    with pytest.raises(ConfigError, match="^max_new_tokens: prompt and completion may take 700 tokens"):
        engine.generate([[1] * 300], Sampling(max_new_tokens=400), seeded())
