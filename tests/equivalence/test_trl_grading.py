"""Demonstrations that TRL's reward functions grade: classes, filters, factors, inside `AMFTGRPOTrainer`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("trl")
from datasets import Dataset
from test_trl_adapter import DEMOS, PROMPTS, arguments, history

from amft.balance import AMFT
from amft.errors import ConfigError
from amft.integrations.trl import AMFTGRPOTrainer
from amft.integrations.trl_classes import read_settings, sort_into_classes
from amft.models.load import load_model, load_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def by_answer(completions: list[Any], completion_ids: list[list[int]], **columns: Any) -> list[float]:
    """1 for answers with a multiplication sign, three of the four demonstrations; some little for others."""
    said = zip(completions, completion_ids, strict=True)
    return [1.0 if "*" in completion[0]["content"] else sum(ids) % 5 / 20 for completion, ids in said]


def build(
    folder: Path,
    demonstrations: Any,
    balance: Any,
    grading: dict[str, Any] | None = None,
    *,
    num_demos: int = 3,
    double: bool = False,
    **settings: Any,
) -> AMFTGRPOTrainer:
    return AMFTGRPOTrainer(
        model=load_model("nano").to(torch.float64 if double else torch.float32),
        args=arguments(folder, **settings),
        reward_funcs=by_answer,
        processing_class=load_tokenizer("nano"),
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS]),
        demonstrations=demonstrations,
        balance=balance,
        num_demos=num_demos,
        demonstration_settings=grading,
    )


def test_classes_of_demonstrations_are_graded_weighed_and_resumed(tmp_path: Path) -> None:
    sourced = [{**row, "source": "ab"[i % 2]} for i, row in enumerate(DEMOS)]

    def made(folder: str, **settings: Any) -> AMFTGRPOTrainer:
        return build(tmp_path / folder, sourced, {"rule": "amft", "meta_skip": 0}, **settings)

    whole = made("whole")
    assert whole.verdicts == {"right": 3, "wrong": 1}
    assert whole.imitation.branches == ("sft/right/a", "sft/right/b", "sft/wrong/b")
    whole.train()
    for branch in whole.imitation.branches:
        assert None not in history(whole, f"mix/weight/{branch}")
    assert any(value is not None for value in history(whole, "mix/meta_grad/sft/right/a"))
    halves = {"save_strategy": "steps", "save_steps": 2}
    first = made("halves", **halves)
    first.args.max_steps = 2
    first.train()
    second = made("halves", **halves)
    second.train(resume_from_checkpoint=True)
    assert second.backend.balancer.state_dict() == whole.backend.balancer.state_dict()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_a_filter_is_the_same_run_without_the_wrong_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short, rule = {"max_steps": 2}, {"rule": "fixed", "mu": 0.6}
    filtered = build(tmp_path / "filtered", DEMOS, rule, {"filter": "verified"}, **short)
    assert "1 of 4 rows are not used: the verifier calls them wrong (demonstrations.filter)" in capsys.readouterr().out
    filtered.train()  # before the next one is built, which begins the random numbers anew
    plain = build(tmp_path / "plain", DEMOS[:3], rule, **short)
    plain.train()
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, filtered.model.state_dict()[name]), name


def test_weights_of_verdicts_are_factors_of_the_rows(tmp_path: Path) -> None:
    trainer = build(tmp_path, DEMOS, "fixed", {"wrong_weight": 0.25, "silent_weight": 0.5})
    assert trainer.imitation.weights == [1.0, 1.0, 1.0, 0.25]
    assert trainer.verdicts == {"right": 3, "wrong": 1}
    drawn = [part for _ in range(4) for parts in trainer.imitation.next({})[0].values() for part in parts]
    factors = [1.0 if part.weights is None else float(part.weights[i]) for part in drawn for i in range(len(part))]
    assert sorted(factors) == [0.25] * 3 + [1.0] * 9  # three times all four
    lengths = [int(row.sum()) for part in drawn for row in part.completion_mask]
    weighed = {length for length, factor in zip(lengths, factors, strict=True) if factor < 1.0}
    assert weighed == {len(trainer.imitation.rows[3].completion_ids)}
    none_right = build(tmp_path / "strict", DEMOS, "fixed", {"wrong_weight": 0.25, "right_above": 2.0})
    assert none_right.verdicts == {"wrong": 4}


@pytest.mark.parametrize(
    ("grading", "words"),
    [
        ({"filter": "right"}, "demonstration_settings.filter: "),
        ({"keep": 1}, "demonstration_settings.keep: unknown key; valid keys: filter, "),
        ({"filter": "verified", "right_above": 2.0}, "demonstration_settings.filter: verified keeps none; choose"),
    ],
)
def test_mistakes_are_one_line(grading: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        build(tmp_path, DEMOS, "fixed", grading)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


def test_a_reward_model_cannot_grade_and_a_rule_that_does_not_ask_is_named() -> None:
    trainer, imitation = SimpleNamespace(reward_funcs=[torch.nn.Linear(2, 2)]), SimpleNamespace(source=None)
    with pytest.raises(ConfigError, match=r"a Linear is no function .* balance='amft-scalar', one weight for all"):
        sort_into_classes(trainer, imitation, AMFT().requirements, read_settings({}))  # type: ignore[arg-type]
