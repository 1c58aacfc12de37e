"""Families of models people use, tiny and random: each trains, resumes to the byte, evaluates, and is saved whole.

Three run in every test run, all of them with `make test-families`.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from families import PICTURES, TEXT, text_family
from PIL import Image
from tiny_runs import ROWS, parity
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, TrainerCallback

from amft.batch import pad_batch
from amft.cli import main
from amft.data.encoding import encode_prompt
from amft.errors import DataError, ModelError
from amft.models.forward import token_scores
from amft.models.pictures import Pictures
from amft.settings.config import AMFTConfig
from amft.tasks.general_points.vl import GeneralPointsVL
from amft.training.trainer import AMFTTrainer
from amft.types import Message, Problem

ALL = "AMFT_FAMILIES" in os.environ
FEW_TEXT, FEW_PICTURES = ("Gemma3Text", "Qwen3Moe"), ("Qwen2_5_VL",)
TEXTS = list(TEXT if ALL else FEW_TEXT)
SEEING = list(PICTURES if ALL else FEW_PICTURES)
pytestmark = pytest.mark.filterwarnings("ignore")

COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200), (90, 90, 90))


def picture(i: int, size: int = 40) -> Image.Image:
    made = Image.new("RGB", (size, size), COLOURS[i % 4])
    made.paste(COLOURS[(i + 1) % 4], (0, 0, size // 2, size // 2))
    return made


def picture_rows(n: int = 8, several: int = 1) -> list[dict[str, Any]]:
    def parts(i: int) -> list[dict[str, Any]]:
        seen = [{"type": "image", "image": picture(i + k)} for k in range(several)]
        return [*seen, {"type": "text", "text": f"which of {i}?"}]

    return [
        {
            "prompt": [{"role": "user", "content": parts(i)}],
            "completion": [{"role": "assistant", "content": str(i % 4)}],
        }
        for i in range(n)
    ]


class TwoPictures(GeneralPointsVL):
    """The hand twice, so that a prompt has two pictures."""

    def prompt(self, problem: Problem) -> list[Message]:
        (message,) = super().prompt(problem)
        return [{**message, "content": [message["content"][0], *message["content"]]}]


OF_TEXT = {"train_dataset": ROWS[:-2], "val_dataset": ROWS[-2:], "reward_funcs": parity}
OF_PICTURES = {"task": GeneralPointsVL(size=112)}


class StopAt(TrainerCallback):
    """As if somebody had interrupted the run after so many steps."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step == self.step


def trainer_of(made: Any, folder: Path, data: dict[str, Any], callbacks: Any = (), steps: int = 3) -> AMFTTrainer:
    model, reads = made
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "balance": {"rule": "amft", "meta_skip": 0},
        "max_steps": steps,
        "num_prompts": 2,
        "num_generations": 4,
        "num_demos": 4,
        "max_completion_length": 60 if "task" in data else 5,
        "learning_rate": 1e-2,
        "eval": {"steps": 0, "problems": 2, "test_splits": []},
        "sample_steps": 0,
        "checkpoint": {"steps": 1},
        "seed": 1,
    }
    return AMFTTrainer(model, AMFTConfig(**settings), processing_class=reads, callbacks=callbacks, **data)


def weights(trainer: AMFTTrainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def check_a_run(make: Any, data: dict[str, Any], folder: Path, kind: Any) -> AMFTTrainer:
    """Three steps in one and in two parts; the policy it began with has moved, and is what the final model holds."""
    whole = trainer_of(make(), folder / "whole", data)
    before = weights(whole)
    result = whole.train()
    after = weights(whole)
    assert any(not torch.equal(after[name], before[name]) for name in after)
    assert all(value.isfinite().all() for value in after.values())
    assert {"eval/val/success"} <= whole.evaluate().keys()
    trainer_of(make(), folder / "parts", data, [StopAt(2)]).train()
    second = trainer_of(make(), folder / "parts", data)
    second.train(resume=True)
    assert second.step == 3
    assert len(second.log_history) == 3
    assert all(torch.equal(after[name], value) for name, value in weights(second).items())
    loaded = kind.from_pretrained(result.model).state_dict()
    assert all(torch.equal(after[name], value) for name, value in loaded.items())
    return whole


@pytest.mark.parametrize("name", TEXTS)
def test_a_family_of_text_trains_resumes_and_evaluates(name: str, tmp_path: Path) -> None:
    check_a_run(lambda: text_family(name), OF_TEXT, tmp_path, AutoModelForCausalLM)


@pytest.mark.parametrize("name", TEXTS)
def test_log_probabilities_are_those_of_the_model_alone(name: str) -> None:
    """Rows padded to one length, against each row on its own in transformers."""
    model, _ = text_family(name)
    prompts, answers = [[3, 4, 5, 6, 7, 8], [9, 10]], [[11, 0], [12, 13, 14, 0]]
    found = token_scores(model, pad_batch(prompts, answers, 1)).logps
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        alone = logits.gather(-1, torch.tensor(answer)[:, None])[:, 0]
        torch.testing.assert_close(found[row, : len(answer)], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SEEING)
def test_a_family_of_pictures_trains_resumes_and_evaluates(name: str, tmp_path: Path) -> None:
    trainer = check_a_run(PICTURES[name], OF_PICTURES, tmp_path, AutoModelForImageTextToText)
    assert trainer.foundation.pictures is not None


@pytest.mark.parametrize("several", [1, 2])
@pytest.mark.parametrize("name", SEEING)
def test_what_is_seen_is_what_the_processor_hands_over(name: str, several: int) -> None:
    """Log-probabilities of a row among others, against the family's own processor and model on the row alone."""
    model, processor = PICTURES[name]()
    pictures, rows = Pictures(processor), picture_rows(3, several)
    prompts = [encode_prompt(processor.tokenizer, row["prompt"], pictures) for row in rows]
    prompts[0] = [5, 6, 7, *prompts[0]]
    answers = [[11, 12, 13], [14], [15, 16]]
    seen = [tuple(part["image"] for part in row["prompt"][0]["content"][:-1]) for row in rows]
    batch = pad_batch(prompts, answers, processor.tokenizer.pad_token_id)
    batch = type(batch)(**{**vars(batch), "pixel_values": pictures.pixels(seen)})
    found = token_scores(model, batch).logps
    differs = token_scores(model, type(batch)(**{**vars(batch), "pixel_values": batch.pixel_values.flip(0)})).logps
    assert (found[0] - differs[0]).abs().max() > 1e-6, "the pictures are not looked at"
    for i in (1, 2):
        text = processor.tokenizer.apply_chat_template(rows[i]["prompt"], add_generation_prompt=True, tokenize=False)
        given = processor(text=[text], images=[list(seen[i])], return_tensors="pt", add_special_tokens=False)
        assert given["input_ids"][0].tolist() == prompts[i]
        joint = torch.tensor([prompts[i] + answers[i]])
        given["input_ids"], given["attention_mask"] = joint, torch.ones_like(joint)
        for key in ("token_type_ids", "mm_token_type_ids"):
            if key in given:
                given[key] = torch.cat([given[key], torch.zeros(1, len(answers[i]), dtype=torch.long)], 1)
        given.pop("num_crops", None)
        logits = model(**given).logits[0, len(prompts[i]) - 1 : -1].log_softmax(-1)
        alone = logits.gather(-1, torch.tensor(answers[i])[:, None])[:, 0]
        torch.testing.assert_close(found[i, : len(answers[i])], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SEEING)
def test_two_pictures_a_prompt_are_trained_on(name: str, tmp_path: Path) -> None:
    trainer = trainer_of(PICTURES[name](), tmp_path, {"task": TwoPictures(size=112)}, steps=2)
    before = weights(trainer)
    trainer.train()
    assert any(not torch.equal(before[key], value) for key, value in weights(trainer).items())


def test_what_cannot_be_is_one_line() -> None:
    made = PICTURES["Qwen2_5_VL"]()
    with pytest.raises(DataError, match="some prompts have 1 pictures and others 2"):
        Pictures(made[1]).pixels([(picture(0),), (picture(1), picture(2))])
    wide = [picture(0).resize((80, 20))]
    with pytest.raises(ModelError, match=r"cuts a picture into \d x \d patches; give square pictures"):
        Pictures(made[1]).pixels(wide)


@pytest.mark.parametrize("name", SEEING)
def test_a_saved_model_that_sees_is_scored_by_the_command(name: str, tmp_path: Path, capsys: Any) -> None:
    model, processor = PICTURES[name]()
    model.save_pretrained(tmp_path / "model")
    Pictures(processor).save(tmp_path / "model")
    capsys.readouterr()
    asked = ["--task", "general_points_vl-v1", "--problems", "2", "--max-tokens", "4"]
    code, said = main(["eval", str(tmp_path / "model"), *asked]), capsys.readouterr()
    if "Qwen" in name and importlib.util.find_spec("torchvision") is None:
        assert code == 2
        assert "processor cannot be loaded" in said.err
        assert len(said.err.strip().splitlines()) == 1
        return
    assert code == 0, said.err
    assert "success" in said.out
