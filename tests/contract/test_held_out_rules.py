"""Under every rule, over 40 steps, no batch that is trained on holds a prompt that is held out."""

from __future__ import annotations

import random
from contextlib import ExitStack
from unittest.mock import patch

import pytest
import torch
from tiny_runs import ROWS, build, parity, tiny_model, tiny_tokenizer

from amft.balance.registry import RULES, build_method
from amft.experience.data_sources import OwnData, from_data
from amft.experience.sources import Encoder
from amft.report.doctor import diagnose
from amft.settings.config import AMFTConfig
from amft.training.trainer import AMFTTrainer

FAST = {"relift": {"size": 3}, "mifo": {"size": 3}, "gac": {"every": 2}}


def leaky_data():
    """Every prompt twice and differently spaced, with a demonstration for each, in another order."""
    spaced = [dict(row, prompt=f" {row['prompt']}  ") for row in ROWS]
    demonstrations = [dict(row) for row in ROWS + spaced]
    random.Random(0).shuffle(demonstrations)
    return {"train_dataset": ROWS + spaced, "demonstrations": demonstrations, "eval_dataset": ROWS[:4]}


def prompts_of(ids):
    """The two words that every prompt consists of, after the padding; an answer is never as short as that."""
    return {tuple(token for token in row if token != 1)[:2] for row in ids.tolist()}


@pytest.mark.parametrize("name", RULES)
def test_no_held_out_prompt_is_trained_on(name, tmp_path):
    plain = build(tmp_path / "plain", {"rule": name, **FAST.get(name, {})}).config
    config = plain.model_copy(update={"output_dir": str(tmp_path / "run"), "max_steps": 40})
    trainer = AMFTTrainer(tiny_model(), config, reward_funcs=parity, processing_class=tiny_tokenizer(), **leaky_data())
    sources, seen, measuring = trainer.sources, set(), []
    held_out = {tuple(ids) for ids in [*sources.meta.ids, *sources.val.ids, *sources.tests["eval"].ids]}
    assert len(held_out) == 3 + 4
    gradient, learner, meta = trainer.learner.gradient, trainer.learner, trainer.organs.meta_signals

    def watched(loss, batch, *args, **kwargs):
        if not measuring:
            seen.update(prompts_of(batch.ids))
        return gradient(loss, batch, *args, **kwargs)

    def apart(method):
        def measured(*args):
            measuring.append(method)
            try:
                return method(*args)
            finally:
                measuring.pop()

        return measured

    with ExitStack() as patches:
        patches.enter_context(patch.object(learner, "gradient", watched))
        for measure in ("before", "begin"):
            patches.enter_context(patch.object(meta, measure, apart(getattr(meta, measure))))
        trainer.train()
    assert len(seen) > 10
    assert not seen & held_out


def test_answers_that_are_looked_up_are_none_of_held_out_prompts():
    """Hints, prefixes and buffers are made of these."""
    tokenizer, config = tiny_tokenizer(), AMFTConfig()
    sources = from_data(
        Encoder(tokenizer, config, [0], build_method({"rule": "luffy"})), OwnData(reward_funcs=parity, **leaky_data())
    )
    explored = {tuple(ids) for ids in sources.prompts.ids}
    held_out = {tuple(ids) for ids in [*sources.meta.ids, *sources.tests["eval"].ids]}
    imitated = {demo.prompt_ids for demo in sources.demonstrations.encoded.rows}
    assert len(explored) == len(imitated) == 36 - 7
    assert not (explored | imitated) & held_out
    assert all(len(answers) == 1 for answers in sources.prompts.answers)
    assert torch.is_tensor(sources.demonstrations.next(2)["sft"].ids)


def test_what_is_not_used_is_said_once_and_written_down(tmp_path, capsys):
    data = leaky_data()
    data["demonstrations"] += [{"prompt": f"{a} a", "completion": " a b c d e f g h ."} for a in "nmlkj"]
    data["demonstrations"][0]["completion"] = " a ."
    config = build(tmp_path / "plain", "fixed").config
    config = config.model_copy(update={"output_dir": str(tmp_path / "run"), "max_steps": 2})
    trainer = AMFTTrainer(tiny_model(), config, reward_funcs=parity, processing_class=tiny_tokenizer(), **data)
    trainer.train()
    said = capsys.readouterr().err
    events = [row for row in trainer.run_logger.run.rows("events") if row["kind"] in ("data", "held-out")]
    assert [row["kind"] for row in events].count("held-out") == 2
    messages = {row["message"] for row in events}
    assert "train_dataset: 8 of 72 rows are not used: the same prompt stands in eval_dataset" in messages
    assert (
        "demonstrations: 5 of 63 rows are not used: the completion is longer than max_completion_length 5" in messages
    )
    assert all(said.count(message) == 1 for message in messages)
    (finding,) = [found for found in diagnose(trainer.run_logger.run.path) if found.topic == "data"]
    assert "5 of 63" in finding.evidence
    assert "held out" not in finding.evidence
