"""Runs with classes of demonstrations: what the doctor says of their weights, and their figure."""

from __future__ import annotations

import pytest
from report_runs import metric_rows, write_run

from amft.report.checks_balance import gradients, imitation_share
from amft.report.class_weights import class_curves, class_panel, class_weights
from amft.report.doctor import diagnose
from amft.report.figures import balance_and_success, drawings
from amft.report.load import load_run

BRANCHES = {"balance": {"rule": "amft"}}


def written(path, **weights):
    """A run of 200 steps whose classes have the weights that functions of the step give; 20 steps are warm-up."""
    rows = []
    for row in metric_rows():
        kept = {name: value for name, value in row.items() if not name.startswith("mix/")}
        step = row["step"]
        if row["phase"] == "mix":
            kept["mix/weight/rl"] = 0.5
            kept |= {f"mix/weight/sft/{name}": weight(step) for name, weight in weights.items()}
        rows.append(kept)
    return write_run(path / "r", metrics=rows, config_changes=BRANCHES)


def said(path, **weights):
    found = [finding for finding in diagnose(written(path, **weights)) if finding.topic == "classes of demonstrations"]
    return [(finding.level, finding.title, finding.evidence) for finding in found]


def falling(step):
    return 0.7 if step < 40 else 0.02


@pytest.mark.parametrize(
    ("weights", "title", "evidence"),
    [
        (
            {"silent/B": falling, "silent/A": lambda _: 0.7},
            "A class of demonstrations hurts",
            "source B (that cannot be graded) hurts: weight 0.02 since step 40.",
        ),
        (
            {"right": lambda step: 0.7 if step < 61 else 0.2},  # its lower bound
            "A class of demonstrations hurts",
            "the class of demonstrations graded right hurts: weight 0.20 since step 61.",
        ),
        (
            {"wrong/web": lambda step: 0.05 if step < 150 else 0.6},
            "Demonstrations graded wrong help",
            "source web (graded wrong) helps: weight 0.60 since step 150.",
        ),
    ],
)
def test_a_class_that_the_rule_turned_against_or_for(weights, title, evidence, tmp_path):
    assert said(tmp_path, **weights) == [("note", title, evidence)]


@pytest.mark.parametrize(
    "weights",
    [
        {"right": lambda _: 0.7, "wrong": lambda _: 0.05},  # as the verdicts have it
        {"silent/B": lambda step: 0.7 if step < 197 else 0.02},  # four steps are no trend
        {"silent/B": lambda step: 0.02 if 50 < step < 150 else 0.7},  # it came back
        {},
    ],
)
def test_weights_without_a_turn_are_no_finding(weights, tmp_path):
    assert said(tmp_path, **weights) == []


def test_every_class_is_a_curve(tmp_path):
    run = load_run(written(tmp_path, **{"right": lambda _: 0.7, "silent/B": falling}))
    assert list(class_weights(run)) == ["right", "silent/B"]
    (panel,) = class_panel(run)
    assert [curve.label for curve in panel.curves] == ["right", "silent, B"]
    titles = [drawing.title for drawing in drawings(run)]
    assert "Weights of the classes of demonstrations" in titles
    assert "The balance μ" not in titles
    assert "silent, B" in balance_and_success(run)


def with_gradients(path):
    """Right demonstrations pull with 0.6 x 2, wrong ones with 0.1 x 4 where they are, exploration with 0.5 x 0.8."""
    rows = []
    for row in metric_rows():
        if row["phase"] == "mix":
            row = {name: value for name, value in row.items() if not name.startswith("mix/")} | {
                "mix/weight/rl": 0.5, "mix/weight/sft/right": 0.6, "mix/weight/sft/wrong": 0.1, "mix/mu": 0.5,
                "mix/grad_norm/rl": 0.8, "mix/grad_norm/sft/right": 2.0, "mix/grad_cos/sft/right": -0.4,
            }  # fmt: skip
            if row["step"] % 2:
                row["mix/grad_norm/sft/wrong"] = 4.0
        rows.append(row)
    return load_run(write_run(path / "g", metrics=rows, config_changes=BRANCHES))


def test_the_share_of_imitation_adds_up_the_classes(tmp_path):
    shares = imitation_share(with_gradients(tmp_path))
    assert {round(share, 6) for share in shares} == {round(1.2 / 1.6, 6), 0.8}


def test_opposed_gradients_of_a_class_that_counts_are_seen(tmp_path):
    found = gradients(with_gradients(tmp_path))
    assert found is not None
    assert "-0.40" in found.evidence


def test_the_legend_says_what_is_drawn_of_a_class(tmp_path):
    curves = class_curves(with_gradients(tmp_path), "mix/grad_norm", "norm: ")
    assert [curve.label for curve in curves] == ["norm: right", "norm: wrong"]
