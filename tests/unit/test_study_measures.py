"""What a task measures besides success, in the table of a study."""

import json

import numpy as np
import pytest
from study_dirs import write_all

from amft.errors import RunError
from amft.report.study.load import load_study
from amft.report.study.page import write_study_report
from amft.report.study.summary import summarize
from amft.report.study.table import lines

SMALL = {
    "regimes": {"all": {}}, "rules": {"sft": "sft", "rl": "rl"}, "grid": [], "tuned": {}, "seeds": [0, 1],
    "subject": "rl",
}  # fmt: skip
LEVELS = {("all", "sft"): 0.5, ("all", "rl"): 0.5}


def add_metrics(place, values):
    """`values`: model -> recognition of every even and every odd problem on `id`."""
    path = place / "scores.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        if row["split"] == "id":
            row["metrics"] = {"recognition": values[row["model"]][row["problem"] % 2]}
    # A run that was cut off while it answered has written a row twice: the last one counts.
    first = [{**row, "metrics": {"recognition": 99.0}} for row in rows if row["split"] == "id"][:1]
    text = "".join(json.dumps(row) + "\n" for row in [*first, *rows])
    path.write_text(text)


def test_means_over_answers_and_seeds_before_and_after(tmp_path):
    folder = write_all(tmp_path / "study", LEVELS, **SMALL)
    for seed, after in enumerate(((1.0, 0.0), (1.0, 1.0))):
        add_metrics(folder / f"runs/all/sft/seed-{seed}", {"base": (0.5, 0.0), "policy": after})
    study = load_study(folder)
    summary = summarize(study)
    assert summary["measured"] == [
        {
            "split": "id", "regime": "all", "rule": "sft", "name": "recognition",
            "base": 0.25, "value": (0.5 + 1.0) / 2, "seeds": 2,
        }
    ]  # fmt: skip
    text = "\n".join(lines(study, summary))
    assert "all     sft   id     recognition  0.250   0.750  2" in text


def test_a_study_of_tasks_that_measure_nothing_else_has_no_such_block(tmp_path):
    study = load_study(write_all(tmp_path / "study", LEVELS, **SMALL))
    summary = summarize(study)
    assert summary["measured"] == []
    assert "measured" not in "\n".join(lines(study, summary))


GRID = {"regimes": {"all": {}}, "rules": {"amft": "amft"}, "grid": [0, 1], "tuned": {}, "seeds": [0, 1, 2],
        "baseline": "fixed-0"}  # fmt: skip


def graded(folder, chances, **changes):
    """A study whose answers have a `probability` too: `chances` gives rule -> its value on each seed."""
    levels = {("all", rule): 0.5 for rule in chances}
    study = write_all(folder, levels, **{**GRID, **changes})
    for rule, values in chances.items():
        for seed, value in enumerate(values):
            path = study / f"runs/all/{rule}/seed-{seed}/scores.jsonl"
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            told = [{**row, "metrics": {"probability": value + 0.1 * (row["problem"] % 2 - 0.5)}} for row in rows]
            path.write_text("".join(json.dumps(row) + "\n" for row in told))
    return study


CHANCES = {"amft": (0.4, 0.5, 0.6), "fixed-0": (0.6, 0.2, 0.3), "fixed-1": (0.1, 0.5, 0.2)}


def test_regret_by_a_second_outcome_by_hand(tmp_path):
    folder = graded(tmp_path / "s", CHANCES, metrics={"splits": ["id"], "outcome": "probability"})
    study = load_study(folder)
    assert study.scores("all", "amft", "id", outcome="probability").by_run == pytest.approx(CHANCES["amft"])
    assert study.scores("all", "amft", "id").by_run != pytest.approx(CHANCES["amft"])
    # As in test_stats_selection: the constant chosen on the other seeds has .1, .2 and .3, so .2 less amft's .5.
    (row,) = (row for row in summarize(study)["regret_by_outcome"]["rules"] if row["rule"] == "amft")
    assert row["mean"]["value"] == pytest.approx(-0.3)
    page = write_study_report(folder).read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "<h3>Regret by probability</h3>" in page
    assert "\N{MINUS SIGN}30.0 <span" in page
    assert "mean regret by probability" in page


def test_a_study_that_names_no_outcome_or_one_nobody_measured_says_so(tmp_path):
    plain = write_study_report(graded(tmp_path / "s", CHANCES)).read_text(encoding="utf-8")
    assert "Regret by" not in plain
    other = graded(tmp_path / "t", CHANCES, metrics={"splits": ["id"], "outcome": "confidence"})
    assert "Not known: fewer than two runs" in write_study_report(other).read_text(encoding="utf-8")


def test_an_outcome_that_is_no_share_is_refused(tmp_path):
    wild = {rule: tuple(np.array(values) + 1) for rule, values in CHANCES.items()}
    folder = graded(tmp_path / "s", wild, metrics={"splits": ["id"], "outcome": "probability"})
    with pytest.raises(RunError, match=r"metrics.outcome: 'probability' must lie in \[0, 1\]"):
        summarize(load_study(folder))
