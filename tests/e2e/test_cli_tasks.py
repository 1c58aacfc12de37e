"""`amft tasks show` and `amft tasks check`."""

from __future__ import annotations

import re

import pytest

from amft.cli import main


def test_show_prints_prompt_expert_and_grade(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "show", "general_points", "--n", "2", "--split", "val", "--set", "target=20"]) == 0
    shown = capsys.readouterr().out
    assert len(re.findall(r"^general_points-v1  val  \d+ \d+ \d+ \d+$", shown, re.MULTILINE)) == 2
    assert shown.count("user: Make 20 from the cards") == shown.count("\ngrade: correct 5\n") == 2
    assert main(["tasks", "show", "general_points", "--n", "2", "--split", "val", "--set", "target=20"]) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["show", "general_point"], ["did you mean general_points-v1?"]),
        (["show", "general_points", "--split", "tset"], ["'tset'", "train, meta"]),
        (["show", "general_points", "--set", "targt=3"], ["task.targt", "did you mean target?"]),
        (["show", "general_points", "--set", "target"], ["--set target", "key=value"]),
        (["show", "general_points", "--n", "0"], ["--n"]),
        (["check", "general_points", "--problems", "0"], ["--problems"]),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(part in error for part in parts), error


def test_check_prints_one_row_per_split(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "check", "general_points", "--problems", "2", "--adversarial", "10"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["split", "problems", "keys", "digest"]
    assert "train" in lines[1]
