"""The common look of the figures: matplotlib panels turned into inline SVG that follows the page's colours.

Colours are written as placeholders and replaced by CSS variables, so that one figure serves light and dark pages.
Figures are drawn at the width of a phone; the page scales them up a little on wider screens.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from .load import Floats, Ints

INK, MUTED, GRID, SHADE = "#010203", "#040506", "#070809", "#0a0b0c"
BLUE, ORANGE, GREEN, PURPLE = "#0d0e0f", "#101112", "#131415", "#161718"
_VARIABLES = {
    INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--line)", SHADE: "var(--shade)",
    BLUE: "var(--blue)", ORANGE: "var(--orange)", GREEN: "var(--green)", PURPLE: "var(--purple)",
}  # fmt: skip

_STYLE = {
    "svg.fonttype": "none", "font.family": ["DejaVu Sans"], "font.size": 11.5,
    "text.color": INK, "text.parse_math": False,
    "axes.edgecolor": GRID, "axes.labelcolor": MUTED, "axes.labelsize": 11, "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.grid.axis": "y",
    "grid.color": GRID, "grid.linewidth": 0.6, "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelsize": 11,
    "ytick.labelsize": 11, "xtick.major.size": 3, "ytick.major.size": 0,
    "legend.frameon": False, "legend.borderpad": 0.15, "legend.fontsize": 11,
    "legend.handlelength": 1.6, "legend.columnspacing": 1.2, "legend.borderaxespad": 0.1, "lines.linewidth": 1.7,
    "path.simplify_threshold": 0.3, "axes.axisbelow": True,
}  # fmt: skip
_MOST_POINTS = 400


@dataclass(frozen=True)
class Curve:
    """One line of a panel."""

    steps: Ints
    values: Floats
    label: str
    colour: str
    dash: str = "-"
    marker: str | None = None
    smooth: bool = False
    """Draw the measured values faintly and their running mean on top."""


@dataclass(frozen=True)
class Panel:
    """Curves that share one vertical axis; a figure stacks panels over one axis of steps."""

    curves: Sequence[Curve]
    levels: dict[str, tuple[float, str]] = field(default_factory=dict)
    """Horizontal reference lines: label -> (height, colour)."""
    limits: tuple[float | None, float | None] = (None, None)
    log: bool = False

    @property
    def empty(self) -> bool:
        """Whether nothing was measured."""
        return not any(len(curve.values) for curve in self.curves)


def step_figure(
    label: str, panels: Sequence[Panel], *, warmup: tuple[int, int] | None, last: int, height: float = 3.7
) -> str:
    """Panels over training steps as inline SVG, the warm-up shaded; empty when nothing was measured.

    Args:
        label: what a screen reader says.
        panels: drawn from top to bottom; empty ones are left out.
        warmup: first and last step of the warm-up.
        last: the last step.
        height: inches; the width is 5.
    """
    shown = [panel for panel in panels if not panel.empty]

    def paint(axes: Sequence[Axes]) -> None:
        for ax, panel in zip(axes, shown):
            if warmup is not None:
                ax.axvspan(warmup[0] - 0.5, warmup[1] + 0.5, color=SHADE, lw=0, zorder=0)
            _paint_panel(ax, panel)
            ax.set_xlim(0, max(last, 1))
            ax.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10]))
            ax.tick_params(labelbottom=ax is axes[len(shown) - 1])
        axes[len(shown) - 1].set_xlabel("step")

    return draw_figure(label, len(shown), paint, height=height, hover=[hover_texts(p) for p in shown]) if shown else ""


def hover_texts(panel: Panel, most: int = 60) -> dict[float, str]:
    """Step -> the values of all curves there, for at most `most` steps of a panel."""
    texts: dict[float, list[str]] = {}
    for curve in panel.curves:
        for step, value in zip(curve.steps.tolist(), curve.values.tolist(), strict=True):
            texts.setdefault(step, []).append(f"{curve.label} {value:.3g}")
    steps = sorted(texts)
    chosen = steps[:: max(1, -(-len(steps) // most))]
    return {step: f"step {step:g}: {', '.join(texts[step])}" for step in chosen}


def draw_figure(
    label: str,
    panels: int,
    paint: Callable[[Sequence[Axes]], None],
    *,
    height: float = 3.7,
    left: float = 0.135,
    legend_rows: int = 1,
    hover: Sequence[Mapping[float, str]] = (),
) -> str:
    """Inline SVG of `panels` stacked axes filled by `paint`; the same input gives the same text.

    Args:
        label: what a screen reader says.
        panels: how many axes.
        paint: draws on them.
        height: inches; the width is 5.
        left: share of the width kept for the labels of the vertical axis.
        legend_rows: lines kept for legends above each axes.
        hover: for each axes, horizontal place -> what is shown while the pointer is there.
    """
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": label}):
        figure = Figure(figsize=(5.0, height))
        edges = {"left": left, "right": 0.96, "top": 1 - (0.08 + 0.2 * legend_rows) / height, "bottom": 0.52 / height}
        axes = figure.subplots(panels, 1, squeeze=False, gridspec_kw={**edges, "hspace": 0.42})[:, 0]
        paint(list(axes))
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
        strips = "".join(_strips(ax, texts) for ax, texts in zip(axes, hover, strict=False))
    return _inline(buffer.getvalue(), label).replace("</svg>", f"{strips}</svg>")


def _strips(ax: Axes, texts: Mapping[float, str]) -> str:
    """Unseen columns over an axes, each with a title, from halfway to the place before to halfway to the next."""
    figure: Any = ax.figure
    scale, box = 72 / figure.dpi, ax.get_window_extent()
    top, tall = 72 * figure.get_size_inches()[1] - scale * box.y1, scale * box.height
    places = [scale * ax.transData.transform((x, ax.get_ylim()[0]))[0] for x in texts]
    edges = [scale * box.x0, *((a + b) / 2 for a, b in pairwise(places)), scale * box.x1]
    return "".join(
        f'<rect x="{a:.1f}" y="{top:.1f}" width="{max(b - a, 0):.1f}" height="{tall:.1f}" fill="none" '
        f'pointer-events="all"><title>{escape(text)}</title></rect>'
        for (a, b), text in zip(pairwise(edges), texts.values(), strict=True)
    )


def running_mean(values: Floats) -> Floats:
    """Centred mean over a twentieth of the series (at least five values), narrower at the ends."""
    half = max(2, len(values) // 40)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def thin(steps: Ints, values: Floats, most: int = _MOST_POINTS) -> tuple[Floats, Floats]:
    """At most `most` points: means over bins of neighbours."""
    if len(values) <= most:
        return steps.astype(np.float64), values
    starts = np.linspace(0, len(values), most, endpoint=False).astype(np.int64)
    sizes = np.diff(np.append(starts, len(values)))
    return np.add.reduceat(steps, starts) / sizes, np.add.reduceat(values, starts) / sizes


def _paint_panel(ax: Axes, panel: Panel) -> None:
    for curve in panel.curves:
        if len(curve.values):
            _paint_curve(ax, curve)
    for name, (height, colour) in panel.levels.items():
        ax.axhline(height, color=colour, lw=1.1, ls=(0, (4, 3)), label=name)
    if panel.log:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
        ax.yaxis.set_minor_formatter(NullFormatter())
    else:
        ax.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}".replace("-", "\N{MINUS SIGN}")))
    ax.set_ylim(*panel.limits)
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        ax.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=4, title=None)


def _paint_curve(ax: Axes, curve: Curve) -> None:
    look: dict[str, Any] = {"color": curve.colour, "ls": curve.dash}
    dots: dict[str, Any] = {
        "marker": curve.marker or ("o" if len(curve.values) == 1 else None),
        "ms": 4.5,
        "clip_on": curve.marker is None,
    }
    if curve.smooth and len(curve.values) > 5:
        ax.plot(*thin(curve.steps, curve.values), **look, lw=0.8, alpha=0.35)
        ax.plot(*thin(curve.steps, running_mean(curve.values)), **look, label=curve.label)
    else:
        ax.plot(*thin(curve.steps, curve.values), **look, **dots, label=curve.label)


def _inline(svg: str, label: str) -> str:
    """The `<svg>` element alone, scalable, named for screen readers, in the page's colours and without group ids."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r"<defs>\s*<style.*?</defs>", "", body, flags=re.S)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    box = re.search(r'viewBox="[^"]*"', body)
    assert box is not None
    name = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    body = re.sub(r"<svg[^>]*>", lambda _: f'<svg {box[0]} role="img" aria-label="{name}">', body, count=1)
    for placeholder, variable in _VARIABLES.items():
        body = body.replace(placeholder, variable)
    return body.strip()
