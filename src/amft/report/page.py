"""One self-contained HTML page about a run: no script, no network, everything a model wrote escaped."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ..disk import replace_text
from ..runs import STREAMS
from ..tasks.registry import describe_tasks
from .answers import answer_pairs
from .doctor import diagnose
from .facts import facts, resolved_settings, subject, tiles
from .figures import before_after_figure, drawings
from .load import Run, load_run
from .next_card import next_card
from .outcomes import SplitOutcome, split_outcomes, turned
from .samples import pick_samples
from .spark import spark
from .text import visible
from .verdict import CAVEAT, change, change_bounds, headline_split, level, level_bounds, verdict_of_run

MOST_EVENTS = 200
MOST_PAIRS = 9
_WORDS = {
    "better": "better", "worse": "worse", "unclear": "no clear change", "few": "too few to tell", "unmeasured": "–",
}  # fmt: skip


def write_report(run: Path | str) -> Path:
    """Write `report.html` into a run directory and return its path.

    The page is made from the run directory alone, so a run in progress can be reported at any time, and again.

    Raises:
        RunError: there is no run in the directory, or its files are damaged.
    """
    loaded = load_run(run)
    target = loaded.path / "report.html"
    replace_text(target, render_run(loaded))
    return target


def render_run(run: Run) -> str:
    """The page as text."""
    home = files(__package__)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_finalize, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(home.joinpath("page.html").read_text(encoding="utf-8"))
    return template.render(css=Markup(home.joinpath("page.css").read_text(encoding="utf-8")), **_context(run))


def _context(run: Run) -> dict[str, Any]:
    outcomes, findings = split_outcomes(run), diagnose(run)
    first = headline_split(outcomes)
    return {
        "subject": subject(run),
        "rule": run.balance.get("rule") or "",
        "name": run.path.resolve().name,
        "verdict": verdict_of_run(run, outcomes),
        "mood": first.verdict if first is not None else "unmeasured",
        "caveat": CAVEAT if any(outcome.difference for outcome in outcomes) else "",
        "tiles": tiles(run),
        "splits": _table(run, outcomes),
        "before_after": Markup(before_after_figure(outcomes)),
        "pairs": answer_pairs(run, MOST_PAIRS),
        "findings": findings,
        "next": next_card(run, findings),
        "spark": Markup(spark(*run.measured("mix/mu"), low=0.0, high=1.0)),
        "turned": turned(run),
        "streams": [name for name in STREAMS if (run.path / f"{name}.jsonl").exists()],
        "figures": [(drawing.title, drawing.caption, Markup(drawing.svg)) for drawing in drawings(run)],
        "samples": pick_samples(run),
        "facts": facts(run),
        "settings": resolved_settings(run),
        "events": run.events[-MOST_EVENTS:],
        "older_events": max(0, len(run.events) - MOST_EVENTS),
    }


def _table(run: Run, outcomes: Sequence[SplitOutcome]) -> list[dict[str, str]]:
    meanings = _meanings(run)
    return [
        {
            "split": outcome.split,
            "meaning": meanings.get(outcome.split, ""),
            **_size(outcome),
            "before": level(outcome.before.mean, outcome.share) if outcome.before else "–",
            "before_bounds": level_bounds(outcome.before, outcome.share) if outcome.before else "",
            "after": level(outcome.after.mean, outcome.share) if outcome.after else "–",
            "after_bounds": level_bounds(outcome.after, outcome.share) if outcome.after else "",
            "change": change(outcome.difference.mean, outcome.share) if outcome.difference else "–",
            "change_bounds": change_bounds(outcome.difference, outcome.share) if outcome.difference else "",
            "verdict": outcome.verdict,
            "words": _WORDS[outcome.verdict],
        }
        for outcome in outcomes
    ]


def _size(outcome: SplitOutcome) -> dict[str, str]:
    scored = outcome.after or outcome.before
    if scored is None:
        return {"answers": "–", "clusters": ""}
    return {"answers": str(scored.n), "clusters": "" if scored.n == scored.clusters else f"{scored.clusters} clusters"}


def _meanings(run: Run) -> dict[str, str]:
    """What each split of the run's task holds, where the task is one of ours."""
    task = run.config.get("task")
    name = task.get("id") if isinstance(task, dict) else task
    return next((entry["splits"] for entry in describe_tasks() if entry["id"] == name), {})


def _finalize(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
