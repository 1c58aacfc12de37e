"""Checks of the outcome: did it learn, did it forget, did it finish, was any step thrown away?"""

from __future__ import annotations

import math
from collections.abc import Iterator

from .checks_balance import now
from .finding import Finding
from .load import Run
from .outcomes import SELECTION, SplitOutcome, split_outcomes
from .verdict import bounds, headline_split, percent, points

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
    _, success = run.measured(f"eval/{SELECTION}/success")
    if len(success) < 4:
        return
    third = len(success) // 3
    start, end = float(success[:third].mean()), float(success[-third:].mean())
    error = _error((start + end) / 2, run) * math.sqrt(2 / third)
    if abs(end - start) < CLEAR * error:
        evidence = (
            f"success went from {percent(start)} to {percent(end)}; chance alone moves it by ±{percent(CLEAR * error)}."
        )
        yield _flat(run, "Validation success is flat", evidence, start)


def _on_test(run: Run, first: SplitOutcome) -> Iterator[Finding]:
    assert first.difference
    assert first.before
    gap = f"{points(first.difference.mean)} points {bounds(first.difference, 'points')} on {first.split}"
    if first.verdict == "few":
        action = f"Score more problems: raise {now(run, 'test_problems')}."
        yield Finding("warn", "Too few test problems to tell", f"{gap}, {first.difference.clusters} problems.", action)
    elif first.verdict == "unclear":
        yield _flat(run, "No clear change in test success", f"{gap}; the interval includes 0.", first.before.mean)


def _flat(run: Run, title: str, evidence: str, start: float) -> Finding:
    if start >= SOLVED:
        return Finding("note", title, evidence + " It was nearly solved from the start.", "Choose harder problems.")
    action = f"Try a larger {now(run, 'learning_rate')} or more {now(run, 'max_steps')}; check that the reward climbs."
    return Finding("warn", title, evidence, action)


def _error(p: float, run: Run) -> float:
    """Binomial standard error of one validation score."""
    return math.sqrt(max(p * (1 - p), 1e-4) / (run.config.get("eval_problems") or 128))


def forgetting(run: Run) -> Iterator[Finding]:
    """Every split whose success clearly fell."""
    for outcome in split_outcomes(run):
        if outcome.verdict == "worse" and outcome.difference is not None:
            gap = f"{points(outcome.difference.mean)} points, 95 % interval {bounds(outcome.difference, 'points')}"
            action = f"Raise {now(run, 'beta')} or {now(run, 'balance.mu_min')}, lower {now(run, 'learning_rate')}, "
            action += f"or set {now(run, 'keep_best')}."
            yield Finding("bad", f"Success on {outcome.split} fell", f"{gap}.", action)


def past_the_peak(run: Run) -> Iterator[Finding]:
    """Whether validation success ended clearly below its best."""
    steps, success = run.measured(f"eval/{SELECTION}/success")
    if len(success) < 3:
        return
    best, last = float(success.max()), float(success[-1])
    if best - last > PEAK * _error(best, run) * math.sqrt(2):
        evidence = f"best {percent(best)} at step {steps[success.argmax()]}, last {percent(last)}."
        action = f"Set {now(run, 'keep_best')}, or stop earlier ({now(run, 'max_steps')})."
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
    evidence = f"the last step on record is {run.last_step} of {run.max_steps}."
    budget, spent = run.config.get("max_seconds"), float(run.seconds.get("time/step", run.steps[:0]).sum())
    if budget and spent >= 0.8 * budget:
        evidence += f" {spent:.0f} s were spent in steps; max_seconds is {budget:g}."
        yield Finding("note", "The time budget ended the run", evidence, f"Raise {now(run, 'max_seconds')} for more.")
    else:
        action = "If it is not running any more, continue it with --resume."
        yield Finding("warn", "The run is not finished", f"Still running, or cut short: {evidence}", action)


OUTCOME_CHECKS = (learning, forgetting, past_the_peak, bad_steps, unfinished)
