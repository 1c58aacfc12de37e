"""Runs with several imitation branches: those of one branch where the weights are equal, their own where not."""

from __future__ import annotations

import json
import shutil

import pytest
from tiny_runs import ROWS, parameters, parity, tiny_model, tiny_tokenizer

from amft.balance import MetaGradient, Requirements, Weights
from amft.errors import ConfigError
from amft.settings.config import AMFTConfig
from amft.training.trainer import AMFTTrainer

SOURCED = [{**row, "source": ("book", "web")[i % 3 == 0]} for i, row in enumerate(ROWS)]


class Constant:
    """The same weights in every step, over classes of demonstrations."""

    def __init__(self, rl=0.7, book=0.3, web=0.3, **requirements):
        self.weights = Weights({"rl": rl, "sft/book": book, "sft/web": web})
        self.requirements = Requirements(split=lambda row: row["source"], **requirements)

    def init(self):
        return {}

    def update(self, state, signals):
        seen = {f"mix/dot/{branch}": found.dot for branch, found in signals.meta.items()}
        return self.weights, state, seen


def build(directory, rule, rows=SOURCED, **changes):
    settings = {
        "output_dir": str(directory),
        "max_steps": 6,
        "num_prompts": 2,
        "num_generations": 4,
        "num_demos": 5,
        "max_completion_length": 5,
        "learning_rate": 1e-2,
        "dtype": "float64",
        "eval": {"steps": 0, "test_splits": []},
        "checkpoint": {"steps": 3},
        "sample_steps": 0,
        "seed": 1,
    }
    config = AMFTConfig(**(settings | changes))
    given = {"balance": rule} if rule is not None else {}
    return AMFTTrainer(
        tiny_model().double(),
        config,
        train_dataset=list(rows),
        reward_funcs=parity,
        processing_class=tiny_tokenizer(),
        **given,
    )


def trained(directory, rule, **changes):
    trainer = build(directory, rule, **changes)
    trainer.train()
    return trainer


def rows_of(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def apart(direction):
    return {"meta_gradient": MetaGradient(direction=direction, skip=1, horizon=0.5)}


@pytest.mark.parametrize("requirements", [{}, apart("free"), apart("convex")], ids=["first", "free", "convex"])
def test_equal_weights_are_one_branch(requirements, tmp_path):
    one = trained(tmp_path / "one", None, balance={"rule": "fixed", "mu": 0.3})
    two = trained(tmp_path / "two", Constant(**requirements))
    a, b = parameters(one), parameters(two)
    assert (a - b).norm() / a.norm() < 1e-7  # transformers normalises in float32
    for ours, theirs in zip(rows_of(tmp_path / "two"), rows_of(tmp_path / "one"), strict=True):
        assert ours["sft/loss"] == pytest.approx(theirs["sft/loss"], rel=1e-5)
        assert ours["tokens/demo"] == theirs["tokens/demo"]
        assert ours["sft/loss"] == pytest.approx(ours["sft/book/loss"] + ours.get("sft/web/loss", 0.0), rel=1e-9)


def test_the_class_of_weight_0_is_not_learned(tmp_path):
    book = trained(tmp_path / "book", Constant(web=0.0))
    both = trained(tmp_path / "both", Constant())
    assert (parameters(book) - parameters(both)).norm() > 1e-6
    names = {name for row in rows_of(tmp_path / "book") for name in row}
    assert {"mix/weight/rl", "mix/weight/sft/book", "mix/weight/sft/web"} <= names
    assert {row["mix/mu"] for row in rows_of(tmp_path / "book") if "mix/mu" in row} == {0.3}


def test_micro_batches_do_not_change_the_numbers_of_branches(tmp_path):
    rule = Constant(book=0.5, web=0.1, **apart("free"))
    whole = parameters(trained(tmp_path / "whole", rule, micro_batch_size=64))
    split = parameters(trained(tmp_path / "split", rule, micro_batch_size=1))
    assert (whole - split).norm() / whole.norm() < 1e-7


def test_every_branch_is_measured_apart_and_resumes_to_the_byte(tmp_path):
    rule = Constant(book=0.5, web=0.1, **apart("free"))
    trained(tmp_path / "run", rule)
    whole = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    last = rows_of(tmp_path / "run")[-1]
    assert last["mix/dot/sft/book"] != last["mix/dot/sft/web"]
    assert {"mix/grad_norm/rl", "mix/grad_norm/sft/book", "mix/grad_cos/sft/web"} <= last.keys()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-6")
    build(tmp_path / "run", rule).train(resume=True)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == whole


def test_weights_for_other_branches_are_one_line(tmp_path):
    named = "must weigh the branches rl, sft/book, sft/web of this run; it weighs rl, sft"

    class Short(Constant):
        def update(self, state, signals):
            return Weights.convex(0.5), state, {}

    with pytest.raises(ConfigError, match=named):
        trained(tmp_path / "run", Short())


def test_a_rule_that_returns_a_number_is_told_what_to_return(tmp_path):
    class Number(Constant):
        def update(self, state, signals):
            return 0.5

    with pytest.raises(
        ConfigError,
        match=r"Number.update must return \(Weights, state, metrics\), for example .*; it returned float '0.5'",
    ):
        trained(tmp_path / "run", Number())


def test_a_signal_that_was_not_asked_for_is_refused(tmp_path):
    from amft.signals.reward import REWARD

    class Curious(Constant):
        def update(self, state, signals):
            return self.weights, state, {"mix/reward": signals[REWARD] or 0.0}

    with pytest.raises(ConfigError, match="Curious: the rule reads reward, which its requirements do not name"):
        trained(tmp_path / "run", Curious())


def test_a_class_that_is_no_word_is_refused(tmp_path):
    nameless = [{**row, "source": None} for row in SOURCED]
    with pytest.raises(ConfigError, match=r"the class of demonstration \d+ must be a word, got None"):
        build(tmp_path / "run", Constant(), rows=nameless)


def test_a_signal_of_the_demonstrations_needs_one_branch(tmp_path):
    from amft.signals.nll_variance import NLL_VARIANCE

    with pytest.raises(ConfigError, match="nll_var cannot be measured over 2 imitation branches"):
        trained(tmp_path / "run", Constant(signals=(NLL_VARIANCE,)))


def test_pure_imitation_of_two_classes_leaves_no_norm_of_one(tmp_path):
    trainer = trained(tmp_path / "run", Constant(rl=0.0, book=0.5, web=-0.5))
    assert "sft_grad_norm" not in trainer.organs.balancer.past


def test_rows_that_a_demo_mixer_chooses_cannot_be_split(tmp_path):
    from amft.balance.method import Method
    from amft.demo_mixing.instead import Switch

    with pytest.raises(ConfigError, match="its rows cannot be split into 2 branches"):
        trained(tmp_path / "run", Method(Constant(), demo_mixer=Switch()))
