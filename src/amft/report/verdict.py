"""The outcome of a run in plain words that claim no more than the intervals allow."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..stats import Interval
from .load import Run
from .outcomes import SELECTION, SplitOutcome

CAVEAT = (
    "The intervals cover the choice of problems, not the luck of training: this is one run with one seed. "
    "They are not corrected for looking at several splits."
)


def percent(value: float, digits: int = 1) -> str:
    """`0.123` as `12.3 %`."""
    return "–" if math.isnan(value) else f"{100 * value:.{digits}f} %"


def points(value: float, digits: int = 1) -> str:
    """`-0.123` as `−12.3`, always signed."""
    if math.isnan(value):
        return "–"
    text = f"{100 * value:+.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def bounds(interval: Interval, show: str = "percent") -> str:
    """`[9.8, 15.1]`, signed with `show="points"`."""
    if math.isnan(interval.low):
        return "no interval"
    low, high = (points(v) if show == "points" else f"{100 * v:.1f}" for v in (interval.low, interval.high))
    return f"[{low}, {high}]"


def headline_split(outcomes: Sequence[SplitOutcome]) -> SplitOutcome | None:
    """The split the headline speaks of: the first one, `seen` and the selection split only if there is no other."""
    fresh = [outcome for outcome in outcomes if outcome.split not in ("seen", SELECTION)]
    return next(iter([*fresh, *outcomes]), None)


def verdict(run: Run, outcomes: Sequence[SplitOutcome]) -> str:
    """One sentence about the headline split, one more clause for each other split."""
    first = headline_split(outcomes)
    if first is None or first.difference is None:
        return _unmeasured(run, first)
    rest = [_clause(outcome) for outcome in outcomes if outcome is not first and outcome.difference is not None]
    return _sentence(first) + (f" Elsewhere: {'; '.join(rest)}." if rest else "")


def _sentence(outcome: SplitOutcome) -> str:
    before, after, change = outcome.before, outcome.after, outcome.difference
    assert before
    assert after
    assert change
    values = f"from {percent(before.mean)} to {percent(after.mean)}"
    gap = f"{points(change.mean)} points, 95 % interval {bounds(change, 'points')}"
    if outcome.verdict == "few":
        return f"Too few problems to tell on {outcome.split} ({change.clusters}): success went {values}."
    if outcome.verdict == "unclear":
        return f"No clear change on {outcome.split}: success went {values} ({gap}, which includes 0)."
    word = "rose" if outcome.verdict == "better" else "fell"
    return f"Success on {outcome.split} {word} {values} ({gap})."


def _clause(outcome: SplitOutcome) -> str:
    assert outcome.difference
    words = {"better": "better", "worse": "worse", "unclear": "no clear change", "few": "too few problems to tell"}
    return f"{outcome.split} {words[outcome.verdict]} ({points(outcome.difference.mean)} points)"


def _unmeasured(run: Run, outcome: SplitOutcome | None) -> str:
    steps, values = run.measured(f"eval/{SELECTION}/success")
    seen = f" Validation success was {percent(values[-1])} at step {steps[-1]}." if len(values) else ""
    if outcome is None:
        return "No test split has been scored, so no change can be stated." + seen
    if outcome.after is None and outcome.before is not None:
        start = f"{percent(outcome.before.mean)} on {outcome.split}"
        return f"Only the model as it came has been scored ({start}), so no change can be stated." + seen
    if outcome.before is None and outcome.after is not None:
        end = f"{percent(outcome.after.mean)} {bounds(outcome.after)} on {outcome.split}"
        return f"Success after training is {end}; the model as it came was not scored, so no change can be stated."
    return f"No problem of {outcome.split} was scored both before and after, so no change can be stated." + seen
