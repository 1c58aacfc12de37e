"""Runs with `padding_free` are the runs without it: parameters, mu, the meta-gradient and every metric."""

from __future__ import annotations

import json

import pytest
from tiny_runs import ROWS, build, parameters, train
from transformers import LlamaPreTrainedModel

from amft.errors import ModelError

MIXED = [
    {"prompt": (row["prompt"] + " k l m")[: 3 + 2 * (i % 4)], "completion": " n n"[: 2 * (i % 3)] + row["completion"]}
    for i, row in enumerate(ROWS)
]
ROUTES = {
    "meta_gradient": {"balance": "amft", "micro_batch_size": 3},
    "reference_and_reuse": {"balance": "amft", "beta": 0.1, "num_iterations": 2, "gradient_checkpointing": True},
    "critic": {"balance": {"rule": "fixed", "mu": 0.4}, "loss_type": "ppo", "entropy_coef": 0.01},
    "smoothed": {"balance": "sft", "label_smoothing": 0.1},
}


def metrics(trainer):
    lines = (trainer.run_logger.run.path / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def numbers(row):
    return {name: value for name, value in row.items() if isinstance(value, float)}


@pytest.mark.parametrize("route", ROUTES)
def test_packed_training_equals_padded(route, tmp_path):
    settings = {"dtype": "float64", "max_steps": 6, "rows": MIXED, **ROUTES[route]}
    runs = [train(tmp_path / str(flag), padding_free=flag, **settings) for flag in (False, True)]
    assert (parameters(runs[0]) - parameters(runs[1])).abs().max() < 1e-10
    if route == "meta_gradient":
        assert any(row.get("mix/meta_grad") for row in metrics(runs[0]))
    for padded, packed in zip(*map(metrics, runs), strict=True):
        assert numbers(packed) == pytest.approx(numbers(padded), rel=1e-9, abs=1e-10), padded["step"]


def test_attention_is_as_it_was_after_a_run(tmp_path):
    trainer = train(tmp_path / "run", "amft", max_steps=1, padding_free=True)
    assert trainer.model.config._attn_implementation == "eager"


def test_a_model_that_cannot_is_refused_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(LlamaPreTrainedModel, "_supports_attention_backend", False)
    with pytest.raises(ModelError, match="^padding_free: LlamaForCausalLM does not fit: .*; leave padding_free out$"):
        build(tmp_path / "run", "amft", padding_free=True)
