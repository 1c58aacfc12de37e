"""The picture of a study: a dot for each seed, a panel for each regime; those in the documentation are up to date."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "recipes" / "smollm2" / "results" / "study_short.json"
LONG = ROOT / "benchmarks" / "balance" / "results" / "long_short.json"


def drawn(scores, rules=(), split="id"):
    spec = importlib.util.spec_from_file_location("study_picture", ROOT / "benchmarks" / "study_picture.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.picture(scores, split, rules)


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


@pytest.mark.parametrize(
    ("table", "picture", "split", "rules"),
    [
        (TABLE, "smollm2.svg", "id", ["amft", "filtered-0.7", "rl", "fixed-0.7", "sft"]),
        (LONG, "long-bench.svg", "eval", ["amft", "fixed-0.3", "fixed-0.5", "fixed-0.7", "all-0.5"]),
    ],
)
def test_the_picture_in_the_documentation_is_of_the_committed_scores(table, picture, split, rules):
    found = (ROOT / "docs" / "images" / picture).read_text()
    now = drawn(json.loads(table.read_text())["scores"], rules, split)
    assert places(found) == places(now)
    assert len(places(now)) > 48
