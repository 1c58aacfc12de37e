"""A tower in front of a text model leaves its text alone; the words of a task become tokens."""

import pytest
import torch

from amft.errors import ModelError
from amft.models.load import load_model, load_tokenizer
from amft.models.tiny_vision import tiny_vision_processor, with_eyes
from amft.pretraining.tiny_vision_recipe import on_base
from amft.tasks.registry import build_task

SMALL = {"image_size": 28, "patch_size": 14, "vision_size": 16, "seed": 0}


def test_without_a_picture_the_model_says_what_its_base_says():
    processor, model = on_base("nano", **SMALL)
    base, tokenizer = load_model("nano"), load_tokenizer("nano")
    ids = torch.tensor([tokenizer("Make 24 from the cards: 3, 8, J, 10.")["input_ids"]])
    assert processor.tokenizer.decode(ids[0]) == tokenizer.decode(ids[0])
    with torch.no_grad():
        expected, found = base(ids).logits, model(input_ids=ids).logits
    torch.testing.assert_close(found[..., : len(tokenizer)], expected, rtol=0, atol=1e-5)
    assert found.shape[-1] == len(processor.tokenizer)
    assert processor.image_token_id == len(tokenizer)


def test_the_seed_draws_the_tower_and_nothing_else():
    state = torch.get_rng_state()
    one, same, other = (on_base("nano", **{**SMALL, "seed": seed})[1].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    differ = {name for name in one if not torch.equal(one[name], other[name])}
    assert any("vision_tower" in name for name in differ)
    # Of the decoder, the new row of the image token alone.
    decoder = {name for name in differ if "vision_tower" not in name and "projector" not in name}
    assert decoder == {"model.language_model.embed_tokens.weight", "lm_head.weight"}
    assert torch.equal(one["lm_head.weight"][:-1], other["lm_head.weight"][:-1])
    assert torch.equal(torch.get_rng_state(), state)


def test_the_words_of_a_task_become_tokens_and_old_tokens_stay():
    task = build_task("navigation_vl-v1", view_size=56, turns=1)
    processor, model = on_base("nano", **SMALL, task=task, words=6)
    tokenizer, old = processor.tokenizer, load_tokenizer("nano")
    [problem] = task.problems("val", n=1)
    asked = task.prompt(problem)[0]["content"][1]["text"]
    assert len(tokenizer(asked)["input_ids"]) < len(old(asked)["input_ids"])
    for text in (asked, task.demonstrate(problem), "Unheard-of words, north!"):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert len(ids) <= len(old(text)["input_ids"])
    assert len(tokenizer) == len(old) + 6 + 1  # the picture's token comes last
    base = load_model("nano").get_input_embeddings().weight
    table = model.get_input_embeddings().weight
    assert torch.equal(table[: len(old)], base)
    # The base spells `picture ` with more than one token; of every prompt it is a word.
    assert len(old("picture ")["input_ids"]) > 1
    [word] = tokenizer("picture ")["input_ids"]
    assert word >= len(old)
    torch.testing.assert_close(table[word], base[old("picture ")["input_ids"]].mean(0))


def test_sizes_that_do_not_fit_are_named():
    processor = tiny_vision_processor(load_tokenizer("nano"), image_size=28)
    with pytest.raises(ModelError, match="^vision_size: 18 must be a multiple of heads = 4"):
        with_eyes(load_model("nano"), processor, vision_size=18)
