"""Published mathematics as a task: splits, verdicts, abstentions, and answers that try to do harm."""

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amft.errors import TaskError
from amft.tasks.math import MathProblems
from amft.tasks.math import task as module
from amft.tasks.math.sets import EVALUATION
from amft.types import ABSTENTIONS, Problem


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def plain(question: str, answer: str) -> dict[str, str]:
    return {"prompt": question, "answer": answer, "demonstration": f"So it is \\boxed{{{answer}}}."}


def problem(answer: str, letters: str = "") -> Problem:
    params = {"messages": [], "answer": answer, "letters": letters, "demonstration": None}
    return Problem("math-v1", "id", "k", params)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MathProblems]:
    folder = tmp_path_factory.mktemp("math")
    rows = [plain(f"What is {i}+{i}?", str(2 * i)) for i in range(300)]
    tests = [{"problem": f"What is {i}+{i}?", "answer": 2 * i} for i in (7, 8)]
    choice = [{"question": "Which is a prime?", "options": ["4", "7", "9"], "answer": "B"}]
    task = MathProblems(
        path=write(folder / "train.jsonl", rows),
        dataset="plain",
        tests={"amc": write(folder / "amc.jsonl", tests), "mmlu_pro": write(folder / "mmlu.jsonl", choice)},
        workers=2,
        timeout=2.0,
        memory_mb=1024,
    )
    yield task
    module._pool(task._limits).close()


def test_splits_are_disjoint_and_leave_out_what_is_tested(task: MathProblems) -> None:
    keys = {split: {p.key for p in task.problems(split)} for split in task.splits}
    assert list(task.splits) == ["train", "meta", "val", "id", "amc", "mmlu_pro"]
    assert task.test_splits == ("id", "amc", "mmlu_pro")
    assert sum(map(len, keys.values())) == len(set().union(*keys.values())) == 301  # 300 + 3, two of them in both
    assert len(keys["train"]) > 240
    assert keys["amc"].isdisjoint(keys["train"] | keys["meta"] | keys["val"] | keys["id"])
    assert [loaded.counts()["used"] for loaded in task.loaded()] == [300, 2, 1]


def test_problems_are_drawn_evenly_by_seed(task: MathProblems) -> None:
    assert task.problems("train", seed=3, n=50) == task.problems("train", seed=3, n=50)
    assert task.problems("train", seed=3, n=50) != task.problems("train", seed=4, n=50)
    twice = [p.key for p in task.problems("id", n=2 * len(task.problems("id")))]
    assert {twice.count(key) for key in twice} == {2}


def test_the_expert_is_right_everywhere(task: MathProblems) -> None:
    for split in task.splits:
        problems = task.problems(split)
        grades = task.grade_many(problems, [task.demonstrate(p) for p in problems])
        assert {grade.outcome for grade in grades} == {"correct"}
        assert all(json.loads(json.dumps(dict(p.params))) == p.params for p in problems)
        assert all(task.prompt(p)[-1]["role"] == "user" for p in problems)


@pytest.mark.parametrize(
    ("gold", "answer", "outcome"),
    [
        ("2", r"\boxed{2}", "correct"),
        ("2", r"\boxed{4/2}", "correct"),
        (r"\frac{1}{2}", r"I say \boxed{0.5}.", "correct"),
        (r"\frac{1}{2}", r"\boxed{\dfrac{2}{4}}", "correct"),
        ("x^2+2x+1", r"\boxed{(x+1)^2}", "correct"),
        (r"\left(3, \frac{\pi}{2}\right)", r"\boxed{(3, \pi/2)}", "correct"),
        ("142.0", r"\boxed{142}", "correct"),
        ("2", r"\boxed{3}", "wrong_answer"),
        ("2", r"\boxed{5/2}", "wrong_answer"),
        ("73", r"\boxed{073}", "correct"),
        ("2", r"\boxed{2} no, \boxed{3}", "wrong_answer"),
        ("2", r"\boxed{\frac{{{}", "no_answer"),
        ("2", r"\boxed{\frac{1}}", "unreadable"),
        ("2", "it is 2", "no_answer"),
        ("2", "", "no_answer"),
        ("2", r"\boxed{" + "1+" * 300 + "1}", "too_long"),
        ("-1./3", r"\boxed{2}", "grader_crash"),  # math-verify cannot read this right answer (Minerva has it)
        ("-1./3", r"\boxed{-1./3}", "correct"),
    ],
)
def test_verdicts(task: MathProblems, gold: str, answer: str, outcome: str) -> None:
    grade = task.grade(problem(gold), answer)
    assert grade.outcome == outcome
    assert grade.correct == (outcome == "correct")
    if outcome not in ABSTENTIONS:
        assert grade.reward == float(outcome == "correct")


def test_letters(task: MathProblems) -> None:
    answers = [r"\boxed{B}", "Answer: B", r"\boxed{A}", r"\boxed{7}", ""]
    grades = task.grade_many([problem("B", "ABC")] * 5, answers)
    assert [g.outcome for g in grades] == ["correct", "correct", "wrong_answer", "no_answer", "no_answer"]


BOMBS = ["9^{9^{9}}", "((((9!)!)!)!)"]


def test_bombs_are_abstentions_within_the_timeout_and_a_second(task: MathProblems) -> None:
    for bomb in BOMBS:
        task.grade(problem("5"), r"\boxed{5+0}")  # a process is up
        start = time.monotonic()
        grade = task.grade(problem("5"), f"\\boxed{{{bomb}}}")
        assert grade.outcome == "grader_timeout"
        assert time.monotonic() - start < task.timeout + 1
    assert task.grade(problem("5"), r"\boxed{5+0}").correct


PIECES = [
    "\\boxed{", "}", "{" * 50, "\\frac{1}{", "\\write18{touch /tmp/amft-hostile}", "\\input{/etc/passwd}", "\\text{",
    "$", "__import__('os').system('touch /tmp/amft-hostile')", "\x00", "\ud800", "٣", "\\sqrt{", "^", "_", "1e999", "=",
    "\\begin{pmatrix}", "&", "\\\\", "9" * 300, "\\int", "lambda:0", "%s%n", "\n", "\\left(", "[", "x", "-", "/0",
]  # fmt: skip


def test_a_thousand_adversarial_answers_do_nothing(task: MathProblems) -> None:
    rng = random.Random(0)
    trail = Path("/tmp/amft-hostile")
    trail.unlink(missing_ok=True)
    answers = []
    for _ in range(1000):
        body = "".join(rng.choices(PIECES, k=rng.randint(1, 8)))
        answers.append(f"\\boxed{{{body}}}" if rng.random() < 0.7 else body)
    answers[::100] = ["\\boxed{" * 140_000, "{" * 1_000_000, "\\boxed{" + "9" * 1_000_000 + "}"] * 3 + [""]
    start = time.monotonic()
    grades = task.grade_many([problem("5")] * 1000, answers)
    seconds = time.monotonic() - start
    assert not any(grade.correct for grade in grades)
    assert not trail.exists()
    lost = sum(grade.outcome in ABSTENTIONS for grade in grades)
    assert lost < 100
    assert seconds < 60 + lost * (task.timeout + 3)
    good = task.grade_many([problem("5")] * 20, [r"\boxed{2+3}", r"\boxed{2+4}"] * 10)
    assert [g.outcome for g in good] == ["correct", "wrong_answer"] * 10


def test_bad_rows_stop_the_task_unless_they_are_allowed(tmp_path: Path) -> None:
    rows = [plain(f"What is {i}+{i}?", str(2 * i)) for i in range(60)]
    rows[4]["demonstration"] = "eight"
    rows[9]["answer"] = ""
    path = write(tmp_path / "train.jsonl", rows)
    with pytest.raises(TaskError) as caught:
        MathProblems(path=path, dataset="plain").problems("train")
    assert str(caught.value) == (
        f"{path} row 5: demonstration: has no final answer in \\boxed{{}} (2 rows of plain cannot be used; "
        "mend them, or set task.max_bad_rows: 2)"
    )
    allowed = MathProblems(path=path, dataset="plain", max_bad_rows=2)
    assert len(allowed.problems("train")) > 40
    assert [str(bad).split(" row ")[1] for bad in allowed.loaded()[0].bad] == [
        "5: demonstration: has no final answer in \\boxed{}",
        "10: answer: is empty",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "path: give the training set's file, or evaluation sets in tests"),
        ({"path": "nowhere.jsonl"}, "path: no file nowhere.jsonl"),
        ({"path": "hub", "dataset": "mine"}, "dataset: 'mine' is not one of openr1_math, openr1_math_220k, plain"),
        ({"tests": {"aime": "x"}}, "tests: 'aime' is not one of aime24, amc"),
        ({"tests": {"amc": "x.jsonl"}}, "tests.amc: no file x.jsonl"),
        ({"tests": ["amc"]}, "tests: give a mapping"),
        ({"path": "hub", "max_bad_rows": -1}, "max_bad_rows: give a whole number"),
        ({"path": "hub", "workers": 0}, "workers: 0 is not a number from 1"),
        ({"path": "hub", "timeout": "1s"}, "timeout: '1s' is not a number"),
    ],
)
def test_options_are_checked(options: dict[str, Any], said: str) -> None:
    with pytest.raises(TaskError, match=rf"^task\.{said}"):
        MathProblems(**options)


def test_a_split_without_a_file_does_not_exist(task: MathProblems, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="split 'aime24' is not one of train, meta, val, id, amc, mmlu_pro"):
        task.problems("aime24")
    small = MathProblems(path=write(tmp_path / "one.jsonl", [plain("What is 1+1?", "2")]), dataset="plain")
    with pytest.raises(TaskError, match="no usable row falls into split .*give more rows"):
        [small.problems(split) for split in ("train", "val")]


def test_the_table_of_splits_names_every_evaluation_set() -> None:
    assert list(MathProblems.splits) == ["train", "meta", "val", "id", *EVALUATION]
