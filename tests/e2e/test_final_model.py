"""The model a run ends with: where it lies, that plain transformers loads it, that it stops, and what its card says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

from amft.cli import main

RECIPE = """
model: base
data: {train: rows.jsonl, test: test.jsonl, rewards: [right.py:right]}
output_dir: run
max_steps: 3
num_prompts: 2
num_generations: 2
num_demos: 4
max_completion_length: 8
learning_rate: 1e-2
eval: {steps: 1}
checkpoint: {steps: 1, total_limit: 2}
balance: {rule: amft, meta_skip: 0}
threads: 1
"""
REWARD = """
def right(prompts, completions, answer, **columns):
    return [float(text.strip() == right) for text, right in zip(completions, answer)]
"""
PAPER = "The arXiv record's v3 comment (10 October 2025) says the paper is under investigation"


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A random model that was never told what ends a completion, and twenty rows."""
    from amft.models.tiny import tiny_model
    from amft.models.tokenizer import train_tokenizer

    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"copy {i}:", "completion": f"{i}", "answer": f"{i}"} for i in range(25)]
    tokenizer = train_tokenizer([row["prompt"] for row in rows], words=20)
    model = tiny_model(vocab_size=len(tokenizer), hidden_size=32)
    assert model.generation_config.eos_token_id is None
    model.save_pretrained("base")
    tokenizer.save_pretrained("base")
    for name, part in (("rows", rows[:20]), ("test", rows[20:])):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    Path("right.py").write_text(REWARD)
    Path("run.yaml").write_text(RECIPE)
    return tmp_path


@pytest.mark.usefixtures("workplace")
def test_the_lines_that_are_printed_load_a_model_that_stops(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "run.yaml", "--set", "max_steps=40", "--set", "balance=sft", "--set", "num_demos=16"]) == 0
    printed = capsys.readouterr().out.splitlines()
    place = printed.index("model: run/model")
    names: dict[str, object] = {"transformers": transformers}
    exec("\n".join(printed[place + 1 : place + 3]), names)
    model, tokenizer = names["model"], names["tokenizer"]
    ids = tokenizer("copy 7:", return_tensors="pt").input_ids  # type: ignore[operator]
    found = model.generate(ids, max_new_tokens=200)[0, ids.shape[1] :]  # type: ignore[attr-defined]
    assert len(found) < 20
    assert found[-1] == tokenizer.eos_token_id  # type: ignore[attr-defined]
    saved = json.loads(Path("run/model/generation_config.json").read_text())
    assert saved["eos_token_id"] == tokenizer.eos_token_id  # type: ignore[attr-defined]


@pytest.mark.usefixtures("workplace")
def test_the_model_is_that_of_the_last_checkpoint_and_outlives_the_checkpoints() -> None:
    import shutil

    assert main(["train", "run.yaml"]) == 0
    weights = Path("run/checkpoints/step-3/model/model.safetensors").read_bytes()
    assert Path("run/model/model.safetensors").read_bytes() == weights
    shutil.rmtree("run/checkpoints")
    model = transformers.AutoModelForCausalLM.from_pretrained("run/model")
    assert model.dtype == torch.float32


@pytest.mark.usefixtures("workplace")
def test_with_keep_best_it_is_the_best_one() -> None:
    assert main(["train", "run.yaml", "--set", "checkpoint.keep_best=true", "--set", "learning_rate=1e-9"]) == 0
    # Nothing is learned, so the first validation stays the best.
    best = Path("run/checkpoints/step-1/model/model.safetensors").read_bytes()
    assert best != Path("run/checkpoints/step-3/model/model.safetensors").read_bytes()
    assert Path("run/model/model.safetensors").read_bytes() == best


@pytest.mark.usefixtures("workplace")
def test_the_card_says_what_the_run_was() -> None:
    assert main(["train", "run.yaml", "--set", "balance={rule: amft-scalar, meta_skip: 0}"]) == 0
    card = Path("run/model/README.md").read_text(encoding="utf-8")
    env = json.loads(Path("run/env.json").read_text())
    for told in (
        "`base`",
        "rows.jsonl",
        "`amft-scalar`",
        "| seed | `0` |",
        f"`{env['transformers']}`",
        PAPER,
        "95 % intervals",
    ):
        assert told in card, told
    assert "| `eval` | 0.0 %" in card
    assert "![weight of imitation over the steps](mu.png)" in card
    assert Path("run/model/mu.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("workplace")
def test_without_a_moving_weight_there_is_no_picture() -> None:
    assert main(["train", "run.yaml", "--set", "balance=sft", "--set", "data.rewards=[]"]) == 0
    assert "mu.png" not in Path("run/model/README.md").read_text(encoding="utf-8")
    assert not Path("run/model/mu.png").exists()
