"""Success of every rule in every regime of a study, seed by seed, as one picture for the documentation.

    python benchmarks/study_picture.py TABLE.json PICTURE.svg [--split id] [--rules amft fixed-0.7 ...]

TABLE.json is what `amft compare` writes, or the part of it that is committed. A dot is one seed, the stroke the mean,
the bar its 95 % interval.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from amft.report.picture import opaque, standalone
from amft.report.plot_style import BLUE, INK, MUTED, draw_figure


def picture(scores: Sequence[dict[str, Any]], split: str, rules: Sequence[str]) -> str:
    """The SVG. `scores`: of `table.json`."""
    shown = [row for row in scores if row["split"] == split and row["regime"] != "all regimes"]
    regimes = list(dict.fromkeys(row["regime"] for row in shown))
    rules = list(rules) or list(dict.fromkeys(row["rule"] for row in shown))
    top = 20 * min(5, 1 + int(5 * max(row["high"] for row in shown)))
    found = {(row["regime"], row["rule"]): row for row in shown}

    def paint(axes: Sequence[Axes]) -> None:
        for ax, regime in zip(axes, regimes, strict=True):
            there = [rule for rule in rules if (regime, rule) in found]
            for y, rule in enumerate(there):
                row = found[regime, rule]
                low, high = (100 * min(max(row[end], 0.0), 1.0) for end in ("low", "high"))
                seeds = [100 * value for value in row["by_seed"] if value is not None]
                ax.plot([low, high], [y, y], color=BLUE, lw=5, alpha=0.25, solid_capstyle="butt")
                ax.plot(seeds, [y] * len(seeds), "o", color=BLUE, ms=4, alpha=0.8, clip_on=False)
                ax.plot([100 * row["value"]] * 2, [y - 0.28, y + 0.28], color=INK, lw=2)
            ax.set_yticks(range(len(there)), there)
            ax.set_ylim(len(there) - 0.5, -0.5)
            ax.set_xlim(0, top)
            ax.grid(visible=True, axis="x")
            ax.xaxis.set_major_locator(MaxNLocator(5))
            ax.set_title(regime, loc="left", fontsize=11.5, color=MUTED)
        axes[-1].set_xlabel(f"success on {split}, percent")

    height = 0.75 + sum(0.5 + 0.27 * sum((regime, rule) in found for rule in rules) for regime in regimes)
    left = min(0.07 + 0.0195 * max(map(len, rules)), 0.45)
    title = "Success of every rule, seed by seed"
    return opaque(standalone(draw_figure(title, len(regimes), paint, height=height, left=left)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--split", default="id")
    parser.add_argument("--rules", nargs="*", default=[])
    asked = parser.parse_args()
    scores = json.loads(asked.table.read_text(encoding="utf-8"))["scores"]
    asked.picture.write_text(picture(scores, asked.split, asked.rules), encoding="utf-8")


if __name__ == "__main__":
    main()
