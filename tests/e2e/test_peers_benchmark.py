"""`benchmarks/peers.py` on a tiny model: both libraries draw and imitate as many tokens, unequal work is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
from peers import check_equal_work  # noqa: E402
from peers_cases import CASES  # noqa: E402
from peers_table import put, table  # noqa: E402


def test_arms_do_the_same_work_and_are_written_down(tmp_path: Path) -> None:
    output = tmp_path / "peers.json"
    command = [sys.executable, str(BENCHMARKS / "peers.py"), "tiny", "--steps", "1", "--output", str(output)]
    subprocess.run([*command, "--arms", "trl+sft", "amft-scalar"], check=True)
    result = json.loads(output.read_text(encoding="utf-8"))["tiny"]
    drawn = sum(CASES["tiny"].lengths(1))
    for arm in result["arms"].values():
        (step,) = arm["steps"]
        assert step["drawn"] == drawn
        assert step["tokens/demo"] == result["arms"]["amft-scalar"]["steps"][0]["tokens/demo"] > 0
        assert 0 < step["generating"] < step["cpu"]
        assert arm["peak_mb"] > 100
        assert arm["products"] > 0
        assert arm["operations"] > 1e6
    printed = table({"tiny": result})
    assert printed.count("| tiny |") == 2
    assert "torch" in printed


def test_the_table_goes_between_the_markers_of_the_page() -> None:
    page = (BENCHMARKS.parent / "docs" / "performance.md").read_text(encoding="utf-8")
    once = put(page, "| new |")
    assert once.count("| new |") == 1
    assert put(once, "| newer |") == put(page, "| newer |")
    with pytest.raises(ValueError, match="no <!-- measured"):
        put("a page", "| new |")


def test_unequal_work_is_not_compared() -> None:
    check_equal_work({"one": {"drawn": 5.0}, "other": {"drawn": 5.0}})
    with pytest.raises(SystemExit, match="unequal work: drawn {'one': 5.0, 'other': 4.0}"):
        check_equal_work({"one": {"drawn": 5.0}, "other": {"drawn": 4.0}})
