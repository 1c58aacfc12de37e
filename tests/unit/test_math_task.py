"""Published mathematics as a task: splits, verdicts, abstentions, and answers that try to do harm."""

import dataclasses
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amft.errors import TaskError
from amft.tasks.grading import Failure, GradingPool
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
        ("42", r"\boxed{43=42}", "wrong_form"),
        ("42", r"\boxed{x=42}", "correct"),
        ("42", r"\boxed{42\%}", "wrong_answer"),
        ("42\\%", r"\boxed{42}", "correct"),
        (r"\frac{1}{2}", r"\boxed{0.5000001}", "wrong_answer"),
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


def test_decimals_are_exact_but_where_the_set_says_otherwise(task: MathProblems) -> None:
    def outcome(split: str) -> str:
        asked = Problem("math-v1", split, "k", {**problem("1/3").params})
        return task.grade(asked, r"\boxed{0.3333333}").outcome

    assert [name for name, known in EVALUATION.items() if known.rounded] == ["minerva"]
    assert [outcome(split) for split in ("id", "amc", "minerva")] == ["wrong_answer", "wrong_answer", "correct"]


BOMBS = [
    "9^{9^{9}}", "((((9!)!)!)!)", "10^{10^{10}}", "2^{2^{2^{2^{2^{2}}}}}", "99999999!", "(10^{9})!", "10^{9}!!",
    r"\binom{10^9}{5\cdot 10^8}", r"\sqrt[10^9]{2^{10^{9}}}", r"\sum_{k=1}^{10^{9}} \frac{1}{k}",
    r"\prod_{k=1}^{10^7} k", r"\int_0^1 x^{x^{x^{x}}} dx", "(x+1)^{100000}", "(x+y+z)^{400}",
    r"\lim_{x \to 0} \frac{\sin(\tan(x)) - \tan(\sin(x))}{\arcsin(\arctan(x)) - \arctan(\arcsin(x))}",
    "((((((9^9)^9)^9)^9)^9)^9)^9", r"\sin(10^{10^{10}})", "e^{e^{e^{e^{e}}}}", "2^{-10^{10}}+5",
    r"\cos(\cos(" * 20 + "x" + "))" * 20, "(1+x)^{-10^6}(1-x)^{10^6}", "123456789^{123456789}",
    r"\lfloor 10^{10^{9}} \rfloor", "5^{0^{9^{9^9}}}", r"\gcd(10^{10^9},5)", r"|10^{10^{10}}|", "i^{i^{i^{9^{9^9}}}}",
]  # fmt: skip


def test_bombs_are_abstentions_within_the_timeout_and_a_second(task: MathProblems) -> None:
    for bomb in BOMBS[:2]:
        task.grade(problem("5"), r"\boxed{5+0}")  # a process is up
        start = time.monotonic()
        grade = task.grade(problem("5"), f"\\boxed{{{bomb}}}")
        assert grade.outcome == "grader_timeout"
        assert time.monotonic() - start < task.timeout + 1
    assert task.grade(problem("5"), r"\boxed{5+0}").correct


def test_abstentions_beyond_the_bound_are_not_paid(task: MathProblems, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Failure("grader_timeout", "too slow")

    def judged(_pool: object, _judge: str, calls: list[Any]) -> list[Any]:
        return [lost if "x" in values[0][1] else "wrong_answer" for (values,) in calls]

    monkeypatch.setattr(GradingPool, "run", judged)
    one, other = problem("5"), problem("5")
    boxes = [r"\boxed{x}", r"\boxed{x^2}", r"\boxed{4+2}", r"\boxed{5}"]

    def outcomes(most: int) -> list[str]:
        bounded = dataclasses.replace(task, max_abstained=most)
        grades = bounded.grade_many([one] * 4 + [other] * 4, boxes * 2)
        assert all(grade.reward == 0 for grade in grades if grade.outcome == "unjudged")
        return [grade.outcome for grade in grades]

    assert outcomes(1) == ["grader_timeout", "unjudged", "wrong_answer", "correct"] * 2
    assert outcomes(2) == ["grader_timeout", "grader_timeout", "wrong_answer", "correct"] * 2
    assert outcomes(0) == ["unjudged", "unjudged", "wrong_answer", "correct"] * 2


def test_a_right_answer_that_cannot_be_read_is_always_an_abstention(task: MathProblems) -> None:
    grades = task.grade_many([problem("-1./3")] * 3, [r"\boxed{2}"] * 3)
    assert [grade.outcome for grade in grades] == ["grader_crash"] * 3


@pytest.mark.slow
def test_27_bombs_of_one_group_cost_the_group_one_abstention(task: MathProblems) -> None:
    assert len(set(BOMBS)) == 27
    quick = dataclasses.replace(task, timeout=1.0)
    try:
        grades = quick.grade_many(
            [asked := problem("5")] + [asked] * 27, [r"\boxed{5+0}"] + [f"\\boxed{{{b}}}" for b in BOMBS]
        )
    finally:
        module._pool(quick._limits).close()
    right, *bombs = (grade.outcome for grade in grades)
    assert (right, bombs.count("grader_timeout")) == ("correct", 1)
    # A fast machine may finish one or two of them within a second; then they are plainly wrong.
    assert bombs.count("unjudged") + bombs.count("wrong_answer") == 26
    assert bombs.count("unjudged") >= 22
    assert not any(grade.correct or grade.reward > 0 for grade in grades[1:])


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
        ({"path": "hub", "max_abstained": -1}, "max_abstained: give a whole number from 0"),
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
