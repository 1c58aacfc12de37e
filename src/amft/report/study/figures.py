"""The figures of a study, each with the numbers it was drawn from."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ...stats import performance_profile
from ..plot_style import BLUE, GREEN, GRID, INK, MUTED, ORANGE, PURPLE, draw_figure
from .against import everyone
from .load import Study, StudyRun


@dataclass(frozen=True)
class StudyFigure:
    """A figure for the page."""

    anchor: str
    title: str
    caption: str
    svg: str
    data: str
    """CSV, a header first."""


def figures(study: Study, summary: Mapping[str, Any]) -> list[StudyFigure]:
    """Every figure for which something was measured, in reading order."""
    made = [*_regret(study, summary), *_profiles(study), *_scatter(study)]
    for regime in study.regimes:
        made += [*_learning(study, summary, regime), *_paths(study, summary, regime)]
    return made


def _regret(study: Study, summary: Mapping[str, Any]) -> Iterator[StudyFigure]:
    rows = summary["regret"].get("rules") or []
    if not rows:
        return
    rows = sorted(rows, key=lambda row: row["mean"]["value"])

    def paint(axes: Sequence[Axes]) -> None:
        for y, row in enumerate(rows):
            for shift, kind, colour in ((-0.14, "mean", BLUE), (0.14, "worst", ORANGE)):
                label = {"mean": "mean over regimes", "worst": "worst regime"}[kind] if y == 0 else None
                _bar(axes[0], y + shift, row[kind], colour, label)
        _names(axes[0], study, [row["rule"] for row in rows])
        axes[0].axvline(0, color=MUTED, lw=0.8)
        axes[0].set_xlabel("crossed regret, points of success")

    left = 0.06 + 0.0185 * max(len(row["rule"]) for row in rows)
    svg = draw_figure("Crossed regret of every rule", 1, paint, height=0.9 + 0.3 * len(rows), left=min(left, 0.45))
    ends = [(kind, end) for kind in ("mean", "worst") for end in ("value", "low", "high")]
    data = [[row["rule"], *(row[kind][end] for kind, end in ends), row["worst_regime"], row["seeds"]] for row in rows]
    head = ["rule", "mean", "mean_low", "mean_high", "worst", "worst_low", "worst_high", "worst_regime", "seeds"]
    caption = (
        "Left is good. Bars are 95 % intervals over seeds and problems; the constant is chosen anew in every draw."
    )
    yield StudyFigure("regret", "Crossed regret", caption, svg, _csv(head, data))


def _profiles(study: Study) -> Iterator[StudyFigure]:
    if not study.splits:
        return
    split, levels = study.splits[0], np.linspace(0, 1, 101)
    scores = {
        rule: [run.success(split) for r in study.regimes for run in study.of(r, rule)] for rule in everyone(study)
    }
    shown = {rule: performance_profile(found, levels) for rule, found in scores.items() if found}
    if not shown:
        return

    def paint(axes: Sequence[Axes]) -> None:
        for rule, profile in shown.items():
            axes[0].step(100 * levels, profile, where="post", **_look(study, rule, None))
        axes[0].set(xlabel=f"success on {split}, %", ylim=(-0.03, 1.03))
        axes[0].set_xlim(0, min(100, 5 + 100 * max(max(found) for found in scores.values() if found)))
        _legend(axes[0])

    data = [
        [rule, level, share] for rule, profile in shown.items() for level, share in zip(levels, profile, strict=True)
    ]
    caption = "Share of runs, over all regimes and seeds, that score more than the value below. Higher is good."
    yield StudyFigure(
        "profiles", "Performance profiles", caption, draw_figure("Performance profiles", 1, paint, legend_rows=2),
        _csv(["rule", "success", "share_above"], data),
    )  # fmt: skip


def _scatter(study: Study) -> Iterator[StudyFigure]:
    ood = study.spec["metrics"]["ood"]
    if ood not in study.splits or ood == study.splits[0]:
        return
    points = [
        (
            regime,
            rule,
            float(np.mean([r.success(study.splits[0]) for r in runs])),
            float(np.mean([r.success(ood) for r in runs])),
        )
        for regime in study.regimes
        for rule in everyone(study)
        if (runs := study.of(regime, rule))
    ]
    if not points:
        return

    def paint(axes: Sequence[Axes]) -> None:
        told = set()
        for _, rule, x, y in points:
            look = _look(study, rule, None)
            label = look["label"] if look["label"] not in told else None
            told.add(look["label"])
            axes[0].plot([100 * x], [100 * y], "o", color=look["color"], ms=6, alpha=look["alpha"], label=label)
        top = 100 * max(max(x, y) for _, _, x, y in points) + 3
        axes[0].plot([0, top], [0, top], color=MUTED, lw=0.8, ls=(0, (4, 3)))
        axes[0].set(xlabel=f"success on {study.splits[0]}, %", xlim=(-1, top), ylim=(-1, top))
        _legend(axes[0])

    caption = (
        f"Up: success on {ood}, %. One point per rule and regime, mean over seeds; on the dashed line both are equal."
    )
    svg = draw_figure("Success in and out of distribution", 1, paint, legend_rows=2)
    data = _csv(["regime", "rule", study.splits[0], ood], points)
    yield StudyFigure("ood", "In and out of distribution", caption, svg, data)


def _learning(study: Study, summary: Mapping[str, Any], regime: str) -> Iterator[StudyFigure]:
    curves = {
        rule: _mean_curve([run for run in study.of(regime, rule) if len(run.validation)]) for rule in everyone(study)
    }
    shown = {rule: curve for rule, curve in curves.items() if curve is not None}
    if not shown:
        return
    best = (summary["regret"].get("best") or {}).get(regime)

    def paint(axes: Sequence[Axes]) -> None:
        for rule in sorted(shown, key=lambda rule: rule in _marked(study, best)):
            axes[0].plot(shown[rule][0], 100 * shown[rule][1], **_look(study, rule, best))
        _steps(axes[0])
        axes[0].set_ylim(0, None)
        _legend(axes[0])

    data = [[rule, *row] for rule, (steps, values) in shown.items() for row in zip(steps, values, strict=True)]
    yield StudyFigure(
        f"learning-{regime}", f"{regime}: learning curves", "Validation success, %, mean over seeds.",
        draw_figure(f"Learning curves, {regime}", 1, paint, legend_rows=2), _csv(["rule", "step", "validation"], data),
    )  # fmt: skip


def _paths(study: Study, summary: Mapping[str, Any], regime: str) -> Iterator[StudyFigure]:
    """mu of the subject, seed by seed, over lines of fixed mu whose strength is their score."""
    runs = [run for run in study.of(regime, study.spec["subject"]) if len(run.mu)]
    split = study.splits[0] if study.splits else None
    scores = {r["rule"]: r["value"] for r in summary["scores"] if r["regime"] == regime and r["split"] == split}
    grid = {mu: scores[rule] for rule, mu in study.grid.items() if scores.get(rule) is not None}
    if not runs:
        return
    top = max(grid.values(), default=0) or 1

    def paint(axes: Sequence[Axes]) -> None:
        for mu, score in grid.items():
            axes[0].axhline(mu, color=GREEN, lw=1 + 7 * score / top, alpha=0.35, solid_capstyle="butt")
            place: dict[str, Any] = {
                "xycoords": ("axes fraction", "data"),
                "textcoords": "offset points",
                "annotation_clip": False,
            }
            axes[0].annotate(f"{100 * score:.0f} %", (1, mu), (3, 0), va="center", color=INK, fontsize=9, **place)
        for i, run in enumerate(runs):
            label = f"{study.spec['subject']}, each seed" if i == 0 else None
            axes[0].plot(run.mu_steps, run.mu, color=BLUE, lw=1.1, label=label)
        _steps(axes[0])
        axes[0].set_ylim(-0.04, 1.04)
        axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)

    data = [[run.seed, step, mu] for run in runs for step, mu in zip(run.mu_steps, run.mu, strict=True)]
    data += [[f"fixed score {mu:g}", "", score] for mu, score in grid.items()]
    caption = "Blue: μ, the weight of imitation, over the steps of each seed, warm-up first."
    if grid:
        caption += f" Green: each constant weight, drawn the thicker the higher its success on {split}."
    title = f"{regime}: path of μ{' over the grid' if grid else ''}"
    yield StudyFigure(
        f"mu-{regime}", title, caption, draw_figure(f"Path of mu, {regime}", 1, paint),
        _csv(["seed", "step", "mu"], data),
    )  # fmt: skip


def _mean_curve(runs: Sequence[StudyRun]) -> tuple[Any, Any] | None:
    """Mean over runs at the steps that all of them have."""
    if not runs:
        return None
    steps = [step for step in runs[0].steps if all(step in run.steps for run in runs)]
    values = [[float(run.validation[list(run.steps).index(step)]) for step in steps] for run in runs]
    return (np.array(steps), np.mean(values, axis=0)) if steps else None


def _marked(study: Study, best: str | None) -> dict[str, str]:
    """The few rules that get a colour of their own, the subject last so that it lies on top."""
    found = {best: GREEN, "fixed-tuned": PURPLE, study.spec["baseline"]: ORANGE, study.spec["subject"]: BLUE}
    return {rule: colour for rule, colour in found.items() if rule is not None}


def _look(study: Study, rule: str, best: str | None) -> dict[str, Any]:
    marked = _marked(study, best)
    if rule in marked:
        extra = " (best fixed)" if rule == best else ""
        return {"color": marked[rule], "lw": 2.0, "alpha": 1.0, "label": f"{rule}{extra}"}
    first = next((name for name in everyone(study) if name not in marked), None)
    return {"color": MUTED, "lw": 0.9, "alpha": 0.45, "label": "others" if rule == first else None}


def _bar(ax: Axes, y: float, found: Mapping[str, Any], colour: str, label: str | None) -> None:
    if found["low"] is not None:
        ax.plot([100 * found["low"], 100 * found["high"]], [y, y], color=colour, lw=2, solid_capstyle="butt")
    ax.plot([100 * found["value"]], [y], "o", color=colour, ms=5, label=label)


def _steps(ax: Axes) -> None:
    ax.set_xlabel("step")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10]))


def _legend(ax: Axes) -> None:
    """Above the axes, so that it lies on no line."""
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=9)


def _names(ax: Axes, study: Study, rules: Sequence[str]) -> None:
    ax.set_yticks(range(len(rules)), rules, color=INK)
    ax.set_ylim(len(rules) - 0.5, -0.5)
    ax.grid(axis="x", color=GRID, lw=0.6)
    ax.grid(visible=False, axis="y")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    for tick in ax.get_yticklabels():
        if tick.get_text() == study.spec["subject"]:
            tick.set_fontweight("bold")


def _csv(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in rows)
    return text.getvalue()
