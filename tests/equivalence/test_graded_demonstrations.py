"""Graded demonstrations in runs: a filter is the same data without those rows, and weights and age are factors."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from tiny_runs import ROWS, build, parameters, tiny_tokenizer, train

from amft.errors import ConfigError, DataError

SHORT = {"max_steps": 4, "dtype": "float64", "checkpoint": {"steps": 2}, "num_demos": 7}
KINDS = ("right", "wrong")
RIGHT = [row for row in ROWS if tiny_tokenizer()(row["completion"])["input_ids"][0] % 2 == 0]


def metrics(directory):
    return (directory / "metrics.jsonl").read_bytes()


def rows_of(directory):
    return [json.loads(line) for line in metrics(directory).splitlines()]


def events(directory):
    return [json.loads(line)["message"] for line in (directory / "events.jsonl").read_text().splitlines()]


def run(directory, balance="sft", **changes):
    """All rows are explored; by default all are imitated."""
    return train(directory, balance, **SHORT | changes)


@pytest.mark.parametrize("balance", ["sft", {"rule": "fixed", "mu": 0.4}])
def test_a_filter_is_the_same_run_without_the_wrong_rows(balance, tmp_path):
    filtered = run(tmp_path / "filtered", balance, demonstrations={"filter": "verified"})
    assert len(filtered.sources.demonstrations.encoded.rows) == sum(
        row in RIGHT for row in filtered.sources.prompts.rows
    )
    said = " ".join(events(tmp_path / "filtered"))
    counts = filtered.sources.demonstrations.verdicts
    assert f"graded: {counts['right']} right, " in said
    assert "the verifier calls them wrong (demonstrations.filter)" in said
    plain = build(tmp_path / "plain", balance, **SHORT)
    encoded, demos = plain.sources.demonstrations.encoded.rows, plain.sources.demonstrations
    demos.encoded.rows[:] = [demo for demo in encoded if demo.completion_ids[0] % 2 == 0]
    demos.order.__init__(["sft"] * len(demos.encoded.rows), 1, "demonstrations")
    plain.train()
    assert metrics(tmp_path / "filtered") == metrics(tmp_path / "plain")


def test_the_filter_reaches_methods_that_look_demonstrations_up_by_prompt(tmp_path):
    trainer = build(tmp_path / "run", "luffy", demonstrations={"filter": "verified"}, **SHORT)
    prompts = trainer.sources.prompts
    for row, answers in zip(prompts.rows, prompts.answers, strict=True):
        assert bool(answers) == (row in RIGHT)


def test_weights_are_factors_of_the_rows(tmp_path):
    weighed = run(tmp_path / "weighed", demonstrations={"wrong_weight": 0.25}, max_steps=1)
    by_class = {row["completion"]: 1.0 if row in RIGHT else 0.25 for row in weighed.sources.demonstrations.rows}
    demos = weighed.sources.demonstrations
    assert demos.weights == [by_class[demos.rows[demo.row]["completion"]] for demo in demos.encoded.rows]
    assert {0.25, 1.0} == set(demos.weights)
    nothing = run(tmp_path / "nothing", demonstrations={"wrong_weight": 0.0})
    only = build(tmp_path / "only", "sft", **SHORT)
    take = only.sources.demonstrations.next

    def right_rows(n, *_):
        (batch,) = take(n).values()
        mask = (batch.completion_ids[:, :1] % 2 == 0).float()
        return {"sft": type(batch)(**{**vars(batch), "weights": mask[:, 0]})}

    only.sources.demonstrations.next = right_rows
    only.train()
    assert torch.equal(parameters(nothing), parameters(only))
    assert {"sft/nll", "sft/loss"} <= rows_of(tmp_path / "nothing")[0].keys()


def test_repeated_demonstrations_age(tmp_path):
    trainer = build(tmp_path / "run", "verifier-gate", **SHORT)
    demos = trainer.sources.demonstrations
    n = len(demos.encoded.rows)
    first = demos.next(n, 4.0)
    assert all(batch.weights is None for batch in first.values())
    demos.next(n, 4.0)
    third = demos.next(n, 4.0)  # shown twice before
    assert all(batch.weights.tolist() == pytest.approx([1 / 1.5] * len(batch)) for batch in third.values())
    assert all(batch.weights is None for batch in demos.next(n).values())


@pytest.mark.parametrize("rule", ["amft", "verifier-gate", "brake", "success-gap", "gram-pair"])
def test_verdicts_are_there_after_a_resume_to_the_byte(rule, tmp_path):
    settings = {"steps_per_generation": 2, "sft_warmup_steps": 1, "max_steps": 6, "checkpoint": {"steps": 3}}
    run(tmp_path / "run", rule, **settings)
    whole = metrics(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-6")
    run(tmp_path / "run", rule, resume=True, **settings)
    assert metrics(tmp_path / "run") == whole


def test_adapters_have_effects_of_their_own_size_and_resume_to_the_byte(tmp_path):
    settings = {"lora": {"r": 2, "target_modules": ["q_proj", "down_proj"]}, "dtype": "float32", "max_steps": 6}
    whole = build(tmp_path / "whole", "amft", **SHORT | settings)
    before = {name: value.clone() for name, value in whole.model.state_dict().items()}
    whole.train()
    changed = {name for name, value in whole.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if "lora_" in name}
    effects = whole.learner.mix.state_dict()
    for branch in range(2):  # q_proj is 8 by 8, down_proj 8 by 16: r (rows + columns) of both
        kept = [value.numel() for name, value in effects.items() if name.startswith(f"effect{branch}.")]
        assert sum(kept) == 2 * (8 + 8) + 2 * (8 + 16)
    weights = [[row[f"mix/weight/sft/{verdict}"] for row in rows_of(tmp_path / "whole")] for verdict in KINDS]
    assert all(len(set(of_class)) > 1 for of_class in weights)
    shutil.copytree(tmp_path / "whole", tmp_path / "halves")
    for step in (4, 6):
        shutil.rmtree(tmp_path / "halves" / "checkpoints" / f"step-{step}")
    build(tmp_path / "halves", "amft", **SHORT | settings).train(resume=True)
    assert metrics(tmp_path / "halves") == metrics(tmp_path / "whole")


def test_classes_with_sources_have_weights_of_their_own(tmp_path):
    sourced = [{**row, "source": "book" if i % 3 else "web"} for i, row in enumerate(ROWS)]
    run(tmp_path / "run", "amft", rows=sourced, max_steps=6)
    last = rows_of(tmp_path / "run")[-1]
    classes = {f"sft/{verdict}/{source}" for verdict in ("right", "wrong") for source in ("book", "web")}
    assert {name.removeprefix("mix/weight/") for name in last if name.startswith("mix/weight/")} == {*classes, "rl"}
    assert {f"mix/meta_grad/{name}" for name in classes} & last.keys()


def test_grading_needs_a_reward_function(tmp_path):
    with pytest.raises(ConfigError, match="demonstrations: they shall be graded, but there is no reward function"):
        build(tmp_path / "run", "sft", reward=None, demonstrations={"filter": "verified"}, **SHORT)


def test_a_filter_that_keeps_none_leaves_exploration(tmp_path):
    wrong = [row for row in ROWS if row not in RIGHT]
    one_weight = {"optim": "sgd", "max_grad_norm": None}
    run(tmp_path / "run", {"rule": "fixed", "mu": 0.7}, rows=wrong, demonstrations={"filter": "verified"}, **one_weight)

    run(tmp_path / "rl", "rl", rows=wrong, learning_rate=3e-3, **one_weight)
    ours, theirs = rows_of(tmp_path / "run"), rows_of(tmp_path / "rl")
    assert [row["policy_loss"] for row in ours] == pytest.approx([row["policy_loss"] for row in theirs], rel=1e-9)
    assert [row["sft/loss"] for row in ours] == [0.0] * len(ours)
    with pytest.raises(ConfigError, match="verified keeps none, and there is nothing else to learn from"):
        run(tmp_path / "sft", "sft", rows=wrong, demonstrations={"filter": "verified"})


def test_what_fits_is_counted_before_the_filter_and_once(tmp_path):
    wrong = [row for row in ROWS if row not in RIGHT]
    long = [{**row, "completion": row["completion"] * 3} for row in RIGHT[3:10]]
    rows = [*wrong[:10], *RIGHT[:3], *long]
    found = build(tmp_path / "run", "sft", rows=rows, demonstrations={"filter": "verified"}, **SHORT).sources
    trained = found.prompts.rows  # some of the 20 are held out
    right, too_long = [sum(row in kind for row in trained) for kind in (RIGHT, long)]
    assert 1 <= right <= too_long
    assert [demo.row for demo in found.demonstrations.encoded.rows] == list(range(right))
    assert all(row in RIGHT for row in found.demonstrations.rows)
    fit = len(trained) - too_long
    assert [str(count) for count in found.not_used if count.source == "train_dataset" and not count.expected] == [
        f"train_dataset: {too_long} of {len(trained)} rows are not used: the completion is longer than "
        "max_completion_length 5",
        f"train_dataset: {fit - right} of {len(trained)} rows are not used: the verifier calls them wrong "
        "(demonstrations.filter)",
    ]
    with pytest.raises(DataError, match=r"demonstrations fit, at least half must \(\d+ times the completion is longer"):
        build(tmp_path / "most", "sft", rows=[*rows, *long * 2], demonstrations={"filter": "verified"}, **SHORT)
