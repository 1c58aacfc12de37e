"""Checks of the outcome: did it learn, did it forget, did it finish, was any step thrown away?"""

from __future__ import annotations

from .finding import Remark, down, switch_on, up
from .load import Run
from .outcomes import SplitOutcome, split_outcomes
from .progress import PEAK, noise, problems, third_means, validation_scores
from .verdict import change, change_bounds, headline_split, level

SOLVED = 0.95
RESOLUTION = 0.1
"""A test whose interval is wider than this to either side is too small to show what a run usually changes."""
FEW_PROBLEMS = 5
"""Of fewer validation problems all can be right once, and all wrong another time, by chance."""
NON_FINITE = ("nonfinite", "non_finite", "non-finite", "skipped")
OFTEN = 0.05


def on_splits(run: Run) -> dict[str, Remark]:
    """Topic -> the remark on one test split: every one that clearly fell, and the headline one if nothing is clear."""
    outcomes = split_outcomes(run)
    first = headline_split(outcomes)
    said = {f"success on {outcome.split}": _on_split(outcome, headline=outcome is first) for outcome in outcomes}
    return {topic: remark for topic, remark in said.items() if remark is not None}


def _on_split(outcome: SplitOutcome, *, headline: bool) -> Remark | None:
    if outcome.difference is None or outcome.before is None:
        return None
    gap = f"{_gap(outcome)} on {outcome.split}"
    if outcome.verdict == "worse":
        tries = (
            *up("beta", "balance.mu_min", "balance.right_min"),
            *down("learning_rate"),
            *switch_on("checkpoint.keep_best"),
        )
        return Remark("bad", f"Success on {outcome.split} fell", f"{gap}, on the same problems.", tries)
    if not headline or outcome.verdict == "better":
        return None
    wide = (outcome.difference.high - outcome.difference.low) / 2 > RESOLUTION
    if outcome.verdict == "few" or (outcome.share and wide):
        evidence = f"{gap}, {outcome.difference.clusters} problems that are independent of one another."
        return Remark("note", "Too few test problems to tell", evidence, up("eval.test_problems"))
    return _flat("No clear change in test success", f"{gap}; the interval includes 0.", outcome.before.mean)


def _gap(outcome: SplitOutcome) -> str:
    assert outcome.difference
    unit = " points" if outcome.share else ""
    moved = change(outcome.difference.mean, outcome.share)
    return f"{moved}{unit}, 95 % interval {change_bounds(outcome.difference, outcome.share)}"


def _flat(title: str, evidence: str, start: float) -> Remark:
    if start >= SOLVED:
        hint = "Choose harder problems."
        return Remark("note", title, evidence + " It was nearly solved from the start.", hint=hint)
    return Remark("warn", title, evidence, up("learning_rate", "max_steps"), "Check that the reward climbs.")


def validation(run: Run) -> Remark | None:
    """Whether validation success ended clearly below its best; failing that, where no test tells, whether it moved."""
    steps, success = validation_scores(run)
    if len(success) < 3:
        return None
    best, last = float(success.max()), float(success[-1])
    held = problems(success, run)
    fell = held >= FEW_PROBLEMS and best - last > PEAK * noise(best, held)
    if fell and not run.setting("checkpoint.keep_best"):
        evidence = f"Best {level(best)} at step {steps[success.argmax()]}, last {level(last)}."
        hint = "Or stop earlier."
        return Remark("warn", "Validation success is past its peak", evidence, switch_on("checkpoint.keep_best"), hint)
    first = headline_split(split_outcomes(run))
    if len(success) < 4 or (first is not None and first.difference is not None):
        return None
    start, end, chance = third_means(success, run)
    if abs(end - start) >= chance:
        return None
    evidence = f"Success went from {level(start)} to {level(end)}; chance alone moves it by ±{level(chance)}."
    if chance > RESOLUTION:
        more = problems(success, run) == run.setting("eval.problems")
        tries, hint = (up("eval.problems"), "") if more else ((), "Hold out more problems.")
        return Remark("note", "Too few validation problems to tell", evidence, tries, hint)
    return _flat("Validation success is flat", evidence, start)


def bad_steps(run: Run) -> Remark | None:
    """Steps skipped because a loss or gradient was not finite."""
    told = {row["step"] for row in run.events if any(word in str(row.get("kind")).lower() for word in NON_FINITE)}
    steps = sorted(told | set(run.incidents))
    if not steps:
        return None
    often = len(steps) > OFTEN * max(run.last_step, 1)
    listed = ", ".join(map(str, steps[:8])) + (" ..." if len(steps) > 8 else "")
    evidence = f"{len(steps)} of {run.last_step} steps were skipped: {listed}."
    hint = "The batches are in incidents/." if run.incidents else ""
    tries = down("learning_rate", "max_grad_norm")
    return Remark("bad" if often else "warn", "Some steps were not finite", evidence, tries, hint)


def unfinished(run: Run) -> Remark | None:
    """Whether the run stops before its last step, and whether its time budget explains that."""
    if run.max_steps is None or run.last_step >= run.max_steps:
        return None
    evidence = f"The last step on record is {run.last_step} of {run.max_steps}."
    if any(row.get("kind") == "time" and row["step"] == run.last_step for row in run.events):
        return Remark("note", "The time budget ended the run", evidence, up("max_seconds"))
    if any(row.get("kind") == "callback" and row["step"] == run.last_step for row in run.events):
        return Remark("note", "A callback ended the run", evidence)
    hint = "If it is not running any more, continue it with --resume."
    return Remark("warn", "The run is not finished", f"{evidence} It is still running, or was cut short.", hint=hint)
