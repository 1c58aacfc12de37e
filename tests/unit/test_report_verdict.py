import math

import pytest
from report_runs import score_rows, write_run

from amft.report.load import load_run
from amft.report.outcomes import split_outcomes
from amft.report.verdict import change, change_bounds, level, level_bounds, verdict_of_run
from amft.stats import Interval


def told(tmp_path, *scores, **changes):
    run = load_run(write_run(tmp_path / "r", scores=[row for rows in scores for row in rows], config_changes=changes))
    return split_outcomes(run), verdict_of_run(run, split_outcomes(run))


def row(model, key, problem, right, sample=0, step=0, split="id"):
    return {"step": step, "model": model, "split": split, "key": key, "problem": problem, "sample": sample,
            "correct": right, "reward": 0.0, "outcome": "x"}  # fmt: skip


def test_samples_are_averaged_and_only_shared_problems_are_paired(tmp_path):
    # Problem p: before 0/2, after 1/2; q: before 1/1, after 1/1; r was scored only after. Mean change (1/2 + 0)/2.
    scores = [row("base", "a", "p", False, 0), row("base", "a", "p", False, 1), row("base", "b", "q", True)]
    scores += [row("policy", "a", "p", True, 0), row("policy", "a", "p", False, 1), row("policy", "b", "q", True)]
    scores += [row("policy", "c", "r", True)]
    (found,), _ = told(tmp_path, scores)
    assert found.difference.mean == 0.25
    assert (found.difference.n, found.difference.clusters) == (2, 2)
    assert (found.after.mean, found.after.n, found.after.clusters) == (0.75, 4, 3)
    assert found.verdict == "few"


def test_the_latest_evaluation_counts(tmp_path):
    scores = [row("policy", "a", "p", False, step=10), row("policy", "a", "p", True, step=20)]
    (found,), _ = told(tmp_path, scores)
    assert found.after.mean == 1.0
    assert found.before is None


def test_order_follows_the_config_and_selection_comes_last(tmp_path):
    scores = [list(score_rows(name, 0.2, 0.3)) for name in ("val", "seen", "id")]
    outcomes, text = told(tmp_path / "b", *scores)
    assert [outcome.split for outcome in outcomes] == ["seen", "id", "val"]
    outcomes, text = told(tmp_path, *scores, eval={"test_splits": ["id", "seen"]})
    assert [outcome.split for outcome in outcomes] == ["id", "seen", "val"]
    assert text.index("id") < text.index("seen")


def test_a_rise_is_stated_with_its_interval(tmp_path):
    outcomes, text = told(tmp_path, score_rows("id", 0.1, 0.6), score_rows("rule_ood", 0.3, 0.3, seed=5))
    gap = outcomes[0].difference
    assert text.startswith(f"Success on id rose from {level(outcomes[0].before.mean)} to")
    assert f"{change(gap.mean)} points, 95 % interval [{change(gap.low)}, {change(gap.high)}]" in text
    assert "rule_ood no clear change" in text


def test_an_interval_that_includes_zero_claims_nothing(tmp_path):
    _, text = told(tmp_path, score_rows("id", 0.3, 0.32))
    assert text.startswith("No clear change on id")
    assert "which includes 0" in text


def test_a_fall_is_called_a_fall(tmp_path):
    _, text = told(tmp_path, score_rows("id", 0.7, 0.2))
    assert text.startswith("Success on id fell")
    assert "−" in text


def test_few_problems_claim_nothing_even_when_all_improve(tmp_path):
    _, text = told(tmp_path, score_rows("id", 0, 1, hands=9))
    assert text.startswith("Too few problems to tell on id (9)")


def test_the_headline_prefers_unseen_problems(tmp_path):
    _, text = told(tmp_path, score_rows("seen", 0.1, 0.9), score_rows("id", 0.3, 0.3))
    assert text.startswith("No clear change on id")


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([], "No test split has been scored"),
        ([*score_rows("id", 0.2, None)], "Only the model as it came has been scored"),
        ([*score_rows("id", None, 0.4)], "was not scored, so no change"),
    ],
)
def test_what_was_not_measured_is_not_claimed(tmp_path, scores, words):
    assert words in told(tmp_path, scores)[1]


def test_scores_beyond_a_share_are_not_called_success(tmp_path):
    rows = [{**row, "correct": 3.0 * row["correct"] - 1} for row in score_rows("id", 0.1, 0.6)]
    (found,), text = told(tmp_path, rows)
    assert not found.share
    assert text.startswith(f"The mean score on id rose from {level(found.before.mean, False)} to")
    assert "%" not in text.replace("95 %", "")
    assert "points" not in text


def test_partial_credit_counts_as_it_is(tmp_path):
    (found,), _ = told(tmp_path, [{**row, "correct": 0.25} for row in score_rows("id", 0.1, 0.6)])
    assert (found.after.mean, found.share) == (0.25, True)


def test_numbers_in_words():
    assert (level(0.1234), level(-1.25, False), level(math.nan)) == ("12.3 %", "−1.25", "–")
    assert [change(x) for x in (0.05, -0.05, 1e-4, -1e-4)] == ["+5.0", "−5.0", "0.0", "0.0"]
    assert (change(0.5, False), change(-0.5, False)) == ("+0.5", "−0.5")
    assert level_bounds(Interval(0.1, math.nan, math.nan, 3, 1)) == "no interval"
    assert level_bounds(Interval(0.1, 0.05, 0.2, 3, 2)) == "[5.0, 20.0]"
    assert change_bounds(Interval(0.1, -0.05, 0.2, 3, 2)) == "[−5.0, +20.0]"
