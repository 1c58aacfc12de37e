"""Checks of the outcome: did it learn, did it forget, did it finish, was any step thrown away?"""

from __future__ import annotations

import math
from collections.abc import Iterator

from .checks_balance import now
from .finding import Finding
from .load import Floats, Ints, Run
from .outcomes import SELECTION, SplitOutcome, split_outcomes
from .verdict import change, change_bounds, headline_split, level

SOLVED = 0.95
CLEAR = 2.0
"""Standard errors that make a difference of two evaluations clear."""
PEAK = 3.0
"""More for the best of many, which is partly luck."""
NON_FINITE = ("nonfinite", "non_finite", "non-finite", "skipped")
OFTEN = 0.05


def learning(run: Run) -> Iterator[Finding]:
    """Whether success on the headline split, or failing that on validation, moved at all."""
    first = headline_split(split_outcomes(run))
    if first is not None and first.difference is not None:
        yield from _on_test(run, first)
        return
    _, success = _validation(run)
    if len(success) < 4:
        return
    third = len(success) // 3
    start, end = float(success[:third].mean()), float(success[-third:].mean())
    error = _error((start + end) / 2, run) * math.sqrt(2 / third)
    if abs(end - start) < CLEAR * error:
        evidence = (
            f"success went from {level(start)} to {level(end)}; chance alone moves it by ±{level(CLEAR * error)}."
        )
        yield _flat(run, "Validation success is flat", evidence, start)


def _on_test(run: Run, first: SplitOutcome) -> Iterator[Finding]:
    assert first.difference
    assert first.before
    gap = f"{_gap(first)} on {first.split}"
    if first.verdict == "few":
        action = f"Score more problems: raise {now(run, 'eval.test_problems')}."
        yield Finding("warn", "Too few test problems to tell", f"{gap}, {first.difference.clusters} problems.", action)
    elif first.verdict == "unclear":
        yield _flat(run, "No clear change in test success", f"{gap}; the interval includes 0.", first.before.mean)


def _flat(run: Run, title: str, evidence: str, start: float) -> Finding:
    if start >= SOLVED:
        return Finding("note", title, evidence + " It was nearly solved from the start.", "Choose harder problems.")
    action = f"Try a larger {now(run, 'learning_rate')} or more {now(run, 'max_steps')}; check that the reward climbs."
    return Finding("warn", title, evidence, action)


def _validation(run: Run) -> tuple[Ints, Floats]:
    """Success on validation; nothing when it is a score outside [0, 1], whose noise is not known."""
    steps, success = run.measured(f"eval/{SELECTION}/success")
    inside = (success >= 0).all() and (success <= 1).all()
    return (steps, success) if inside else (steps[:0], success[:0])


def _error(p: float, run: Run) -> float:
    """Binomial standard error of one validation score."""
    return math.sqrt(max(p * (1 - p), 1e-4) / (run.setting("eval.problems") or 128))


def _gap(outcome: SplitOutcome) -> str:
    assert outcome.difference
    unit = " points" if outcome.share else ""
    moved = change(outcome.difference.mean, outcome.share)
    return f"{moved}{unit}, 95 % interval {change_bounds(outcome.difference, outcome.share)},"


def forgetting(run: Run) -> Iterator[Finding]:
    """Every split whose success clearly fell."""
    for outcome in split_outcomes(run):
        if outcome.verdict == "worse":
            action = f"Raise {now(run, 'beta')} or {now(run, 'balance.mu_min')}, lower {now(run, 'learning_rate')}, "
            action += f"or set {now(run, 'checkpoint.keep_best')}."
            yield Finding("bad", f"Success on {outcome.split} fell", f"{_gap(outcome)} on the same problems.", action)


def past_the_peak(run: Run) -> Iterator[Finding]:
    """Whether validation success ended clearly below its best."""
    steps, success = _validation(run)
    if len(success) < 3:
        return
    best, last = float(success.max()), float(success[-1])
    if best - last > PEAK * _error(best, run) * math.sqrt(2):
        evidence = f"Best {level(best)} at step {steps[success.argmax()]}, last {level(last)}."
        action = f"Set {now(run, 'checkpoint.keep_best')}, or stop earlier ({now(run, 'max_steps')})."
        yield Finding("warn", "Validation success is past its peak", evidence, action)


def bad_steps(run: Run) -> Iterator[Finding]:
    """Steps skipped because a loss or gradient was not finite."""
    told = {row["step"] for row in run.events if any(word in str(row.get("kind")).lower() for word in NON_FINITE)}
    steps = sorted(told | set(run.incidents))
    if not steps:
        return
    often = len(steps) > OFTEN * max(run.last_step, 1)
    listed = ", ".join(map(str, steps[:8])) + (" ..." if len(steps) > 8 else "")
    action = f"Lower {now(run, 'learning_rate')} or {now(run, 'max_grad_norm')}; the batches are in incidents/."
    evidence = f"{len(steps)} of {run.last_step} steps were skipped: {listed}."
    yield Finding("bad" if often else "warn", "Some steps were not finite", evidence, action)


def unfinished(run: Run) -> Iterator[Finding]:
    """Whether the run stops before its last step, and whether its time budget explains that."""
    if run.max_steps is None or run.last_step >= run.max_steps:
        return
    evidence = f"The last step on record is {run.last_step} of {run.max_steps}."
    if any(row.get("kind") == "time" and row["step"] == run.last_step for row in run.events):
        yield Finding(
            "note", "The time budget ended the run", evidence, f"Raise {now(run, 'max_seconds')} for more steps."
        )
    else:
        action = "If it is not running any more, continue it with --resume."
        yield Finding("warn", "The run is not finished", f"{evidence} It is still running, or was cut short.", action)


OUTCOME_CHECKS = (learning, forgetting, past_the_peak, bad_steps, unfinished)
