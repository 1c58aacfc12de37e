import re

import matplotlib
import numpy as np
import pytest
from report_runs import metric_rows, score_rows, write_run

from amft.report.figures import before_after_figure, drawings
from amft.report.load import load_run
from amft.report.outcomes import split_outcomes
from amft.report.plot_style import BLUE, Curve, Panel, running_mean, step_figure, thin
from amft.report.text import shorten, visible


def drawn(path, **options):
    return {drawing.title: drawing.svg for drawing in drawings(load_run(write_run(path / "r", **options)))}


def test_running_mean_by_hand():
    # Half-width 2: at the ends the window is 3 values, then 4, then 5.
    assert running_mean(np.array([0.0, 3, 6, 9, 12, 0])).tolist() == [3.0, 4.5, 6.0, 6.0, 6.75, 7.0]
    assert running_mean(np.array([2.0])).tolist() == [2.0]


def test_thinning_keeps_means_and_short_series():
    steps, values = thin(np.arange(10), np.arange(10.0), most=5)
    assert steps.tolist() == values.tolist() == [0.5, 2.5, 4.5, 6.5, 8.5]
    steps, values = thin(np.arange(1001), np.ones(1001), most=400)
    assert (len(values), set(values)) == (400, {1.0})
    assert thin(np.arange(3), np.arange(3.0), most=5)[1].tolist() == [0, 1, 2]


def test_figures_follow_the_page_and_leave_matplotlib_alone(tmp_path):
    settings = dict(matplotlib.rcParams)
    svgs = drawn(tmp_path)
    assert dict(matplotlib.rcParams) == settings
    assert len(svgs) == 8
    for svg in svgs.values():
        assert svg.startswith('<svg viewBox="0 0 360 ')
        assert "var(--" in svg
        assert not re.search(r"#[0-9a-f]{6}\b(?!\")", svg.replace("url(#", "").replace('"#', ""))
        assert "<style" not in svg
        assert ' id="figure' not in svg


def test_warmup_is_shaded_only_where_there_was_one(tmp_path):
    rows = [{"step": step, "phase": "warmup" if step < 5 else "mix", "mix/mu": 0.5} for step in range(1, 20)]
    assert "var(--shade)" in drawn(tmp_path / "a", metrics=rows)["The balance μ"]
    rows = [{**row, "phase": "mix"} for row in rows]
    assert "var(--shade)" not in drawn(tmp_path / "b", metrics=rows)["The balance μ"]


def test_zero_gradient_norms_are_drawn_on_a_linear_axis(tmp_path):
    norms = [0.5, 0.0, 0.4, 0.0, 0.0]
    rows = [{"step": i + 1, "mix/grad_norm_rl": x, "mix/grad_norm_sft": 1.0} for i, x in enumerate(norms)]
    assert drawn(tmp_path / "a", metrics=rows)["Gradient norms"].count(">0<") == 2  # on both axes
    rows = [{**row, "mix/grad_norm_rl": 10.0**-i} for i, row in enumerate(rows)]
    assert ">0.001<" in drawn(tmp_path / "b", metrics=rows)["Gradient norms"]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_very_short_runs(tmp_path, steps):
    rows = [{name: row[name] for name in ("step", "phase", "sft/loss")} for row in metric_rows(steps)]
    assert [*drawn(tmp_path, metrics=rows)] == ["Losses"]


def test_long_runs_stay_small(tmp_path):
    steps = np.arange(20_000)
    noise = np.random.default_rng(0).normal(size=20_000)
    svg = step_figure("x", [Panel([Curve(steps, noise, "noise", BLUE, smooth=True)])], warmup=None, last=20_000)
    assert len(svg) < 60_000


def test_split_names_are_text_not_markup_or_mathematics(tmp_path):
    rows = [{**row, "split": "$x^{2}$<b>&"} for row in score_rows("id", 0.2, 0.4)]
    svg = before_after_figure(split_outcomes(load_run(write_run(tmp_path / "r", scores=rows))))
    assert ">$x^{2}$&lt;b&gt;&amp;</text>" in svg
    assert "<!--" not in svg
    assert "<b>" not in svg


def test_nothing_scored_draws_nothing():
    assert before_after_figure([]) == ""


def test_text_is_made_visible():
    assert visible("plain\nμ 数 ✓\t") == "plain\nμ 数 ✓\t"
    assert visible("a\u202eb\r\x7f\udfff") == r"a\u202eb\u000d\u007f\udfff"
    assert visible("\U000e0041") == r"\U000e0041"
    assert shorten("abcdef", 4) == "abcd … (2 more characters)"
    assert shorten("abcd", 4) == "abcd"


def test_the_curve_of_validation_begins_before_the_first_step(tmp_path):
    event = {"step": 0, "kind": "validation", "message": "success before the first step: 12.5%", "success": 0.125}
    assert "step 0: success: validation 0.125" in drawn(tmp_path / "a", events=[event])["Reward and success"]
    assert "step 0:" not in drawn(tmp_path / "b")["Reward and success"]
    assert load_run(write_run(tmp_path / "c", events=[event])).first_validation == 0.125
