"""The doctor: what a run's numbers say about its health, in plain words, with the next thing to try."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from .advice import findings
from .check_data import rows_not_used
from .checks_balance import balance, gradients, meta_signal
from .checks_outcome import bad_steps, on_splits, unfinished, validation
from .checks_rollout import abstentions, entropy_drift, truncation, zero_spread
from .class_weights import classes
from .finding import Finding, Level, Remark
from .load import Run, load_run

__all__ = ["Finding", "Level", "diagnose"]

CHECKS: Mapping[str, Callable[[Run], Remark | None]] = {
    "validation success": validation,
    "steps": bad_steps,
    "end of the run": unfinished,
    "balance": balance,
    "classes of demonstrations": classes,
    "meta-gradient": meta_signal,
    "gradients": gradients,
    "groups": zero_spread,
    "entropy": entropy_drift,
    "length": truncation,
    "grading": abstentions,
    "data": rows_not_used,
}
"""Topic -> the one check that speaks of it. Each test split is a topic of its own besides."""


def diagnose(run: Run | Path | str) -> list[Finding]:
    """Every finding about a run, the gravest first, at most one for each topic; `ok` when there is none.

    Args:
        run: a run directory, or one already loaded.

    Raises:
        RunError: there is no run in the directory, or its files are damaged.
    """
    loaded = run if isinstance(run, Run) else load_run(run)
    if not loaded.steps.size:
        return [Finding("note", "Nothing has been measured yet", "metrics.jsonl holds no step.", "", "steps")]
    remarks = on_splits(loaded) | {topic: remark for topic, check in CHECKS.items() if (remark := check(loaded))}
    if not remarks:
        remarks = {"all": Remark("ok", "No problem found", f"Every check passed on {len(loaded.steps)} steps.")}
    return findings(loaded, remarks)
