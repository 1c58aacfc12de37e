"""The probability of the right answer, at validation and at the test, against a forward pass of transformers."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from amft.errors import ConfigError
from amft.models.tiny import tiny_model
from amft.models.tokenizer import train_tokenizer
from amft.settings.config import AMFTConfig
from amft.tasks.registry import build_task
from amft.training.trainer import AMFTTrainer

PAIRS = [(a, b) for a in range(10) for b in range(10)]


def right(completions: Sequence[str], answer: Sequence[str], **columns: object) -> list[float]:
    del columns
    return [float(text.strip() == wanted) for text, wanted in zip(completions, answer, strict=True)]


def rows(pairs: Sequence[tuple[int, int]], *, shown: bool = True) -> list[dict[str, str]]:
    words = [{"prompt": f"add {a} {b}:", "completion": f" {a + b}", "answer": f"{a + b}"} for a, b in pairs]
    return words if shown else [{name: row[name] for name in ("prompt", "answer")} for row in words]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    tokenizer = train_tokenizer([row["prompt"] for row in rows(PAIRS)], words=20)
    model = tiny_model("qwen3", vocab_size=len(tokenizer), dtype=torch.float32)
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def trained(base: Path, *, test: list[dict[str, str]], **settings: Any) -> Path:
    pairs = random.Random(0).sample(PAIRS, len(PAIRS))
    config = AMFTConfig(
        output_dir=str(base.parent / "run"), max_steps=2, num_prompts=2, num_generations=2, num_demos=4,
        max_completion_length=4, learning_rate=1e-2, temperature=0.5, micro_batch_size=3, threads=1,
        eval={"steps": 2, **settings}, checkpoint={"steps": 0}, balance={"rule": "fixed"},
    )  # fmt: skip
    AMFTTrainer(
        str(base), config, train_dataset=rows(pairs[:60]), reward_funcs=right, val_dataset=rows(pairs[60:70]),
        eval_dataset=test,
    ).train()  # fmt: skip
    return base.parent / "run"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def by_transformers(model: Path, tokens: Path, row: dict[str, str]) -> float:
    """One row at a time, no padding: the product of the probabilities of the answer's tokens and of its end."""
    reads: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(tokens)
    policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    asked, said = reads.encode(row["prompt"]), reads.encode(row["prompt"] + row["completion"])
    assert said[: len(asked)] == asked
    ids = torch.tensor([[*said, reads.eos_token_id]])
    with torch.no_grad():
        logps = policy(ids).logits.double().log_softmax(-1)
    places = range(len(asked), ids.shape[1])
    return float(sum(logps[0, at - 1, ids[0, at]] for at in places).exp())


def test_every_row_has_the_probability_that_transformers_gives(base: Path) -> None:
    pairs = random.Random(0).sample(PAIRS, len(PAIRS))
    test = [*rows(pairs[70:74]), *rows(pairs[74:75], shown=False), *rows(pairs[75:77])]
    run = trained(base, test=test, answer_probability=True)
    scores = lines(run / "scores.jsonl")
    for model, where in (("base", base), ("policy", run / "model")):
        own = [row for row in scores if row["model"] == model]
        assert [row["problem"] for row in own] == list(range(7))
        assert "metrics" not in own[4]  # nobody said its right answer
        for asked, row in zip(test, own, strict=True):
            if "completion" in asked:
                wanted = by_transformers(where, base, asked)
                assert row["metrics"]["answer_probability"] == pytest.approx(wanted, rel=1e-4)
    wanted = [by_transformers(run / "model", base, row) for row in rows(pairs[60:70])]
    found = lines(run / "metrics.jsonl")[-1]["eval/val/answer_probability"]
    assert found == pytest.approx(sum(wanted) / len(wanted), rel=1e-4)


def test_without_the_setting_nothing_is_measured(base: Path) -> None:
    run = trained(base, test=rows(PAIRS[:2]))
    assert all("metrics" not in row for row in lines(run / "scores.jsonl"))
    assert "eval/val/answer_probability" not in lines(run / "metrics.jsonl")[-1]


def test_held_out_rows_without_any_right_answer_are_refused(base: Path) -> None:
    with pytest.raises(ConfigError, match=r"answer_probability: no row of eval_dataset says its right answer"):
        trained(base, test=rows(PAIRS[:2], shown=False), answer_probability=True)


def test_a_task_without_one_right_answer_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    config = AMFTConfig(
        output_dir=str(tmp_path / "run"), max_steps=1, eval={"answer_probability": True}, max_completion_length=72
    )
    with pytest.raises(ConfigError, match="general_points-v1 has no one right answer"):
        AMFTTrainer(str(tiny_base), config, task=build_task("general_points"))
