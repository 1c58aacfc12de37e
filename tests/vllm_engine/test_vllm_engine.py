"""vLLM for real, on a CPU, in a server that the trainer starts: `make test-vllm`. Not in the ordinary suite."""

import sys
from pathlib import Path

import pytest
import torch

from amft.distributed.ranks import Ranks
from amft.distributed.served_sampler import ServedSampler
from amft.models.tiny import tiny_model
from amft.rollout.decode import DecodeSampler
from amft.settings.groups import EngineSettings
from amft.types import Sampling

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from served_policies import seeded, worst_difference

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


def served(model, **options):
    return ServedSampler(model, Ranks(), [3], model.dtype, EngineSettings(**options))


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def engine(request):
    sampler = served(policy(request.param))
    yield sampler
    assert sampler.restarts == 0
    sampler.close()


@pytest.fixture(autouse=True)
def _first_weights(engine):
    learn(engine, 0)


@torch.no_grad()
def learn(engine, seed):
    """Other weights, written in place as an optimizer does."""
    model = engine.policy.model
    tied = model.config.tie_word_embeddings
    for mine, other in zip(model.parameters(), policy(tied, seed).parameters(), strict=True):
        mine.copy_(other)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_are_those_of_the_forward(engine, temperature):
    sampling = Sampling(n=4, max_new_tokens=12, temperature=temperature)
    found = engine.generate(PROMPTS, sampling, seeded())
    assert worst_difference(engine.policy.model, found, temperature) < 1e-4


def test_two_pushes_in_a_row_give_the_new_weights(engine):
    engine.generate(PROMPTS, SAMPLING, seeded())
    for seed in (1, 2):
        learn(engine, seed)
        assert worst_difference(engine.policy.model, engine.generate(PROMPTS, SAMPLING, seeded())) < 1e-4


def test_without_a_push_the_check_fails(engine):
    engine.generate(PROMPTS, SAMPLING, seeded())
    learn(engine, 1)
    engine.policy.pushed = engine.policy.source.state
    assert worst_difference(engine.policy.model, engine.generate(PROMPTS, SAMPLING, seeded())) > 0.1


def test_the_model_is_sent_once_for_each_change(engine):
    engine.generate(PROMPTS, SAMPLING, seeded())
    engine.figures()
    size = sum(4 * p.numel() for p in engine.policy.model.parameters())
    for seed in (1, 2):
        learn(engine, seed)
        for _ in range(2):
            engine.generate(PROMPTS, SAMPLING, seeded())
        assert engine.figures()["sampling/bytes_pushed"] == size


@pytest.mark.parametrize("seed", [0, 1])
def test_greedy_is_that_of_decode(engine, seed):
    learn(engine, seed)
    sampling = Sampling(max_new_tokens=12, temperature=0.0)
    decode = DecodeSampler(engine.policy.model, pad_id=0, eos_ids=[3])
    ours, theirs = (e.generate(PROMPTS, sampling, seeded()) for e in (decode, engine))
    assert ours == theirs


def test_draws_come_from_the_generator_alone(engine):
    before = torch.random.get_rng_state()
    first, again, other = (engine.generate(PROMPTS, SAMPLING, seeded(s)) for s in (1, 1, 2))
    tokens = [[t.completion_ids for t in found] for found in (first, again, other)]
    assert tokens[0] == tokens[1] != tokens[2]
    assert len(set(tokens[0][:4])) > 1  # the four completions of one prompt are not one
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
        best = set(engine.policy.model(torch.tensor([[1, 2, 3]])).logits[0, -1].topk(2).indices.tolist())
    assert {t.completion_ids[0] for t in found} <= best
    assert all(not t.logps for t in found)
