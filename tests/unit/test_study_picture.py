"""The picture of a study: a dot for each seed, a panel for each regime; the committed one is of the committed table."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "recipes" / "smollm2" / "results" / "study_short.json"


def drawn(scores, rules=()):
    spec = importlib.util.spec_from_file_location("study_picture", ROOT / "benchmarks" / "study_picture.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.picture(scores, "id", rules)


def places(svg):
    return sorted(
        (round(float(x)), round(float(y))) for x, y in re.findall(r'<use [^>]*x="([0-9.]+)" y="([0-9.]+)"', svg)
    )


def test_every_seed_of_every_rule_is_a_dot_and_every_regime_a_panel():
    scores = json.loads(TABLE.read_text())["scores"]
    shown = [row for row in scores if row["split"] == "id" and row["regime"] != "all regimes"]
    whole, less = drawn(scores), drawn(scores, ["amft", "sft"])
    missing = sum(len(row["by_seed"]) for row in shown if row["rule"] not in ("amft", "sft"))
    assert whole.count("<use ") - less.count("<use ") == missing > 0
    for name in {row["regime"] for row in shown} | {row["rule"] for row in shown}:
        assert f">{name}</text>" in whole
    assert ">filtered-0.7</text>" not in less


def test_the_picture_in_the_documentation_is_of_these_scores():
    scores = json.loads(TABLE.read_text())["scores"]
    found = (ROOT / "docs" / "images" / "smollm2.svg").read_text()
    now = drawn(scores, ["amft", "filtered-0.7", "rl", "fixed-0.7", "sft"])
    assert places(found) == places(now)
    assert len(places(now)) > 27
