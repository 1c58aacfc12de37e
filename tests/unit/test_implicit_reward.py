"""The implicit reward, by hand: where the probabilities of words are known, and from the checkpoints of a run."""

from __future__ import annotations

import json
import math

import pytest
import torch
from tiny_runs import ROWS, build, one, tiny_tokenizer, train

from amft.batch import pad_batch
from amft.errors import ConfigError
from amft.models.load import load_model
from amft.settings.config import AMFTConfig

HEAVY, LIGHT, WORD = 2, 3, 4
NAMES = [f"implicit_reward/{name}" for name in ("demo", "rollout", "margin")]


@torch.no_grad()
def give_words_weights(model, **heavy):
    """Make p(word) = weight / sum of weights, whatever came before: 2 for every word but the given ones.

    Only the residual stream is left, and the one entry of it that is not 0 is scaled to sqrt(8) by the last norm.
    """
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            parameter.zero_()
    weights = torch.full((len(model.get_input_embeddings().weight),), 2.0)
    for number, weight in heavy.items():
        weights[int(number[1:])] = weight
    model.get_input_embeddings().weight[:, 0] = weights.log() / math.sqrt(8)


def test_by_hand(tmp_path) -> None:
    trainer = build(tmp_path / "run", "fixed", implicit_reward={"steps": 3, "beta": 0.5})
    measure = trainer.organs.implicit_reward
    give_words_weights(trainer.model)  # 16 words: 1/16 each
    measure.begin()
    give_words_weights(trainer.model, w2=4.0, w5=4.0)  # 14 * 2 + 2 * 4 = 36: heavy words 1/9, the others 1/18
    rollouts = pad_batch([[WORD, WORD], [WORD]], [[HEAVY, LIGHT], [HEAVY]], pad_id=1)
    measure.start_step(2)
    measure.see(rollouts)
    assert measure.found == {}, "not due"
    measure.start_step(3)
    measure.see(rollouts)
    first, second = math.log(1 / 9 * 1 / 18 * 16**2), math.log(1 / 9 * 16)
    assert measure.found["implicit_reward/rollout"] == pytest.approx(0.5 * (first + second) / 2, rel=1e-3)
    assert measure.found["implicit_reward/margin"] == pytest.approx(
        measure.found["implicit_reward/demo"] - measure.found["implicit_reward/rollout"]
    )


def test_the_first_measurement_is_zero_and_the_model_stays(tmp_path) -> None:
    trainer = build(tmp_path / "run", "fixed", implicit_reward={"steps": 1})
    before = [p.detach().clone() for p in trainer.model.parameters()]
    measure = trainer.organs.implicit_reward
    measure.begin()
    measure.start_step(1)
    assert measure.found == {"implicit_reward/demo": 0.0}
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))


def test_rows_that_a_demonstrator_began_are_left_out(tmp_path) -> None:
    trainer = build(tmp_path / "run", "luffy", implicit_reward={"steps": 1})
    measure = trainer.organs.implicit_reward
    measure.begin()
    give_words_weights(trainer.model)
    measure.start_step(1)
    both = pad_batch([[WORD], [WORD]], [[LIGHT, LIGHT], [HEAVY]], pad_id=1)
    demo = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    measure.see(both.__class__(**{**vars(both), "demo": demo}))
    mixed = measure.found["implicit_reward/rollout"]
    measure.see(both.rows(1, 2))
    assert measure.found["implicit_reward/rollout"] == pytest.approx(mixed)


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def logp(model, tokenizer, row):
    """log p(completion and end | prompt), nats, by one plain forward pass."""
    prompt, whole = (tokenizer(text)["input_ids"] for text in (row["prompt"], row["prompt"] + row["completion"]))
    logps = model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
    return float(sum(logps[i - 1, whole[i]] for i in range(len(prompt), len(whole))))


def test_a_run_measures_against_the_policy_after_its_warm_up(tmp_path) -> None:
    settings = {
        "sft_warmup_steps": 2,
        "max_steps": 6,
        "num_demos": 2,
        "checkpoint": {"steps": 1, "total_limit": 9},
        "implicit_reward": {"steps": 2},
        "learning_rate": 3e-2,
    }
    trainer = train(tmp_path / "run", "amft", **settings)
    measured = [{name: row[name] for name in NAMES if name in row} for row in rows_of(tmp_path / "run")]
    assert [len(row) for row in measured] == [0, 0, 0, 3, 0, 3], "every second step, after the warm-up"
    after_warmup, before_step_6 = (
        load_model(str(tmp_path / "run" / "checkpoints" / f"step-{step}" / "model")) for step in (2, 5)
    )
    encoded = trainer.sources.demonstrations.encoded.rows
    chosen = [trainer.sources.demonstrations.rows[demo.row] for demo in encoded[:: len(encoded) // 2][:2]]
    with torch.no_grad():
        gains = [
            logp(before_step_6, tiny_tokenizer(), row) - logp(after_warmup, tiny_tokenizer(), row) for row in chosen
        ]
    assert measured[5]["implicit_reward/demo"] == pytest.approx(sum(gains) / 2, rel=1e-4)
    assert measured[5]["implicit_reward/demo"] > 0


def test_it_resumes_to_the_byte_and_changes_no_other_number(tmp_path) -> None:
    settings = {"max_steps": 6, "sft_warmup_steps": 1, "checkpoint": {"steps": 3}}
    train(tmp_path / "plain", "amft", reward=one, **settings)
    whole = tmp_path / "whole"
    asked = {**settings, "implicit_reward": {"steps": 2}}
    train(whole, "amft", reward=one, **asked)
    others = [{k: v for k, v in row.items() if k not in NAMES} for row in rows_of(whole)]
    assert others == rows_of(tmp_path / "plain")
    (whole / "checkpoints" / "step-6").rename(tmp_path / "gone")
    text = (whole / "metrics.jsonl").read_bytes()
    train(whole, "amft", reward=one, resume=True, **asked)
    assert (whole / "metrics.jsonl").read_bytes() == text


def test_imitation_alone_is_measured_on_demonstrations(tmp_path) -> None:
    train(tmp_path / "run", "sft", rows=ROWS, max_steps=2, implicit_reward={"steps": 2})
    assert [name for name in NAMES if name in rows_of(tmp_path / "run")[1]] == ["implicit_reward/demo"]


def test_shards_are_refused() -> None:
    with pytest.raises(ConfigError, match="implicit_reward.steps: not with parallel: fsdp2"):
        AMFTConfig(implicit_reward={"steps": 1}, parallel="fsdp2")
