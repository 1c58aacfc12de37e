"""Every rule of the registry trains: 20 steps of a tiny model, in every way a run can be made or go wrong."""

from __future__ import annotations

import json
import math
import shutil
from unittest.mock import patch

import pytest
import torch
from tiny_runs import ROWS, build, one, parameters, tiny_tokenizer, train, zero

from amft.balance.registry import RULES, build_method
from amft.errors import ConfigError
from amft.weighting.base import TokenInput

FAST = {"relift": {"size": 3}, "mifo": {"size": 3}, "gac": {"every": 2}}
"""Settings that let a rule do within 20 steps what it does."""
WINDOW = {"steps_per_generation": 2, "num_iterations": 2, "sft_warmup_steps": 2}
SHORT = {"max_steps": 3, "num_prompts": 2, "max_completion_length": 5}
each_rule = pytest.mark.parametrize("name", RULES)


def spec(name):
    return {"rule": name, **FAST.get(name, {})}


def metrics(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def check_weights(name, rows):
    """The weights of every step are logged and in their bounds."""
    rule = build_method(spec(name)).rule
    low, high = getattr(rule, "mu_min", 0.0), getattr(rule, "mu_max", 10.0)
    for row in rows:
        by_class = [value for key, value in row.items() if key.startswith("mix/weight/sft/")]
        split = rule.requirements.split is not None and row["phase"] != "warmup"
        assert bool(by_class) == split
        for mu in by_class or [row["mix/mu"]]:
            assert low <= mu <= high or row["phase"] == "warmup"
        rl = row["mix/weight/rl"] if split else row.get("mix/weight_rl", 1.0 - row["mix/mu"])
        assert 0.0 <= rl <= 10.0
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))


@each_rule
def test_20_steps_and_resume_bit_for_bit(name, tmp_path):
    settings = {"checkpoint": {"steps": 12}, **WINDOW}  # the window that begins at step 11 is cut
    straight = tmp_path / "straight"
    train(straight, spec(name), **settings)
    rows = metrics(straight)
    assert len(rows) == 20
    check_weights(name, rows)
    cut = tmp_path / "cut"
    shutil.copytree(straight, cut)
    shutil.rmtree(cut / "checkpoints" / "step-20")
    train(cut, spec(name), resume=True, **settings)
    for file in ("metrics.jsonl", "checkpoints/step-20/model/model.safetensors"):
        assert (cut / file).read_bytes() == (straight / file).read_bytes(), file


@each_rule
def test_bfloat16_with_accumulation(name, tmp_path):
    trainer = train(tmp_path / "run", spec(name), dtype="bfloat16", micro_batch_size=7, **WINDOW)
    assert parameters(trainer).isfinite().all()
    rows = metrics(tmp_path / "run")
    assert len(rows) == 20
    check_weights(name, rows)


@each_rule
def test_micro_batches_do_not_change_the_numbers(name, tmp_path):
    whole, split = (
        parameters(train(tmp_path / str(size), spec(name), dtype="float64", micro_batch_size=size, **SHORT))
        for size in (64, 2)
    )
    # transformers normalises in float32 even in a float64 model.
    assert (whole - split).norm() / whole.norm() < 1e-6


@each_rule
@pytest.mark.parametrize("reward", [zero, one])
def test_equal_rewards(name, reward, tmp_path):
    trainer = train(tmp_path / "run", spec(name), reward, **SHORT)
    assert parameters(trainer).isfinite().all()
    check_weights(name, metrics(tmp_path / "run"))


@each_rule
def test_empty_demonstrations(name, tmp_path):
    trainer = build(tmp_path / "run", spec(name), **SHORT)
    demonstrations, prompts = trainer.sources.demonstrations, trainer.sources.prompts
    take = demonstrations.next
    demonstrations.next = lambda n, *_: take(0)
    if prompts.answers is not None:
        prompts.answers[:] = [[] for _ in prompts.answers]
    before = parameters(trainer)
    with patch("amft.training.training_run.check_sources"):
        trainer.train()
    assert parameters(trainer).isfinite().all()
    rows = metrics(tmp_path / "run")
    check_weights(name, rows)
    mixer = build_method(spec(name)).demo_mixer
    teaches_itself = mixer.imitates == "rows" and not mixer.needs_answers
    if not teaches_itself:
        assert [row.get("sft/loss", 0.0) for row in rows] == [0.0] * len(rows)
    explores = any("policy_loss" in row for row in rows)
    assert (parameters(trainer) - before).any() == (explores or teaches_itself)


def test_no_rule_changes_the_numbers_of_another(tmp_path):
    def run(folder):
        train(tmp_path / folder, {"rule": "fixed", "mu": 0.3}, **SHORT)
        return (tmp_path / folder / "metrics.jsonl").read_bytes()

    alone = run("alone")
    for name in RULES:
        build(tmp_path / name, spec(name), **SHORT)
    train(tmp_path / "between", "srft", **SHORT)
    assert run("after") == alone


def test_a_rule_that_explores_nothing_draws_nothing(tmp_path):
    trainer = build(tmp_path / "run", "dft", **SHORT)
    trainer.foundation.sampler.generate = None
    trainer.train()
    assert all("tokens/rollout" not in row for row in metrics(tmp_path / "run"))


def test_only_those_that_ask_pay(tmp_path):
    for name in RULES:
        trainer, method = build(tmp_path / name, spec(name), **SHORT), build_method(spec(name))
        assert (trainer.learner.mix is not None) == (method.requirements.meta_gradient is not None), name
        assert (trainer.foundation.reference is not None) == (TokenInput.REFERENCE in method.token_inputs), name
        assert (trainer.sources.prompts.answers is not None) == method.demo_mixer.needs_answers, name


def test_prompts_without_demonstrations_are_one_line(tmp_path):
    rows = [{"prompt": row["prompt"]} for row in ROWS]
    with pytest.raises(ConfigError, match="balance rule luffy needs them for the prompts of train_dataset"):
        build(tmp_path / "run", "luffy", rows=rows).train()


def test_rows_are_compared_so_values_per_token_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="loss_type: ppo has advantages per token, and balance rule trapo"):
        build(tmp_path / "run", "trapo", loss_type="ppo").train()


def test_an_answer_too_long_is_left_out(tmp_path):
    rows = [*ROWS, {"prompt": "a a", "completion": " " + "b " * 9 + "."}]
    trainer = build(tmp_path / "run", "luffy", rows=rows)
    prompts = trainer.sources.prompts
    found = dict(zip((row["prompt"] for row in prompts.rows), prompts.answers, strict=True))
    assert found.get("a a", []) == []
    assert [tiny_tokenizer().decode(ids) for ids in found["a g"]] == ["g a a g ."]
    assert torch.tensor(found["a g"]).shape == (1, 5)
