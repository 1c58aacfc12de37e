"""One self-contained page about a study: no script, no network, rebuilt from the run directories alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ...disk import replace_text
from ..facts import count, duration
from ..text import visible
from ..verdict import change, level
from .against import ALL, everyone
from .figures import figures
from .headline import by_mean, headline
from .load import Study, load_study
from .seeds import CHANCE, MARGINS, MOST_SEEDS
from .significance import ENOUGH_SEEDS, TARGET_WORDS, judged_words
from .summary import summarize
from .table import budget_words, write_table

STUDY_KEYS = [("recipe", "recipe"), ("budget", "budget"), ("settings", "settings"), ("regimes", "cases"),
            ("rules", "arms"), ("tuned", "tuned")]  # fmt: skip
"""Names of a study file, and what the study calls them once it has made them whole."""
NO_GAP = {"value": "–", "bounds": "", "words": "", "judged": "unclear"}


def write_study_report(path: str | Path) -> Path:
    """Write `report.html`, `table.json` and `table.txt` into a study directory and return the page's path.

    Raises:
        RunError: there is no study in the directory, or its files are damaged.
    """
    study = load_study(path)
    summary = summarize(study)
    write_table(study, summary)
    target = study.path / "report.html"
    replace_text(target, render_study(study, summary))
    return target


def render_study(study: Study, summary: Mapping[str, Any]) -> str:
    """The page as text."""
    home = files(__package__)
    css = files(__package__.rpartition(".")[0]).joinpath("page.css").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_finalize, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(home.joinpath("page.html").read_text(encoding="utf-8"))
    return template.render(css=Markup(css), **_context(study, summary))


def _context(study: Study, summary: Mapping[str, Any]) -> dict[str, Any]:
    drawn = figures(study, summary)
    seeds = len(study.spec["seeds"])
    return {
        "name": study.path.resolve().name,
        "subject": study.spec["subject"],
        "baseline": study.spec["baseline"],
        "headline": study.splits[0] if study.splits else "",
        "seeds": seeds,
        "few": seeds < ENOUGH_SEEDS,
        "enough": ENOUGH_SEEDS,
        "unfinished": summary["unfinished"],
        "stopped": summary["stopped"],
        "tiles": [
            ("runs", f"{len(summary['runs'])} of {len(summary['runs']) + len(summary['unfinished'])}"),
            ("regimes", str(len(study.regimes))),
            ("rules", str(len(everyone(study)))),
            ("seeds", str(seeds)),
            ("training time", duration(sum(row["seconds"] or 0 for row in summary["runs"]))),
        ],
        "claims": [_claim(row) for row in summary["claims"]],
        "regimes": study.regimes,
        "tables": [(split, _scores(study, summary, split)) for split in study.splits],
        "opening": headline(study, summary),
        "regrets": [_regret(row) for row in by_regret(summary["regret"])],
        "outcome": study.outcome,
        "by_outcome": [_regret(row) for row in by_regret(summary["regret_by_outcome"])],
        "best": summary["regret"].get("best", {}),
        "no_regret": study.grid and not summary["regret"].get("rules"),
        "targets": [_target(row) for row in summary["target"]],
        "near": _near(study, summary),
        "margins": [change(margin) for margin in MARGINS],
        "chance": level(CHANCE),
        "most": MOST_SEEDS,
        "needed": [
            (row["measure"], row["seeds"], [_seeds(row["needed"][str(margin)]) for margin in MARGINS])
            for row in summary["seeds_needed"]
        ],
        "chosen": summary["chosen"],
        "costs": _by_regime(map(_cost, sorted(summary["costs"], key=lambda row: row["seconds"] or 0))),
        "reached": _by_regime(
            map(_reached, sorted(_timed(summary), key=lambda row: row["tokens_to_level"]["mean"]["value"]))
        ),
        "figures": [(f.anchor, f.title, f.caption, Markup(f.svg), f.data) for f in drawn],
        "anchors": {f.anchor for f in drawn},
        "settings": [(label, _yaml(study.spec[key])) for label, key in STUDY_KEYS if study.spec[key]],
    }


def _scores(study: Study, summary: Mapping[str, Any], split: str) -> list[dict[str, Any]]:
    """One line per rule: a cell per regime, and the mean difference to the baseline."""
    scores = {(row["rule"], row["regime"]): row for row in summary["scores"] if row["split"] == split}
    gaps = {(row["rule"], row["regime"]): row for row in summary["against"] if row["split"] == split}
    best = summary["regret"].get("best", {})
    lines = []
    for rule in by_mean(study, summary, split):
        cells = []
        for regime in study.regimes:
            row, gap = scores.get((rule, regime)), gaps.get((rule, regime))
            cells.append(
                {
                    "value": "–" if row is None else level(row["value"]).removesuffix(" %"),
                    "bounds": "" if row is None else _bounds(row, lambda v: level(v).removesuffix(" %")),
                    "mark": {"up": "▲", "down": "▼"}.get(gap["judged"], "") if gap else "",
                    "best": split == study.splits[0] and best.get(regime) == rule,
                }
            )
        is_baseline = rule == study.spec["baseline"]
        overall = (
            NO_GAP | {"value": "baseline"} if is_baseline else _gap(gaps.get((rule, ALL)), len(everyone(study)) - 1)
        )
        lines.append({"rule": rule, "mine": rule == study.spec["subject"], "cells": cells, "gap": overall})
    return lines


def _gap(row: Mapping[str, Any] | None, compared: int) -> dict[str, str]:
    if row is None:
        return NO_GAP
    return {
        "value": change(row["value"]),
        "bounds": _bounds(row, change),
        "words": judged_words(row, compared),
        "judged": {"up": "better", "down": "worse"}.get(row["judged"], "unclear"),
    }


def _claim(row: Mapping[str, Any]) -> dict[str, Any]:
    share = row["claim"] != "sample efficiency"
    show = change if share else _plain
    rivals = [
        {
            "rival": rival["rival"],
            "value": show(rival["value"]),
            "bounds": _bounds(rival, show),
            "p": "–" if rival["holm_p"] is None else f"{rival['holm_p']:.3f}",
            "words": {"up": "ahead", "down": "behind"}.get(rival["judged"]) or judged_words(rival, len(row["rivals"])),
        }
        for rival in sorted(row["rivals"], key=lambda rival: rival["value"])
    ]
    tone = {"holds": "better", "fails": "worse", "undecided": "unclear"}[row["verdict"]]
    return {"claim": row["claim"], "measure": row["measure"], "verdict": row["verdict"], "tone": tone,
            "rivals": rivals, "decided_by": _decides(row, rivals)}  # fmt: skip


def _decides(claim: Mapping[str, Any], shown: list[dict[str, Any]]) -> str:
    """The rival that a verdict hangs on: the one farthest ahead, or least behind."""
    judged = {rival["rival"]: rival["judged"] for rival in claim["rivals"]}
    wanted = {"fails": ("down",), "undecided": ("few", "unclear", "down"), "holds": ("up",)}[claim["verdict"]]
    rival = next((rival for rival in shown if judged[rival["rival"]] in wanted), None)
    if rival is None:
        return ""
    return f"{rival['rival']}: {rival['value']} {rival['bounds']}, {rival['words']}"


def by_regret(regret: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of the regret of rules, the least mean first."""
    return sorted(regret.get("rules", ()), key=lambda row: row["mean"]["value"])


def _timed(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for row in summary["curves"] if "tokens_to_level" in row]


def _regret(row: Mapping[str, Any]) -> dict[str, str]:
    found = {"rule": row["rule"], "worst_regime": row["worst_regime"], "seeds": str(row["seeds"])}
    for kind in ("mean", "worst"):
        found |= {kind: change(row[kind]["value"]), f"{kind}_bounds": _bounds(row[kind], change)}
    return found


def _target(row: Mapping[str, Any]) -> dict[str, str]:
    known = row["value"] is not None
    return {
        "kind": row["kind"],
        "target": change(row["target"]),
        "found": f"{change(row['value'])} {_bounds(row, change)}" if known else "not known",
        "words": TARGET_WORDS[row["judged"]],
        "needed": _seeds(row["needed"]) if row["judged"] in ("below", "above", "few") and known else "",
    }


def _seeds(count: int | None) -> str:
    return f"over {MOST_SEEDS}" if count is None else str(max(count, ENOUGH_SEEDS))


def _near(study: Study, summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The three other single settings of least worst regret."""
    rows = summary["regret"].get("rules", ())
    single = [row for row in rows if row["rule"] not in study.spec["tuned"] and row["rule"] != study.spec["subject"]]
    single = sorted(single, key=lambda row: row["worst"]["value"])
    return [(row["rule"], change(row["worst"]["value"]), change(row["mean"]["value"])) for row in single[:3]]


def _by_regime(rows: Iterable[dict[str, str]]) -> list[tuple[str, list[dict[str, str]]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault(row["regime"], []).append(row)
    return [*found.items()]


def _cost(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "regime": row["regime"],
        "rule": row["rule"],
        "steps": f"{row['steps']:.0f}",
        "generated": count(row["generated"]),
        "trained": count(row["trained"]),
        "flops": "–" if row["flops"] is None else f"{row['flops']:.2e}",
        "seconds": duration(row["seconds"]),
        "budget": budget_words(row),
        "judged": "worse" if row["unequal"] else "unclear",
    }


def _reached(row: Mapping[str, Any]) -> dict[str, str]:
    tokens, steps = row["tokens_to_level"], row["steps_to_level"]
    return {
        "regime": row["regime"],
        "rule": row["rule"],
        "level": level(row["level"]),
        "share": level(tokens["share"]),
        "median": "never in half of the runs" if tokens["median"] is None else count(tokens["median"]),
        "tokens": count(tokens["mean"]["value"]),
        "bounds": _bounds(tokens["mean"], lambda value: count(max(value, 0))),
        "steps": f"{steps['mean']['value']:.0f}",
        "area": "–" if row["area"]["value"] is None else level(row["area"]["value"]),
        "area_bounds": _bounds(row["area"], lambda value: level(value).removesuffix(" %")),
    }


def _plain(value: float) -> str:
    return f"{value:+.1f} k".replace("-", "\N{MINUS SIGN}")


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) else yaml.safe_dump(value, sort_keys=False).rstrip()


def _bounds(row: Mapping[str, Any], show: Any) -> str:
    return "no interval" if row["low"] is None else f"[{show(row['low'])}, {show(row['high'])}]"


def _finalize(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
