import itertools
import json
import math

import numpy as np
import pytest
from study_dirs import STEPS, write_all

from amft.errors import RunError
from amft.report.study.against import ALL, paired
from amft.report.study.curves import goal
from amft.report.study.load import load_study
from amft.report.study.regret import Bench
from amft.report.study.significance import WORDS, judge_difference, settled, verdict_of_claim
from amft.report.study.summary import summarize
from amft.report.study.table import write_table
from amft.runs import RunDirectory
from amft.stats import Estimate, mean_of_strata, seeds_needed, spread


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return load_study(write_all(tmp_path_factory.mktemp("study") / "s"))


@pytest.fixture(scope="module")
def summary(whole):
    return summarize(whole)


def one(rows, **where):
    found = [row for row in rows if all(row[key] == value for key, value in where.items())]
    assert len(found) == 1, (where, len(found))
    return found[0]


def test_scores_are_the_means_of_the_answers(whole, summary):
    row = one(summary["scores"], regime="many", rule="amft", split="id")
    shares = []
    for seed in range(5):
        rows = RunDirectory(whole.path / "runs" / "many" / "amft" / f"seed-{seed}").rows("scores")
        right = [r["correct"] for r in rows if r["split"] == "id" and r["model"] == "policy"]
        shares.append(sum(right) / len(right))
    assert row["by_seed"] == pytest.approx(shares)
    assert row["value"] == pytest.approx(np.mean(shares))
    assert row["iqm"] == pytest.approx(np.mean(sorted(shares)[1:4]))
    assert row["low"] < row["value"] < row["high"]
    assert (row["seeds"], row["clusters"]) == (5, 30)
    assert summary["scores"][0]["split"] == "id"
    assert len(summary["scores"]) == 2 * 2 * 7
    json.dumps(summary, allow_nan=False)


def test_differences_are_paired_with_the_baseline_and_corrected(summary):
    row = one(summary["against"], regime="many", rule="amft", split="id")
    scores = {rule: one(summary["scores"], regime="many", rule=rule, split="id") for rule in ("amft", "sft")}
    assert row["value"] == pytest.approx(scores["amft"]["value"] - scores["sft"]["value"])
    assert row["judged"] == "up"
    assert row["improvement"] == 1.0
    assert row["holm_p"] >= row["p"]
    assert not [r for r in summary["against"] if r["rule"] == "sft"]
    both = one(summary["against"], regime=ALL, rule="amft", split="id")
    parts = [one(summary["against"], regime=r, rule="amft", split="id")["value"] for r in ("many", "noisy")]
    assert both["value"] == pytest.approx(np.mean(parts))


def test_regret_is_that_against_the_constant_chosen_on_other_seeds(whole, summary):
    found = summary["regret"]
    assert found["best"] == {"many": "fixed-0.5", "noisy": "fixed-0"}
    assert {(row["rule"], row["seeds"]) for row in found["rules"]} == {(r, 5) for r in [*whole.rules, *whole.grid]}
    gaps = {}
    for regime in whole.regimes:
        grid = np.array([whole.scores(regime, rule, "id").by_run for rule in whole.grid])
        ours = whole.scores(regime, "amft", "id").by_run
        cuts = [list(held) for held in itertools.combinations(range(5), 2)]
        picked = [max(range(3), key=lambda k, h=held, g=grid: g[k].sum() - g[k, h].sum()) for held in cuts]
        gaps[regime] = [np.mean(grid[k, h] - ours[h]) for k, h in zip(picked, cuts, strict=True)]
        row = one(found["by_regime"], regime=regime, rule="amft")
        assert row["value"] == pytest.approx(np.mean(gaps[regime]))
        assert row["low"] < row["value"] < row["high"]
    row = one(found["rules"], rule="amft")
    assert row["mean"]["value"] == pytest.approx(np.mean(list(gaps.values())))
    assert row["worst"]["value"] == pytest.approx(np.mean(gaps["noisy"]))  # the worse on every cut
    assert (row["worst_regime"], one(found["rules"], rule="sft")["worst_regime"]) == ("noisy", "noisy")
    assert row["worst"]["high"] == one(found["by_regime"], regime="noisy", rule="amft")["high"]


def test_a_rule_that_stopped_early_is_judged_on_its_own_seeds(tmp_path):
    skip = {(regime, rule, seed) for regime in ("many", "noisy") for rule in ("rl", "fixed-1") for seed in (3, 4)}
    study = load_study(write_all(tmp_path / "s", skip=skip | {("many", "rl", 2)}))
    found = summarize(study)["regret"]
    assert one(found["rules"], rule="amft")["seeds"] == 5  # against the constants that have all five
    assert one(found["rules"], rule="fixed-1")["seeds"] == 3
    assert one(found["rules"], rule="rl")["seeds"] == 2
    assert [one(found["by_regime"], regime=r, rule="rl")["seeds"] for r in ("many", "noisy")] == [2, 3]


def test_one_seed_has_no_regret_and_no_count_of_seeds(tmp_path):
    summary = summarize(load_study(write_all(tmp_path / "s", seeds=[0], tuned={}, target={"mean": 0.1, "worst": 0.1})))
    assert summary["regret"]["rules"] == summary["regret"]["by_regime"] == summary["seeds_needed"] == []
    assert [(row["value"], row["judged"]) for row in summary["target"]] == [(None, "few")] * 2


def test_a_target_is_settled_only_when_the_whole_interval_is_on_one_side():
    found = {"value": 0.02, "low": 0.01, "high": 0.03, "seeds": 5}
    assert settled(found, 0.03) == "reached"
    assert settled(found, 0.029) == "below"
    assert settled(found, 0.019) == "above"
    assert settled(found, 0.01) == "above"
    assert settled(found, 0.009) == "missed"
    assert settled(found | {"seeds": 4}, 0.1) == "few"
    assert settled(found | {"low": None}, 0.1) == "few"


def test_seeds_needed_are_those_of_the_spread_seen(whole, summary):
    row = one(summary["seeds_needed"], measure="success minus sft, all regimes")
    gaps = [gap for _, gap in paired(whole, "id", "amft", "sft")]
    assert row["needed"]["0.05"] == seeds_needed(spread(mean_of_strata(gaps)), 0.05, most=200)
    measures = {row["measure"]: row for row in summary["seeds_needed"]}
    assert list(measures) == ["mean regret", "worst regret", "success minus sft, all regimes"]
    for row in measures.values():
        counts = [math.inf if count is None else count for count in row["needed"].values()]
        assert counts == sorted(counts, reverse=True)
    parts = [gap.resampled for gap in Bench(whole, "id").of("amft").common]
    alone = [seeds_needed(spread(part), 0.03, most=200) for part in parts]
    assert alone[0] != alone[1]
    assert measures["worst regret"]["needed"]["0.03"] == max(alone)


def test_a_tuned_name_is_what_validation_picks(whole, summary):
    assert {row["regime"]: row["picked"] for row in summary["chosen"]} == {"many": "fixed-0.5", "noisy": "fixed-0"}
    tuned = one(summary["scores"], regime="noisy", rule="fixed-tuned", split="id")
    assert tuned["by_seed"] == one(summary["scores"], regime="noisy", rule="fixed-0", split="id")["by_seed"]
    cost = one(summary["costs"], regime="noisy", rule="fixed-tuned")
    assert cost["searched"] == 3
    assert cost["steps"] == 3 * STEPS
    assert cost["unequal"]["steps"] == pytest.approx(2.0)


def test_costs_by_hand_and_unequal_ones_flagged(summary):
    cost = one(summary["costs"], regime="many", rule="amft")
    # 40 steps of 30 sampled and 10 imitated tokens, prompts 40 and 20, 1000 parameters:
    # 1000 * 40 * (2 * (30 + 40) + 6 * (30 + 40 + 10 + 20)) = 29.6e6
    assert (cost["generated"], cost["trained"], cost["flops"]) == (1200, 1600, 29.6e6)
    assert cost["seconds"] == pytest.approx(20)
    assert cost["unequal"] == {}
    sft = one(summary["costs"], regime="many", rule="sft")
    assert sft["unequal"]["generated"] == -1
    assert "steps" not in sft["unequal"]


def test_learning_curves_and_levels_by_hand(whole, summary):
    run = whole.runs["many", "amft", 0]
    assert run.steps.tolist() == [10, 20, 30, 40]
    assert run.tokens.tolist() == [400, 800, 1200, 1600]
    level = goal(whole, "many")
    ends = {rule: np.mean([r.validation[-1] for r in whole.of("many", rule)]) for rule in whole.grid}
    assert level == pytest.approx(max(ends.values()))
    row = one(summary["curves"], regime="many", rule="sft")
    assert row["tokens_to_level"]["share"] == 0
    assert row["tokens_to_level"]["median"] is None
    assert row["tokens_to_level"]["mean"]["value"] == 1600  # not its own 400: the horizon of all
    assert one(summary["curves"], regime="many", rule="amft")["steps_to_level"]["share"] > 0


def test_fewer_than_five_seeds_are_never_called_anything(tmp_path):
    study = load_study(write_all(tmp_path / "s", seeds=[0, 1, 2, 3]))
    summary = summarize(study)
    assert {row["judged"] for row in summary["against"]} == {"few"}
    text = write_table(study, summary)
    assert "better" not in text.replace("no better", "")
    assert json.loads((study.path / "table.json").read_text()) == summary


def test_missing_runs_are_named_and_pairs_stay_pairs(tmp_path):
    skip = {("many", "amft", 2), ("noisy", "amft", 0), ("noisy", "amft", 1), ("noisy", "amft", 2), ("noisy", "amft", 3),
            ("noisy", "amft", 4)}  # fmt: skip
    study = load_study(write_all(tmp_path / "s", skip=skip))
    summary = summarize(study)
    assert len(summary["unfinished"]) == 6
    row = one(summary["against"], regime="many", rule="amft", split="id")
    assert (row["seeds"], row["judged"]) == (4, "few")
    amft, sft = (study.scores("many", rule, "id") for rule in ("amft", "sft"))
    assert row["value"] == pytest.approx(amft.by_run.mean() - sft.only([0, 1, 3, 4]).by_run.mean())
    assert "amft" not in [row["rule"] for row in summary["regret"]["rules"]]
    assert "unfinished, not in the table: 6: many/amft seed 2" in write_table(study, summary)


def test_answers_written_twice_count_once(tmp_path):
    path = write_all(tmp_path / "s", regimes={"many": {}}, seeds=[0], tuned={})
    place = RunDirectory(path / "runs" / "many" / "amft" / "seed-0")
    before = load_study(path).scores("many", "amft", "id")
    for row in [row for row in place.rows("scores") if row["model"] == "policy"][:7]:
        place.append("scores", row)
    after = load_study(path).scores("many", "amft", "id")
    assert (after.counts == before.counts).all()
    assert (after.sums == before.sums).all()


def test_a_directory_without_a_study_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"study.json: no such file"):
        load_study(tmp_path)
    (tmp_path / "study.json").write_text("[]")
    with pytest.raises(RunError, match="does not describe a study"):
        load_study(tmp_path)


def gap(value, low, high, seeds=5):
    return Estimate(value, low, high, 0.1, 0.01, seeds, 30)


def test_words_need_five_seeds_an_interval_without_zero_and_a_corrected_p():
    assert judge_difference(gap(0.1, 0.05, 0.15), 0.01) == "up"
    assert judge_difference(gap(-0.1, -0.15, -0.05), 0.01) == "down"
    assert judge_difference(gap(-0.1, -0.15, -0.05), 0.01, more_is_good=False) == "up"
    assert judge_difference(gap(0.1, 0.05, 0.15, seeds=4), 0.01) == "few"
    assert judge_difference(gap(0.1, 0.0, 0.2), 0.04) == "unclear"
    assert judge_difference(gap(0.1, 0.05, 0.15), 0.05) == "unclear"
    assert judge_difference(gap(0.1, 0.05, 0.15), math.nan) == "unclear"
    assert [key for key, word in WORDS.items() if "better" in word] == ["up"]


def test_a_claim_holds_against_every_rival_or_not_at_all():
    assert verdict_of_claim(["up", "up"]) == "holds"
    assert verdict_of_claim(["up", "unclear"]) == "undecided"
    assert verdict_of_claim(["up", "down"]) == "fails"
    assert verdict_of_claim(["down", "few"]) == "undecided"
    assert verdict_of_claim([]) == "undecided"
