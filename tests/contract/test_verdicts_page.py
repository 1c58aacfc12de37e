"""docs/verdicts.md word by word: every example has the outcome that the page says."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from amft.tasks.general_points import verifier as cards
from amft.tasks.math import MathProblems
from amft.tasks.math import task as math_task
from amft.tasks.navigation import Navigation
from amft.tasks.word_problems.verifier import judge_number as judge_words
from amft.types import Problem

PAGE = Path(__file__).parents[2] / "docs" / "verdicts.md"
ROW = re.compile(r"^\| (?:`(?P<right>[^|]*)` \| )?`(?P<answer>[^|]*)` \| (?P<outcome>\w+) \|$")


def examples(heading: str) -> list[tuple[str | None, str, str]]:
    """Right answer, answer and outcome of every row under a heading."""
    section = re.split(r"^#+ ", PAGE.read_text(encoding="utf-8").partition(f"# {heading}\n")[2], maxsplit=1, flags=re.M)
    rows = [line for line in section[0].splitlines() if line.startswith("| `")]
    found = [ROW.match(row) for row in rows]
    assert rows
    assert all(found), rows[found.index(None)]
    return [match.group("right", "answer", "outcome") for match in found if match]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MathProblems]:
    path = tmp_path_factory.mktemp("math") / "train.jsonl"
    path.write_text('{"prompt": "What is 1+1?", "answer": "2", "demonstration": "\\\\boxed{2}"}\n')
    task = MathProblems(path=str(path), dataset="plain", timeout=20.0)
    yield task
    math_task._pool(task._limits).close()


def math(right: str | None, letters: str) -> Problem:
    return Problem("math-v1", "id", "k", {"messages": [], "answer": right, "letters": letters, "demonstration": None})


@pytest.mark.parametrize(("right", "answer", "outcome"), examples("GeneralPoints"))
def test_general_points(right: str | None, answer: str, outcome: str) -> None:
    assert right is None
    assert cards.judge_formula(answer, ["8", "3", "J", "10"], [8, 3, 10, 10], 24)[0] == outcome


@pytest.mark.parametrize(("right", "answer", "outcome"), examples("Navigation"))
def test_navigation(right: str | None, answer: str, outcome: str) -> None:
    assert right is None
    task = Navigation()
    drawn = task.problems("id", n=20)
    forward = next(p for p in drawn if task.grade(p, '{"action": "forward()"}').correct)
    assert task.grade(forward, answer).outcome == outcome


@pytest.mark.parametrize(("right", "answer", "outcome"), examples("Word problems"))
def test_word_problems(right: str | None, answer: str, outcome: str) -> None:
    assert right is None
    assert judge_words(answer, 12) == outcome


@pytest.mark.parametrize(("heading", "letters"), [("Mathematics", ""), ("Multiple choice", "ABCD")])
def test_mathematics(heading: str, letters: str, task: MathProblems) -> None:
    rows = examples(heading)
    grades = task.grade_many([math(right, letters) for right, _, _ in rows], [answer for _, answer, _ in rows])
    assert [(*row[:2], grade.outcome) for row, grade in zip(rows, grades, strict=True)] == rows


def test_the_page_has_a_section_for_every_task_and_a_row_for_every_outcome_that_is_no_abstention() -> None:
    text = PAGE.read_text(encoding="utf-8")
    told = {outcome for heading in ("GeneralPoints", "Mathematics") for _, _, outcome in examples(heading)}
    assert told >= {*cards.FORMULA_OUTCOME_REWARD} - {"wrong_cards"}
    assert {"wrong_form", "wrong_answer", "unreadable", "no_answer"} <= told
    assert all(f"`{word}`" in text for word in ("unjudged", "grader_timeout", "grader_crash", "wrong_cards"))
    assert "verdicts.md" in (PAGE.parent / "tasks.md").read_text(encoding="utf-8")
