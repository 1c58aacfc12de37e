"""The benchmark that says how often the study page's intervals hold the truth."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("coverage_benchmark", ROOT / "benchmarks" / "coverage.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_truth_by_hand(benchmark):
    # Spread: the rule lies .02 below the best of four regimes and .06 below that of one: mean .028; the baseline .05
    # below .55. Collapse takes .2 * .25 = .05 of the rule, nothing of the baseline.
    flat, spread, collapse = (benchmark.truth(name) for name in ("flat", "spread", "collapse"))
    assert [flat[name] for name in ("mean regret", "worst regret", "difference")] == [0, 0, 0]
    assert spread["mean regret"] == pytest.approx(0.028)
    assert (spread["worst regret"], spread["regret, one regime"]) == (pytest.approx(0.06), pytest.approx(0.06))
    assert (spread["success"], spread["difference"]) == (pytest.approx(0.53), pytest.approx(0.03))
    assert (collapse["success"], collapse["difference"]) == (pytest.approx(0.48), pytest.approx(-0.02))
    assert collapse["mean regret"] == pytest.approx(0.028)
    assert collapse["claim: fall"] == pytest.approx(-0.05)


@pytest.mark.parametrize("condition", ["flat", "spread", "collapse"])
def test_simulated_runs_have_the_truth_as_their_mean(benchmark, condition):
    rng = np.random.default_rng(1)
    answers, down = benchmark.study(rng, condition, 3000)
    found = answers.mean((2, 3))[:, benchmark.RULE]
    levels = benchmark.levels(condition)[:, benchmark.RULE] - 0.25 * benchmark.CONDITIONS[condition]
    # One draw of 100 problems: easy by up to .2 (SD .115) for all, so .0115 off; .003 more for how they suit an arm.
    assert found == pytest.approx(levels, abs=0.035)
    assert down[:, benchmark.RULE].mean() == pytest.approx(benchmark.CONDITIONS[condition], abs=0.01)
    assert not down[:, benchmark.BASELINE].any()


def test_a_small_run_tells_an_interval_that_covers_from_one_that_does_not(benchmark):
    rows = {row["measure"]: row for row in benchmark.simulate("flat", 5, 60, 100)}
    assert rows["success"]["coverage"] >= 0.85
    assert rows["mean regret"]["coverage"] >= 0.85
    assert rows["hindsight"]["coverage"] < 0.7
    assert rows["hindsight"]["bias"] > 0.02 > abs(rows["mean regret"]["bias"])


def test_the_table_in_the_documentation_is_that_of_the_committed_rows(benchmark):
    rows = json.loads(benchmark.RESULT.read_text())
    assert len(rows) == len(benchmark.CONDITIONS) * len(benchmark.SEEDS) * len({row["measure"] for row in rows})
    page = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")
    for line in benchmark.table(rows):
        assert line in page
