"""Tasks with several tries in the trainer: masks, log-probabilities, a step of every phase, evaluation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from amft.cli import main
from amft.data.rewards import TaskReward
from amft.errors import ConfigError
from amft.evaluation.score import mean_scores
from amft.settings.config import AMFTConfig
from amft.tasks.registry import build_task
from amft.training.trainer import AMFTTrainer

TRIES = 3


def trainer(model: Path, directory: Path, **changes: object) -> AMFTTrainer:
    settings = {
        "output_dir": str(directory), "max_steps": 3, "num_prompts": 2, "num_generations": 2, "num_demos": 2,
        "max_completion_length": 48, "learning_rate": 1e-3, 
        "balance": {"rule": "amft", "meta_skip": 0}, "sample_steps": 0,
        "eval": {"steps": 0, "problems": 2, "test_splits": ["id"], "test_problems": 4}, "checkpoint": {"steps": 0},
        "sft_warmup_steps": 1, "threads": 1,
    }  # fmt: skip
    config = AMFTConfig.model_validate(settings | changes)
    task = build_task("general_points", cards=3, demonstrations="answer", max_attempts=TRIES)
    return AMFTTrainer(str(model), config, task=task)


def test_user_tokens_are_masked_and_logps_are_those_of_a_plain_forward(tiny_directory: Path, tmp_path: Path) -> None:
    built = trainer(tiny_directory, tmp_path / "run", dtype="float64")
    batch = built.organs.collector.next(built.sources.prompts).batch
    tokenizer = built.tokenizer
    user, end = tokenizer.convert_tokens_to_ids("<|user|>"), tokenizer.eos_token_id
    logps = built.learner.logps(built.model, batch)
    for row in range(len(batch)):
        ids = batch.completion_ids[row].tolist()
        mask, attended = batch.completion_mask[row], batch.attention_mask[row, -len(ids) :]
        # A model of random weights is never right, so every conversation has all its tries.
        starts = [i for i, token in enumerate(ids) if token == user and mask[i] == 0 and attended[i]]
        assert len(starts) == TRIES - 1
        given = [i for i in range(len(ids)) if attended[i] and mask[i] == 0]
        text = tokenizer.decode([ids[i] for i in given if ids[i] != end])
        assert text.count("Answer again.<|assistant|>") == TRIES - 1
        assert text.replace("<|user|>That is not right", "").count("<|user|>") == 0
        assert mask[starts[0] - 2] == 1
        own = batch.ids[row][batch.attention_mask[row] == 1]
        with torch.no_grad():
            scores = built.model(own[None]).logits[0, :-1].double().log_softmax(-1)
        plain = scores[torch.arange(len(own) - 1), own[1:]]
        sampled = mask[attended == 1] > 0
        width = int(attended.sum())
        assert torch.allclose(logps[row][attended == 1][sampled], plain[-width:][sampled], atol=1e-9)


def test_a_run_imitates_explores_and_is_scored_by_episodes(tiny_directory: Path, tmp_path: Path) -> None:
    built = trainer(tiny_directory, tmp_path / "run", max_transcript_length=500, sample_steps=1)
    before = torch.cat([p.detach().flatten() for p in built.model.parameters()])
    result = built.train()
    after = torch.cat([p.detach().flatten() for p in built.model.parameters()])
    assert (after != before).any()
    rows = [json.loads(line) for line in (result.run / "metrics.jsonl").read_text().splitlines()]
    assert [row["phase"] for row in rows] == ["warmup", "mix", "mix"]
    assert all(row["task/attempts"] == TRIES for row in rows[1:])
    assert all(row["completions/mean_length"] <= TRIES * 48 for row in rows[1:])
    scores = [json.loads(line) for line in (result.run / "scores.jsonl").read_text().splitlines()]
    assert {row["metrics"]["attempts"] for row in scores} == {TRIES}
    samples = (result.run / "samples.jsonl").read_text()
    assert "[user] That is not right" in samples


def test_what_an_engine_says_of_every_answer_is_measured(tiny_directory: Path, tmp_path: Path) -> None:
    """In half precision rollouts come from a copy that says how likely its tokens were, the user's apart."""
    built = trainer(tiny_directory, tmp_path / "run", dtype="bfloat16")
    batch = built.organs.collector.next(built.sources.prompts).batch
    assert torch.equal(batch.engine_logps.isnan(), batch.completion_mask == 0)
    apart = (batch.engine_logps - built.learner.logps(built.model, batch)).abs()[batch.completion_mask > 0]
    assert 0 < apart.mean() < 0.02


def test_tokens_of_the_user_do_not_change_the_gradient(tiny_directory: Path, tmp_path: Path) -> None:
    """The loss reads the mask: with other labels on the user's tokens, the gradient is the same to the bit."""
    built = trainer(tiny_directory, tmp_path / "run")
    batch = built.organs.collector.next(built.sources.prompts).batch
    advantages = torch.ones(len(batch))
    losses = []
    for changed in (False, True):
        mask = batch.completion_mask.clone()
        old = built.learner.logps(built.model, batch)
        if changed:
            old = torch.where(mask > 0, old, old - 3.0)
        built.learner.clear()
        given = replace(batch, advantages=advantages, old_logps=old)
        loss, _ = built.learner.gradient(built.organs.objective.rl, given, built.organs.objective.rl_count(given))
        losses.append((loss, torch.cat([p.grad.flatten() for p in built.model.parameters() if p.grad is not None])))
    assert losses[0][0] == losses[1][0]
    assert torch.equal(losses[0][1], losses[1][1])


def test_eval_plays_episodes(tiny_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["eval", str(tiny_directory), "--task", "general_points-v1", "--split", "id", "--problems", "2"]
    options = ["--set", "cards=3", "--set", "max_attempts=2", "--set", "demonstrations=answer"]
    assert main([*asked, *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[-1] == "attempts"
    assert lines[1].split()[-1] == "2.0"
    assert main([*asked, "--set", "max_attempt=2"]) == 2
    assert "did you mean max_attempts?" in capsys.readouterr().err


def test_an_overlong_penalty_is_for_one_answer(tiny_directory: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="soft_punish_cache"):
        trainer(tiny_directory, tmp_path / "run", soft_punish_cache=4)


def test_one_try_in_an_episode_scores_as_before() -> None:
    task = build_task("general_points", max_attempts=2)
    (problem,) = task.problems("id", n=1)
    expert = task.demonstrate(problem)
    found = TaskReward(task).score([{"problem": problem}], [[expert]], [[1]])
    assert (found.rewards, found.correct) == ([5.0], [True])
    assert mean_scores([{"metrics": metrics} for metrics in found.metrics or []]) == {"attempts": 1.0}
