"""A model directory small enough to train in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, a tokenizer that knows the task, a chat template."""
    from amft.models.tiny import tiny_model
    from amft.models.tokenizer import train_tokenizer
    from amft.tasks.registry import build_task

    directory = tmp_path_factory.mktemp("models") / "tiny"
    task = build_task("general_points-v1", cards=3, demonstrations="answer")
    problems = task.problems("train", seed=0, n=50)
    tokenizer = train_tokenizer([str(task.prompt(p)) + task.demonstrate(p) for p in problems], words=60)
    model = tiny_model(vocab_size=len(tokenizer), hidden_size=32)
    model.config.pad_token_id, model.config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a loaded machine a mistake may take a second to find; the line about it is then not alone."""
    monkeypatch.setattr("amft.cli.status.PATIENCE", 60.0)
