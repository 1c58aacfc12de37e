"""A run's template settings, from the recipe to the saved model."""

from __future__ import annotations

from pathlib import Path

import pytest

from amft.cli import main
from amft.models.load import load_tokenizer

RECIPE = """
model: base
task: {id: general_points-v1, cards: 3, demonstrations: answer}
output_dir: run
max_steps: 1
num_prompts: 2
num_generations: 2
num_demos: 2
max_completion_length: 96
eval: {steps: 0, test_splits: [id], test_problems: 2}
balance: {rule: amft, meta_skip: 0}
threads: 1
"""


def test_a_base_model_without_a_template_is_trained_on_conversations(
    tmp_path: Path, tiny_directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForCausalLM

    monkeypatch.chdir(tmp_path)
    AutoModelForCausalLM.from_pretrained(tiny_directory).save_pretrained("base")
    tokenizer = load_tokenizer(str(tiny_directory))
    tokenizer.chat_template = None
    tokenizer.save_pretrained("base")
    Path("run.yaml").write_text(RECIPE)
    assert main(["train", "run.yaml"]) == 2
    assert "set chat_template (plain" in capsys.readouterr().err
    assert main(["train", "run.yaml", "--set", "chat_template=plain", "--set", "system_prompt=Make 24."]) == 0
    text = load_tokenizer("run/model").apply_chat_template(
        [{"role": "user", "content": "5 5 5"}], add_generation_prompt=True, tokenize=False
    )
    assert text == "System: Make 24.\n\nUser: 5 5 5\n\nAssistant:"
