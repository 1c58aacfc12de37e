"""Pictures in the trainer: the numbers are those of transformers, of the whole batch, and of a run never stopped."""

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from amft.balance.registry import build_method
from amft.data.encoding import encode_demonstration, encode_prompt, pixels_of
from amft.errors import DataError
from amft.experience.sources import Encoder
from amft.experience.task_sources import from_task
from amft.models.forward import token_scores
from amft.models.load import load_model, load_pictures, load_tokenizer, turn_dropout_off
from amft.models.pictures import Pictures
from amft.models.tiny_vision import tiny_vision_model, tiny_vision_processor
from amft.settings.config import AMFTConfig
from amft.tasks.registry import build_task
from amft.training.trainer import AMFTTrainer

TASK = build_task("general_points_vl", size=112)


def make(**sizes):
    processor = tiny_vision_processor(load_tokenizer("nano"), image_size=56)
    return processor, tiny_vision_model(processor, hidden_size=32, layers=1, vision_size=16, vision_layers=1, **sizes)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    directory = tmp_path_factory.mktemp("vision")
    processor, model = make()
    processor.save_pretrained(directory)
    model.save_pretrained(directory)
    return directory


def settings(directory, **changes):
    given = {
        "output_dir": str(directory),
        "max_steps": 3,
        "num_prompts": 2,
        "num_generations": 2,
        "num_demos": 3,
        "max_completion_length": 70,
        "max_prompt_length": 128,
        "micro_batch_size": 2,
        "eval": {"steps": 2, "problems": 2, "test_splits": ["id"], "test_problems": 2},
        "sample_steps": 1,
        "checkpoint": {"steps": 1, "total_limit": 9},
        "seed": 3,
    }
    return AMFTConfig(**(given | changes))


def demonstrations(processor, n):
    config = settings("unused", num_demos=n)
    tokenizer = processor.tokenizer
    encoder = Encoder(tokenizer, config, [tokenizer.eos_token_id], build_method({"rule": "sft"}), Pictures(processor))
    return from_task(TASK, encoder).demonstrations.next(n)["sft"]


def test_default_sizes_are_tiny_and_load_as_an_ordinary_model(base):
    processor = tiny_vision_processor(load_tokenizer("nano"))
    assert sum(p.numel() for p in tiny_vision_model(processor).parameters()) < 2_000_000
    ours, theirs = load_model(str(base)), AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    assert type(ours) is type(theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert load_pictures("nano") is None


def test_prompt_ids_and_pixels_are_those_of_the_processor(base):
    processor, pictures = AutoProcessor.from_pretrained(base), load_pictures(str(base))
    problem = TASK.problems("train", n=1)[0]
    prompt = TASK.prompt(problem)
    text = processor.apply_chat_template(prompt, add_generation_prompt=True)
    picture = prompt[0]["content"][0]["image"]
    expected = processor(text=[text], images=[picture], add_special_tokens=False, return_tensors="pt")
    tokenizer = load_tokenizer(str(base))
    ids = encode_prompt(tokenizer, prompt, pictures)
    assert ids == expected["input_ids"][0].tolist()
    assert ids.count(processor.image_token_id) == 16  # (56 / 14)^2
    assert torch.equal(pixels_of([prompt], pictures), expected["pixel_values"])
    answer = [{"role": "assistant", "content": TASK.demonstrate(problem)}]
    assert encode_demonstration(tokenizer, prompt, answer, pictures=pictures)[0] == ids


def test_log_probs_equal_the_plain_forward_row_by_row():
    processor, model = make(dtype=torch.float64)
    model.set_attn_implementation("eager")
    batch = demonstrations(processor, 3)
    found = token_scores(model, batch).logps
    for i in range(3):
        keep = batch.attention_mask[i].bool()
        ids = batch.ids[i][keep][None]
        logits = model(input_ids=ids, pixel_values=batch.pixel_values[i : i + 1]).logits
        logps = logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
        n = int(batch.completion_mask[i].sum())
        torch.testing.assert_close(found[i, :n], logps[-n:], rtol=0, atol=1e-12)
    other = token_scores(model, type(batch)(**{**vars(batch), "pixel_values": batch.pixel_values.flip(0)})).logps
    assert not torch.allclose(other, found)  # the pictures matter, and each belongs to its row


def test_rows_and_take_cut_the_pictures_with_the_rows():
    batch = demonstrations(make()[0], 4)
    assert torch.equal(batch.rows(1, 3).pixel_values, batch.pixel_values[1:3])
    assert torch.equal(batch.take([3, 0]).pixel_values, batch.pixel_values[[3, 0]])
    assert batch.to("meta").pixel_values.device.type == "meta"


def trainer_of(directory, micro, rule):
    processor, model = make(dtype=torch.float64)
    turn_dropout_off(model)
    config = settings(directory, micro_batch_size=micro, dtype="float64", balance=rule, num_demos=5)
    return AMFTTrainer(model, config, task=TASK, processing_class=processor)


def test_accumulated_gradient_of_rows_with_pictures_is_that_of_the_whole_batch(tmp_path):
    grads = []
    for micro in (2, 5):
        trainer = trainer_of(tmp_path / str(micro), micro, {"rule": "sft"})
        batch = trainer.sources.demonstrations.next(5)["sft"]
        trainer.learner.gradient(trainer.organs.objective.sft, batch, trainer.organs.objective.token_count(batch))
        grads.append({name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None})
    assert any("vision_tower" in name and grad.abs().sum() > 0 for name, grad in grads[0].items())
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], rtol=0, atol=1e-12)


def test_what_does_not_fit_is_refused(base):
    pictures = load_pictures(str(base))
    picture = TASK.prompt(TASK.problems("train", n=1)[0])[0]["content"][0]["image"]
    with pytest.raises(DataError, match="renders to 2 image tokens"):
        pictures.expanded("<image><image>", picture)
    with pytest.raises(DataError, match="others none"):
        pictures.pixels([picture, None])
    with pytest.raises(DataError, match="reads text only"):
        encode_prompt(load_tokenizer("nano"), TASK.prompt(TASK.problems("train", n=1)[0]))


@pytest.mark.parametrize("rule", ["sft", "rl", "amft", "uft"])
def test_three_steps_train_the_tower(base, tmp_path, rule):
    before = load_model(str(base)).state_dict()
    trainer = AMFTTrainer(str(base), settings(tmp_path / "run", balance={"rule": rule}), task=TASK)
    if rule != "sft":  # an untrained model has no success: rewards of their own, so that there is a gradient
        trainer.sources.scorer.scorer = Parity(trainer.sources.scorer.scorer)
    result = trainer.train()
    assert len(result.table) == 1
    after = load_model(str(tmp_path / "run/checkpoints/step-3/model")).state_dict()
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert any("vision_tower" in name for name in moved)
    assert load_pictures(str(tmp_path / "run/checkpoints/step-3/model")) is not None


class Parity:
    """Scores by the parity of the first token; everything else is the task's."""

    def __init__(self, scorer):
        self.inner, self.task = scorer, scorer.task

    def score(self, rows, texts, completion_ids):
        found = self.inner.score(rows, texts, completion_ids)
        rewards = [float(ids[0] % 2) for ids in completion_ids]
        return type(found)(**{**vars(found), "rewards": rewards})


def test_resume_inside_a_window_is_bit_exact(base, tmp_path):
    import shutil

    changes = {
        "steps_per_generation": 2,
        "num_iterations": 2,
        "max_steps": 4,
        "balance": {"rule": "amft", "meta_skip": 1},
    }
    straight = tmp_path / "straight"
    AMFTTrainer(str(base), settings(straight, **changes), task=TASK).train()
    cut = tmp_path / "cut"
    shutil.copytree(straight, cut)
    for step in (3, 4):
        shutil.rmtree(cut / f"checkpoints/step-{step}")
    AMFTTrainer(str(base), settings(cut, **changes), task=TASK).train(resume=True)
    for name in ("metrics.jsonl", "scores.jsonl", "checkpoints/step-4/model/model.safetensors"):
        assert (cut / name).read_bytes() == (straight / name).read_bytes()
