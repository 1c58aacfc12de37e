"""The headroom table: the crossed gap by hand, and the table from what `amft compare` leaves."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def headroom() -> ModuleType:
    spec = importlib.util.spec_from_file_location("headroom", ROOT / "benchmarks" / "balance" / "headroom.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_are_chosen_on_the_other_seeds(headroom: ModuleType) -> None:
    # Seed 0 held out: on seed 1 constant b (.6) and schedule s (.9) lead, on seed 0 they have .1 and .5.
    # Seed 1 held out: on seed 0 constant a (.4) and schedule s (.5) lead, on seed 1 they have .2 and .9.
    constants = {"a": {0: 0.4, 1: 0.2}, "b": {0: 0.1, 1: 0.6}}
    schedules = {"s": {0: 0.5, 1: 0.9}, "t": {0: 0.0, 1: 0.0}}
    assert headroom.crossed_gap(constants, schedules) == pytest.approx([0.4, 0.7])
    assert headroom.crossed_gap({"a": {0: 0.4}}, {"s": {0: 0.5}}) == []
    assert headroom.crossed_gap({"a": {0: 0.4, 1: 0.4}}, {"s": {0: 0.5}}) == []


def test_the_table(headroom: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"regime": "A", "rule": rule, "seed": seed, "success": {"eval": value}}
        for rule, values in (("fixed-0", (0.1, 0.3)), ("fixed-1", (0.5, 0.5)), ("1-to-0", (0.6, 0.8)))
        for seed, value in enumerate(values)
    ]
    rows.append({"regime": "A", "rule": "1-to-0", "seed": 2, "success": {"eval": 0.0}})  # a seed that no other arm has
    (tmp_path / "table.json").write_text(json.dumps({"runs": rows}))
    headroom.main(tmp_path)
    assert capsys.readouterr().out.splitlines()[-1] == (
        "| A | 3 | 2 | 20.0 | 50.0 | fixed-1: 50.0 | 1-to-0: 70.0 | +20.0 (+10.0, +30.0) |"
    )
