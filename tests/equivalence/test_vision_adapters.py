"""Pictures with an adapter, and pictures with several tries: both train, and save what they trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("peft")
from safetensors.torch import load_file

from amft.assembly.evaluation import Asked, build_evaluation
from amft.assembly.models import merge_adapter
from amft.data.encoding import encode_prompt, pixels_of
from amft.models.load import load_model, load_pictures, load_tokenizer
from amft.models.tiny_vision import tiny_vision_model, tiny_vision_processor
from amft.settings.config import AMFTConfig
from amft.tasks.registry import build_task
from amft.training.trainer import AMFTTrainer


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("vision")
    processor = tiny_vision_processor(load_tokenizer("nano"), image_size=56)
    processor.save_pretrained(directory)
    model = tiny_vision_model(processor, hidden_size=32, layers=1, vision_size=16, vision_layers=1)
    model.save_pretrained(directory)
    return str(directory)


class Parity:
    """Scores by the parity of the first answer's length: an untrained model has no success to learn from."""

    def __init__(self, scorer: Any):
        self.inner, self.task = scorer, scorer.task

    def score(self, rows: Any, texts: Any, completion_ids: Any) -> Any:
        found = self.inner.score(rows, texts, completion_ids)
        return type(found)(**{**vars(found), "rewards": [float(len(ids) + sum(ids) % 2) for ids in completion_ids]})


def trainer(base: str, out: Path, task: dict[str, Any], **settings: Any) -> AMFTTrainer:
    given = {
        "output_dir": str(out), "max_steps": 2, "num_prompts": 2, "num_generations": 2, "num_demos": 2,
        "max_completion_length": 70, "max_prompt_length": 300, "micro_batch_size": 2,
        "balance": {"rule": "amft", "meta_skip": 0},
        "eval": {"steps": 1, "problems": 2, "test_splits": ["id"], "test_problems": 2},
        "sample_steps": 1, "checkpoint": {"steps": 2},
        "learning_rate": 1e-3,
    }  # fmt: skip
    made = AMFTTrainer(
        base,
        AMFTConfig(**(given | settings)),
        task=build_task("general_points_vl", size=112, **task),
        recipe={"model": base, "task": {"id": "general_points_vl-v1", "size": 112, **task}},
    )
    made.sources.scorer.scorer = Parity(made.sources.scorer.scorer)
    return made


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_an_adapter_learns_from_pictures_and_the_rest_stays(base: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = trainer(base, out, {}, lora={"r": 2}, balance={"rule": "amft", "meta_skip": 0})
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.train()
    changed = {name for name, value in run.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all("lora_" in name for name in changed)
    # Seeing is adapted as well: the projector and the tower.
    assert any("vision_tower" in name for name in changed)
    saved = load_file(out / "checkpoints" / "step-2" / "model" / "adapter_model.safetensors")
    assert all("lora_" in name for name in saved)
    assert load_pictures(str(out / "checkpoints" / "step-2" / "model")) is not None


def test_the_merged_model_sees_what_the_adapter_saw(base: str, tmp_path: Path) -> None:
    out, merged = tmp_path / "run", tmp_path / "merged"
    trainer(base, out, {}, lora={"r": 2}, balance={"rule": "sft"}, learning_rate=1e-2).train()
    merge_adapter(str(out), str(merged))
    task = build_task("general_points_vl", size=112)
    prompt = task.prompt(task.problems("id", n=1)[0])
    adapted, plain = str(out / "checkpoints" / "step-2" / "model"), base
    logits = []
    for name in (adapted, str(merged), plain):
        pictures = load_pictures(name)
        ids = torch.tensor([encode_prompt(load_tokenizer(name), prompt, pictures)])
        with torch.no_grad():
            logits.append(load_model(name)(input_ids=ids, pixel_values=pixels_of([prompt], pictures)).logits)
    torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=1e-4)
    assert not torch.allclose(logits[0], logits[2], atol=1e-3)
    ((row,), _) = build_evaluation(str(out), Asked(splits=["id"], problems=1))
    assert row["n"] == 1
    assert "recognition" in row


def test_several_tries_at_a_picture_train_the_tower(base: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    tries = {"max_attempts": 2, "revisions": 0.5, "feedback_level": "detailed"}
    run = trainer(base, out, tries, balance={"rule": "amft", "meta_skip": 0}, max_completion_length=70)
    run.train()
    before = load_model(base).state_dict()
    after = load_model(str(out / "checkpoints" / "step-2" / "model")).state_dict()
    assert any("vision_tower" in name for name in before if not torch.equal(before[name], after[name]))
    # Nothing is right, so every episode has both tries, and its picture for both.
    assert {row["task/attempts"] for row in metrics(out)} == {2.0}
    assert all(row["sft/loss"] > 0 for row in metrics(out))
    assert run.sources.demonstrations is not None
    assert run.sources.demonstrations.encoded.left_out == []
