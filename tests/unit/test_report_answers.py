"""Which test problems are shown before and after, and how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from amft.cli.train import _answers
from amft.report.answers import answer_pairs
from amft.report.load import load_run
from amft.report.page import write_report

RIGHT = {"base": [0, 0, 1, 1, 0, 0], "policy": [1, 1, 0, 1, 0, 1]}


def write_run(folder: Path, drop: str = "") -> Path:
    folder.mkdir()
    (folder / "config.json").write_text('{"model": "m"}')
    lines = []
    for model, found in RIGHT.items():
        for problem, right in enumerate(found):
            for sample in (0, 1):
                row: dict[str, Any] = {
                    "step": 0 if model == "base" else 9,
                    "model": model,
                    "split": "eval",
                    "key": str(problem),
                    "problem": problem,
                    "sample": sample,
                    "prompt": f"question {problem}",
                    "answer": f"{model} <b>{problem}</b>\x1b[2J sample {sample}",
                    "correct": float(right),
                    "reward": None if problem == 4 else float(right),
                    "outcome": None,
                }
                lines.append(json.dumps({name: value for name, value in row.items() if name != drop}))
    (folder / "scores.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_better_worse_and_unchanged_take_turns(tmp_path: Path) -> None:
    pairs = answer_pairs(load_run(write_run(tmp_path / "run")), 5)
    assert [pair.prompt[-1] for pair in pairs] == ["0", "2", "3", "1", "4"]
    assert [(pair.before_tone, pair.after_tone) for pair in pairs] == [
        ("poor", "good"), ("good", "poor"), ("good", "good"), ("poor", "good"), ("none", "none"),
    ]  # fmt: skip
    assert pairs[0].after == "policy <b>0</b>\x1b[2J sample 0"


def test_runs_without_answers_show_none(tmp_path: Path) -> None:
    assert answer_pairs(load_run(write_run(tmp_path / "run", drop="answer")), 5) == []


def test_the_page_and_the_terminal_show_them_and_are_not_steered(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    page = write_report(run).read_text(encoding="utf-8")
    assert "Answers before and after" in page
    assert "policy &lt;b&gt;0&lt;/b&gt;\\u001b[2J sample 0" in page
    shown = _answers(run)
    assert shown.startswith("question 0\n[before, wrong]")
    assert "[after, right]" in shown
    assert "\x1b" not in shown
    assert shown.count("question") == 3
