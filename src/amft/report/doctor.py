"""The doctor: what a run's numbers say about its health, in plain words, with the next thing to try."""

from __future__ import annotations

from pathlib import Path

from .checks_balance import BALANCE_CHECKS
from .checks_outcome import OUTCOME_CHECKS
from .checks_rollout import ROLLOUT_CHECKS
from .finding import Finding, Level
from .load import Run, load_run

__all__ = ["Finding", "Level", "diagnose"]

_CHECKS = (*OUTCOME_CHECKS, *BALANCE_CHECKS, *ROLLOUT_CHECKS)
_ORDER: tuple[Level, ...] = ("bad", "warn", "note", "ok")


def diagnose(run: Run | Path | str) -> list[Finding]:
    """Every finding about a run, the gravest first; `ok` when none asks for a change.

    Args:
        run: a run directory, or one already loaded.

    Raises:
        RunError: there is no run in the directory, or its files are damaged.
    """
    loaded = run if isinstance(run, Run) else load_run(run)
    if not loaded.steps.size:
        return [Finding("note", "Nothing has been measured yet", "metrics.jsonl holds no step.", "")]
    found = [finding for check in _CHECKS for finding in check(loaded)]
    if not any(finding.level in ("bad", "warn") for finding in found):
        found.append(Finding("ok", "No problem found", f"Every check passed on {len(loaded.steps)} steps.", ""))
    return sorted(found, key=lambda finding: _ORDER.index(finding.level))
