"""What the attacks start from. `make attack` runs them; the ordinary suite does not collect this folder."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of 20 thousand parameters, a tokenizer with digits, a chat template."""
    from amft.models.tiny import tiny_model
    from amft.models.tokenizer import train_tokenizer

    directory = tmp_path_factory.mktemp("models") / "small"
    tokenizer = train_tokenizer(["max 3 5: 7"], words=5)
    model = tiny_model(vocab_size=len(tokenizer), hidden_size=16)
    model.config.pad_token_id, model.config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
