"""reasoning-gym as a task. Skipped where the package is not installed."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator

import pytest

from amft.errors import TaskError
from amft.tasks.reasoning_gym import ReasoningGym
from amft.tasks.reasoning_gym import task as module
from amft.tasks.reasoning_gym.task import tagged

LIMITS = {"size": 200, "workers": 1, "timeout": 20.0}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<answer>5</answer>", "5"),
        ("<answer>4</answer> no, <answer> 5 </answer>.", "5"),
        ("<answer>5", None),
        ("<answer>5</answer><answer>", None),
        ("5", None),
        ("<answer></answer>", ""),
        ("<answer>" * 100_000, None),
    ],
)
def test_tagged(text: str, answer: str | None) -> None:
    assert tagged(text) == answer


@pytest.fixture(scope="module")
def task() -> Iterator[ReasoningGym]:
    pytest.importorskip("pebble")
    if not importlib.util.find_spec("reasoning_gym"):
        pytest.skip("reasoning-gym is not installed")
    task = ReasoningGym(options={"max_terms": 3}, harder={"min_terms": 5, "max_terms": 6}, **LIMITS)
    yield task
    task._pool.close()


def test_splits_are_disjoint_and_harder_is_harder(task: ReasoningGym) -> None:
    keys = {split: {p.key for p in task.problems(split)} for split in task.splits}
    assert sum(map(len, keys.values())) == len(set().union(*keys.values()))
    assert len(keys["train"]) > 120
    terms = {split: [p.params["question"].count(" + ") + p.params["question"].count(" - ") + 1
                     for p in task.problems(split)] for split in ("train", "harder")}  # fmt: skip
    assert max(terms["train"]) <= 3
    assert min(terms["harder"]) >= 5
    assert task.test_splits == ("id", "harder")


def test_the_expert_is_right_and_others_are_not(task: ReasoningGym) -> None:
    problems = task.problems("id", n=8)
    assert all(grade.correct for grade in task.grade_many(problems, [task.demonstrate(p) for p in problems]))
    answers = ["<answer>nine</answer>", "", problems[2].params["answer"], "<answer>1e99</answer>"] * 2
    assert [g.outcome for g in task.grade_many(problems, answers)] == [
        "wrong_answer", "no_answer", "no_answer", "wrong_answer",
    ] * 2  # fmt: skip
    assert task.prompt(problems[0])[0]["content"].endswith("between <answer> and </answer>.")


def test_partial_marks_are_no_success(task: ReasoningGym, monkeypatch: pytest.MonkeyPatch) -> None:
    assert module._grade(0.01).outcome == "partial"
    assert not module._grade(0.99).correct
    assert module._grade(0.99).reward == 0.99


def test_the_library_stays_out_of_this_process(task: ReasoningGym) -> None:
    code = "import sys, amft.tasks.registry; assert not {'sympy', 'pebble', 'reasoning_gym'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_dataset_that_is_not_there(task: ReasoningGym) -> None:
    with pytest.raises(TaskError, match=r"task\.dataset: 'nope' is not one of reasoning-gym's \(ab, acre"):
        ReasoningGym(dataset="nope", **LIMITS).problems("id")
    with pytest.raises(TaskError, match=r"cannot make chain_sum with {\"nope\": 1} \(the grader raised TypeError\)"):
        ReasoningGym(options={"nope": 1}, **LIMITS).problems("id")
    with pytest.raises(TaskError, match=r"task\.size: give a whole number"):
        ReasoningGym(size=5)
    with pytest.raises(TaskError, match="split 'harder' is not one of train, meta, val, id"):
        ReasoningGym(**LIMITS).problems("harder")
