"""Random models from ordinary configs."""

import pytest
import torch

from amft.errors import ModelError
from amft.models.tiny import FAMILIES, tiny_model


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("family", FAMILIES)
def test_forward_gives_one_logit_per_token_and_word(family):
    model = tiny_model(family, vocab_size=11, hidden_size=16, heads=2, kv_heads=1)
    logits = model(torch.tensor([[1, 2, 3]])).logits
    assert logits.shape == (1, 3, 11)
    assert logits.std() > 0
    assert type(model).__name__.lower().startswith(family)


def test_same_seed_same_weights_and_another_seed_other_weights():
    first, again, other = (weights(tiny_model(vocab_size=11, hidden_size=16, seed=s)) for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_global_random_state_is_untouched():
    before = torch.random.get_rng_state()
    tiny_model(vocab_size=11, hidden_size=16)
    assert torch.equal(before, torch.random.get_rng_state())


def test_weights_do_not_depend_on_the_global_random_state():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = weights(tiny_model(vocab_size=11, hidden_size=16))
        torch.manual_seed(2)
        second = weights(tiny_model(vocab_size=11, hidden_size=16))
    assert torch.equal(first, second)


def test_parameter_count_by_hand():
    # qwen2, V 10, h 8, heads 2, kv 1, head_dim 4, ffn 24, one layer, tied:
    # embedding 80; q 8*8+8, k 8*4+4, v 8*4+4, o 8*8 = 208; ffn 3*8*24 = 576; norms 3*8 = 24; together 888.
    model = tiny_model("qwen2", vocab_size=10, hidden_size=8, layers=1, heads=2, kv_heads=1)
    assert sum(p.numel() for p in model.parameters()) == 888
    untied = tiny_model("qwen2", vocab_size=10, hidden_size=8, layers=1, heads=2, kv_heads=1, tie=False)
    assert sum(p.numel() for p in untied.parameters()) == 888 + 80


def test_dtype_rounds_the_same_weights():
    single = tiny_model(vocab_size=11, hidden_size=16)
    half = tiny_model(vocab_size=11, hidden_size=16, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert torch.equal(weights(single).bfloat16(), weights(half))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [({"family": "gpt"}, "family"), ({"hidden_size": 20, "heads": 8}, "hidden_size"), ({"kv_heads": 3}, "heads")],
)
def test_bad_sizes_are_named(arguments, word):
    with pytest.raises(ModelError, match=word):
        tiny_model(**{"vocab_size": 11, "hidden_size": 16, **arguments})
