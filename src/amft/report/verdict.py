"""The outcome of a run in plain words that claim no more than the intervals allow."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..stats import Interval
from .load import Run
from .outcomes import SELECTION, SplitOutcome

MINUS = "\N{MINUS SIGN}"
CAVEAT = (
    "The intervals cover the choice of problems, not the luck of training: this is one run with one seed. "
    "They are not corrected for looking at several splits."
)


def level(value: float, share: bool = True) -> str:
    """`0.123` as `12.3 %`, or as `0.123` when it is a score and not a share."""
    if math.isnan(value):
        return "–"
    return f"{100 * value:.1f} %" if share else f"{value:.3g}".replace("-", MINUS)


def change(value: float, share: bool = True) -> str:
    """`-0.123` as `−12.3` points, or as `−0.123` when it is a score; always signed."""
    if math.isnan(value):
        return "–"
    text = f"{100 * value:+.1f}" if share else f"{value:+.3g}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", MINUS)


def level_bounds(interval: Interval, share: bool = True) -> str:
    """`[9.8, 15.1]`."""
    return _bounds(interval, lambda value: level(value, share).removesuffix(" %"))


def change_bounds(interval: Interval, share: bool = True) -> str:
    """`[−1.2, +3.4]`."""
    return _bounds(interval, lambda value: change(value, share))


def _bounds(interval: Interval, show: Callable[[float], str]) -> str:
    return "no interval" if math.isnan(interval.low) else f"[{show(interval.low)}, {show(interval.high)}]"


def headline_split(outcomes: Sequence[SplitOutcome]) -> SplitOutcome | None:
    """The split the headline speaks of: the first one, `seen` and the selection split only if there is no other."""
    fresh = [outcome for outcome in outcomes if outcome.split not in ("seen", SELECTION)]
    return next(iter([*fresh, *outcomes]), None)


def verdict_of_run(run: Run, outcomes: Sequence[SplitOutcome]) -> str:
    """One sentence about the headline split, one more clause for each other split."""
    first = headline_split(outcomes)
    if first is None or first.difference is None:
        return _unmeasured(run, first)
    rest = [_clause(outcome) for outcome in outcomes if outcome is not first and outcome.difference is not None]
    return _sentence(first) + (f" Elsewhere: {'; '.join(rest)}." if rest else "")


def _sentence(outcome: SplitOutcome) -> str:
    before, after, gap = outcome.before, outcome.after, outcome.difference
    assert before
    assert after
    assert gap
    what = "success" if outcome.share else "the mean score"
    values = f"from {level(before.mean, outcome.share)} to {level(after.mean, outcome.share)}"
    moved = f"{_moved(outcome)}, 95 % interval {change_bounds(gap, outcome.share)}"
    if outcome.verdict == "few":
        return f"Too few problems to tell on {outcome.split} ({gap.clusters}): {what} went {values}."
    if outcome.verdict == "unclear":
        return f"No clear change on {outcome.split}: {what} went {values} ({moved}, which includes 0)."
    word = "rose" if outcome.verdict == "better" else "fell"
    return f"{what[0].upper()}{what[1:]} on {outcome.split} {word} {values} ({moved})."


def _moved(outcome: SplitOutcome) -> str:
    assert outcome.difference
    return change(outcome.difference.mean, outcome.share) + (" points" if outcome.share else "")


def _clause(outcome: SplitOutcome) -> str:
    words = {"better": "better", "worse": "worse", "unclear": "no clear change", "few": "too few problems to tell"}
    return f"{outcome.split} {words[outcome.verdict]} ({_moved(outcome)})"


def _unmeasured(run: Run, outcome: SplitOutcome | None) -> str:
    steps, values = run.measured(f"eval/{SELECTION}/success")
    inside = bool(((values >= 0) & (values <= 1)).all())
    seen = f" On validation it was at {level(values[-1], inside)} at step {steps[-1]}." if len(values) else ""
    if outcome is None:
        return "No test split has been scored, so no change can be stated." + seen
    if outcome.after is None and outcome.before is not None:
        start = f"{level(outcome.before.mean, outcome.share)} on {outcome.split}"
        return f"Only the model as it came has been scored ({start}), so no change can be stated." + seen
    if outcome.before is None and outcome.after is not None:
        end = level(outcome.after.mean, outcome.share), level_bounds(outcome.after, outcome.share), "on", outcome.split
        return f"Trained, it reaches {' '.join(end)}; the model as it came was not scored, so no change can be stated."
    return f"No problem of {outcome.split} was scored both before and after, so no change can be stated." + seen
