"""The weights of classes of demonstrations, where a run has several imitation branches: their curves, and a check."""

from __future__ import annotations

import numpy as np

from .finding import Remark
from .load import Floats, Ints, Run
from .plot_style import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, Curve, Panel
from .text import visible

PREFIX = "mix/weight/sft/"
LITTLE, MUCH, LASTING = 0.1, 0.5, 5
"""A class of at most LITTLE weight is next to left out, one of MUCH is imitated; for at least LASTING steps."""
_LOOKS = [(colour, dash) for dash in ("-", "--", ":") for colour in (GREEN, ORANGE, BLUE, PURPLE, INK, MUTED)]


def class_weights(run: Run) -> dict[str, tuple[Ints, Floats]]:
    """Class of demonstrations -> steps, and its weight at them."""
    return _by_class(run, PREFIX)


def class_panel(run: Run) -> list[Panel]:
    """One curve for each class; nothing for a run of one imitation branch."""
    curves = class_curves(run, "mix/weight", smooth=False)
    return [Panel(curves, limits=(-0.03, 1.03))] if curves else []


def class_curves(run: Run, metric: str, what: str = "", *, smooth: bool = True) -> list[Curve]:
    """`metric/sft/CLASS` over the steps, a curve for each class, in the same colour wherever the class is drawn.

    Args:
        run: its metrics.
        metric: without the class.
        what: stands before the class in the legend.
        smooth: draw a running mean over what was measured.
    """
    looks = dict(zip(class_weights(run), _LOOKS))
    return [
        Curve(
            *found,
            label=f"{what}{visible(name.replace('/', ', '))[:24]}",
            colour=looks[name][0],
            dash=looks[name][1],
            smooth=smooth,
        )
        for name, found in _by_class(run, f"{metric}/sft/").items()
        if name in looks
    ]


def _by_class(run: Run, prefix: str) -> dict[str, tuple[Ints, Floats]]:
    return {name.removeprefix(prefix): run.measured(name) for name in sorted(run.metrics) if name.startswith(prefix)}


def classes(run: Run) -> Remark | None:
    """Whether the rule has turned against a class of demonstrations, or for one that the verifier calls wrong."""
    said = [sentence for name, found in class_weights(run).items() if (sentence := _turned(run, name, *found))]
    if not said:
        return None
    against = any("hurts" in sentence for sentence in said)
    title = "A class of demonstrations hurts" if against else "Demonstrations graded wrong help"
    hint = (
        "Read some of its demonstrations; if they are wrong, leave them out."
        if against
        else "Read some of them; the verifier may be too strict."
    )
    return Remark("note", title, "; ".join(said) + ".", hint=hint)


def _turned(run: Run, name: str, steps: Ints, weights: Floats) -> str:
    verdict, _, source = name.partition("/")
    who = {"right": "graded right", "wrong": "graded wrong"}.get(verdict, "that cannot be graded")
    subject = f"source {visible(source)[:40]} ({who})" if source else f"the class of demonstrations {who}"
    bound = run.balance.get(f"{verdict}_min")
    low = max(LITTLE, bound + 0.01) if isinstance(bound, (int, float)) else LITTLE
    if weights.size and weights[0] > low and (since := _since(steps, weights <= low)) is not None:
        return f"{subject} hurts: weight {weights[-1]:.2f} since step {since}"
    if weights.size and verdict == "wrong" and weights[0] < MUCH and (since := _since(steps, weights >= MUCH)):
        return f"{subject} helps: weight {weights[-1]:.2f} since step {since}"
    return ""


def _since(steps: Ints, holds: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> int | None:
    """The step from which on it holds to the end; None where that is not long."""
    broken = np.flatnonzero(~holds)
    first = int(broken[-1]) + 1 if broken.size else 0
    return int(steps[first]) if len(steps) - first >= LASTING else None
