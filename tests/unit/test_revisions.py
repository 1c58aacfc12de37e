"""Demonstrations that revise a mistake: what is shown, what is imitated, and that a rollout has the same tokens."""

from __future__ import annotations

import json
from typing import Any

import pytest

from amft.balance.registry import build_method
from amft.batch import Batch
from amft.data.conversation import Transcript, UserTurns
from amft.errors import TaskError
from amft.experience.sources import Encoder
from amft.experience.task_sources import from_task
from amft.models.load import load_tokenizer
from amft.settings.config import AMFTConfig
from amft.tasks.base import Reviser, demonstration
from amft.tasks.check import check_task
from amft.tasks.general_points import GeneralPoints, GeneralPointsVL
from amft.types import Problem

TASK = GeneralPoints(cards=3, max_attempts=2, revisions=1.0, feedback_level="detailed")
CONFIG = {"max_steps": 2, "num_demos": 8, "num_prompts": 2, "max_completion_length": 96, "eval": {"test_splits": []}}


def test_a_mistake_is_right_in_everything_but_its_value() -> None:
    assert isinstance(TASK, Reviser)
    values = set()
    for problem in TASK.problems("train"):
        [wrong] = TASK.mistakes(problem)
        grade = TASK.grade(problem, wrong)
        assert grade.outcome == "wrong_value"
        assert grade.info["cards_right"]
        assert grade.info["numbers_right"]
        # Its last step and its formula agree: the arithmetic is right.
        answer = json.loads(wrong)
        assert answer["steps"][-1].split("=")[1] == answer["formula"].split("=")[1] == grade.info["value"]
        values.add(grade.info["value"])
    assert len(values) > 8


def test_the_conversation_ends_with_what_is_said_to_the_mistake() -> None:
    [problem] = TASK.problems("train", n=1)
    asked, answer = demonstration(TASK, problem)
    assert [message["role"] for message in asked] == ["user", "assistant", "user"]
    assert asked[:1] == TASK.prompt(problem)
    wrong = asked[1]["content"]
    assert asked[2]["content"] == TASK.feedback(problem, [wrong])
    assert answer == TASK.demonstrate(problem)
    assert TASK.grade_episode(problem, [wrong, answer]).correct


def test_the_share_is_kept_and_a_problem_is_always_shown_alike() -> None:
    task = GeneralPoints(cards=3, max_attempts=3, revisions=0.25)
    problems = task.problems("train", n=400)
    shown = [task.mistakes(problem) for problem in problems]
    # 400 draws of 0.25: a standard deviation is 0.0217.
    assert abs(sum(map(bool, shown)) / 400 - 0.25) < 4 * 0.0217
    assert shown == [task.mistakes(problem) for problem in problems]
    assert not any(GeneralPoints(max_attempts=3).mistakes(problem) for problem in problems[:50])


def test_only_the_right_answer_is_imitated_and_a_rollout_has_the_same_tokens() -> None:
    tokenizer = load_tokenizer("nano")
    config = AMFTConfig(**CONFIG, max_prompt_length=200)
    sources = from_task(TASK, Encoder(tokenizer, config, [tokenizer.eos_token_id], build_method({"rule": "sft"})))
    assert sources.demonstrations is not None
    encoded = sources.demonstrations.encoded
    assert (len(encoded.rows), encoded.left_out) == (16, [])
    for demo in encoded.rows:
        row = sources.demonstrations.rows[demo.row]
        problem: Problem = row["problem"]
        assert tokenizer.decode(demo.completion_ids[:-1]) == TASK.demonstrate(problem)
        first = tokenizer.apply_chat_template(TASK.prompt(problem), add_generation_prompt=True, tokenize=False)
        played = Transcript(tuple(tokenizer(first, add_special_tokens=False)["input_ids"]))
        wrong = row["prompt"][1]["content"]
        sampled = [*tokenizer(wrong, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        played.answer(sampled, wrong, finished=True)
        said = TASK.feedback(problem, [wrong])
        assert said is not None
        played.reply(UserTurns(tokenizer).reply(said, sampled[-1]), said)
        assert played.so_far == list(demo.prompt_ids)
    lengths = {demo.prompt_ids: len(demo.completion_ids) for demo in encoded.rows}
    batch = sources.demonstrations.next(4)["sft"]
    assert int(batch.completion_mask.sum()) == sum(lengths[ids] for ids in _prompts(batch))


def _prompts(batch: Batch) -> list[tuple[int, ...]]:
    width = batch.completion_mask.shape[1]
    heads, kept = batch.ids[:, :-width], batch.attention_mask[:, :-width].bool()
    return [tuple(ids[keep].tolist()) for ids, keep in zip(heads, kept, strict=True)]


def test_prompts_that_are_explored_hold_no_mistakes() -> None:
    tokenizer = load_tokenizer("nano")
    config = AMFTConfig(**CONFIG, max_prompt_length=200)
    sources = from_task(TASK, Encoder(tokenizer, config, [tokenizer.eos_token_id], build_method({"rule": "hpt"})))
    assert sources.prompts is not None
    assert all(len(row["prompt"]) == 1 for row in sources.prompts.rows)
    assert sources.prompts.answers is not None
    assert all(sources.prompts.answers)


@pytest.mark.parametrize("kind", [GeneralPoints, GeneralPointsVL])
def test_the_contract_holds(kind: Any) -> None:
    check_task(kind(max_attempts=2, revisions=0.5), problems=4, adversarial=5)


def test_a_mistake_that_is_none_breaks_the_contract() -> None:
    class Careless(GeneralPoints):
        def mistakes(self, problem: Problem) -> list[str]:
            return [self.demonstrate(problem)]

    with pytest.raises(TaskError, match="a mistake is graded as correct"):
        check_task(Careless(max_attempts=2), problems=1, adversarial=1)

    class Endless(GeneralPoints):
        def mistakes(self, problem: Problem) -> list[str]:
            return [self.spoil(problem)] * 2

    with pytest.raises(TaskError, match="more mistakes than tries"):
        check_task(Endless(max_attempts=2), problems=1, adversarial=1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"revisions": 0.5}, "task.revisions: with one try nothing is revised"),
        ({"revisions": 1.5, "max_attempts": 2}, "task.revisions: 1.5 is not a number from 0 to 1"),
        ({"revisions": True, "max_attempts": 2}, "task.revisions: True is not a number"),
    ],
)
def test_options_are_strict(options: dict[str, Any], words: str) -> None:
    with pytest.raises(TaskError) as caught:
        GeneralPoints(**options)
    assert str(caught.value).startswith(words)
