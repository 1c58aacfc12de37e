"""Runs on a prefix tree are the runs on padded rows: parameters, mu, the meta-gradient and every metric."""

from __future__ import annotations

import exact_norms
import pytest
from tiny_runs import ROWS, build, parameters, train
from transformers import LlamaPreTrainedModel

from amft.balance.registry import RULES
from amft.models import prefix_tree, tree_attention

FAST = {"relift": {"size": 3}, "mifo": {"size": 3}, "gac": {"every": 2}}
"""Settings that let a rule do within five steps what it does."""
MIXED = [
    {"prompt": (row["prompt"] + " k l m")[: 3 + 2 * (i % 4)], "completion": " n n"[: 2 * (i % 3)] + row["completion"]}
    for i, row in enumerate(ROWS)
]
ROUTES = {
    "meta_gradient": {"balance": "amft", "micro_batch_size": 3, "max_steps": 6},
    "reference_and_reuse": {"balance": "amft", "beta": 0.1, "num_iterations": 2, "gradient_checkpointing": True},
    "critic": {"balance": {"rule": "fixed", "mu": 0.4}, "loss_type": "ppo", "entropy_coef": 0.01},
    "smoothed": {"balance": "sft", "label_smoothing": 0.1},
} | {name: {"balance": {"rule": name, **FAST.get(name, {})}} for name in RULES}


@pytest.fixture(autouse=True)
def _exact(monkeypatch):
    exact_norms.use(monkeypatch)
    monkeypatch.setattr(prefix_tree, "SHORTEST", 1)


def numbers(row):
    return {name: value for name, value in row.items() if isinstance(value, float)}


def told(trainer):
    return [row["message"] for row in trainer.run_logger.run.rows("events") if row["kind"] == "rows"]


@pytest.mark.parametrize("route", ROUTES)
def test_tree_training_equals_padded(route, tmp_path):
    settings = {"dtype": "float64", "max_steps": 5, "rows": MIXED, "max_completion_length": 7, **ROUTES[route]}
    padded, tree = (train(tmp_path / str(flag), prefix_tree=flag, **settings) for flag in (False, True))
    assert (parameters(padded) - parameters(tree)).abs().max() < 1e-10
    rows = [list(trainer.run_logger.run.rows("metrics")) for trainer in (padded, tree)]
    if route == "meta_gradient":
        assert any(row.get("mix/meta_grad/sft/wrong") for row in rows[0])
    for one, other in zip(*rows, strict=True):
        assert numbers(other) == pytest.approx(numbers(one), rel=1e-8, abs=1e-10), one["step"]
    assert told(tree)
    assert all("rows lie in a prefix tree" in line for line in told(tree))


def test_attention_is_as_it_was_after_a_run(tmp_path):
    trainer = train(tmp_path / "run", "amft", max_steps=1)
    assert trainer.model.config._attn_implementation == "eager"


def test_one_event_for_each_kind_of_first_batch(tmp_path):
    trainer = train(tmp_path / "run", {"rule": "fixed", "mu": 0.4}, max_steps=4, sft_warmup_steps=2)
    first, second = told(trainer)
    assert "first batch of the run log-probabilities differ" in first
    assert "first batch of shared prompts log-probabilities differ" in second


def test_a_model_that_does_not_fit_keeps_padded_rows_and_says_so(tmp_path, monkeypatch):
    padded = train(tmp_path / "padded", "amft", max_steps=2, prefix_tree=False)
    assert told(padded) == []
    monkeypatch.setattr(LlamaPreTrainedModel, "_supports_attention_backend", False)
    fallen = train(tmp_path / "fallen", "amft", max_steps=2)
    assert told(fallen) == ["rows are padded, not a prefix tree: its attention cannot be replaced"]
    assert (parameters(fallen) == parameters(padded)).all()


def test_attention_of_another_kind_is_found_on_the_first_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(tree_attention, "UNKNOWN", ("dropout",))  # which every attention is given
    trainer = train(tmp_path / "run", "amft", max_steps=2)
    assert told(trainer) == ["rows are padded, not a prefix tree: the attention of this model has dropout"]


def test_a_difference_that_is_not_rounding_keeps_padded_rows(tmp_path, monkeypatch):
    right = tree_attention.tree_blocks
    monkeypatch.setattr(tree_attention, "tree_blocks", lambda *states: 1.5 * right(*states))
    trainer = build(tmp_path / "run", "amft", max_steps=2)
    trainer.model.model.layers[0].self_attn.o_proj.weight.data.mul_(50)  # so that attention matters
    trainer.train()
    (line,) = told(trainer)
    assert line.startswith("rows are padded, not a prefix tree: log-probabilities differ by")
