"""A tower in front of a text model leaves its text alone; a task's own tokenizer knows its words."""

import pytest
import torch

from amft.errors import ModelError
from amft.models.load import load_model, load_tokenizer
from amft.models.tiny_vision import tiny_vision_processor, with_eyes
from amft.models.tiny_vision_recipe import for_task, on_base
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


def test_a_model_for_a_task_has_few_tokens_for_its_words():
    task = build_task("navigation_vl-v1", view_size=56)
    shape = {"hidden_size": 32, "layers": 1, "words": 300}
    processor, model = for_task(task, **SMALL, **shape)
    [problem] = task.problems("val", n=1)
    text = task.prompt(problem)[0]["content"][1]["text"]
    ids = processor.tokenizer(text)["input_ids"]
    assert processor.tokenizer.decode(ids) == text
    assert len(ids) < len(load_tokenizer("nano")(text)["input_ids"]) / 2
    assert model.config.text_config.vocab_size == len(processor.tokenizer)


def test_sizes_that_do_not_fit_are_named():
    processor = tiny_vision_processor(load_tokenizer("nano"), image_size=28)
    with pytest.raises(ModelError, match="^vision_size: 18 must be a multiple of heads = 4"):
        with_eyes(load_model("nano"), processor, vision_size=18)
