"""Each test breaks one thing in a run that goes well and asks the doctor what it is."""

import pytest
from report_runs import changed, config, metric_rows, sample_row, score_rows, write_run

from amft.losses.choices import POLICY_LOSSES
from amft.report.checks_rollout import UNGROUPED
from amft.report.doctor import diagnose
from amft.runs import RunDirectory
from amft.settings.config import AMFTConfig, dotted


def findings(path, **options):
    options.setdefault("scores", list(score_rows("id", 0.1, 0.6)))
    return diagnose(write_run(path / "r", **options))


def only(path, level, words, **options):
    """The single finding whose title holds `words`."""
    found = findings(path, **options)
    match = [finding for finding in found if words in finding.title]
    assert len(match) == 1, found
    assert match[0].level == level
    return match[0]


def titles(path, **options):
    return [finding.title for finding in findings(path, **options) if finding.level != "ok"]


def test_a_run_that_goes_well_is_told_so(tmp_path):
    (finding,) = findings(tmp_path)
    assert (finding.level, finding.title) == ("ok", "No problem found")
    assert "200 steps" in finding.evidence


def test_nothing_measured_yet(tmp_path):
    RunDirectory.create(tmp_path / "r").write("config", config())
    (finding,) = diagnose(tmp_path / "r")
    assert finding.level == "note"


def test_flat_groups_all_wrong(tmp_path):
    rows = [row | {"eval/val/success": 0.02} for row in changed(frac_reward_zero_std=0.9, reward=0.01)]
    found = only(tmp_path, "bad", "all wrong", metrics=rows)
    assert "90 %" in found.evidence
    assert "2 %" in found.evidence
    assert "num_generations (now 8)" in found.action


def test_flat_groups_all_right(tmp_path):
    rows = [row | {"eval/val/success": 0.97} for row in changed(frac_reward_zero_std=0.6, reward=0.97)]
    assert "temperature (now 1.0)" in only(tmp_path, "warn", "all right", metrics=rows).action


def test_flat_groups_are_no_trouble_to_a_loss_without_groups(tmp_path):
    assert set(UNGROUPED) == {name for name, choice in POLICY_LOSSES.items() if not choice.grouped}
    rows = changed(frac_reward_zero_std=0.9)
    for loss_type in UNGROUPED:
        changes = {"loss_type": loss_type}
        assert not [t for t in titles(tmp_path / loss_type, metrics=rows, config_changes=changes) if "groups" in t]


def test_flat_groups_without_validation_are_told_from_samples_then_reward(tmp_path):
    def rows(reward):
        return [
            {n: v for n, v in row.items() if "eval" not in n}
            for row in changed(frac_reward_zero_std=0.7, reward=reward)
        ]

    samples = [sample_row(step, 3) for step in (150, 200)]
    assert "75 %" in only(tmp_path / "a", "warn", "all right", metrics=rows(5.0), samples=samples).evidence
    only(tmp_path / "b", "warn", "all wrong", metrics=rows(0.1), samples=[])
    only(tmp_path / "c", "warn", "no spread", metrics=rows(-3.0), samples=[])


def test_success_of_the_rollouts_themselves_tells_first(tmp_path):
    rows = [row | {"eval/val/success": 0.02} for row in changed(frac_reward_zero_std=0.9, success=0.98)]
    assert "98 %" in only(tmp_path, "bad", "all right", metrics=rows).evidence


def test_silent_exploration_for_want_of_spread_points_there(tmp_path):
    rows = changed(**{"frac_reward_zero_std": 1.0, "mix/grad_norm_rl": 0.0})
    assert "follow that finding" in only(tmp_path, "warn", "Exploration is silent", metrics=rows).action


def test_silent_imitation(tmp_path):
    # mu 0.05 with norms 0.1 and 1: the share is 0.005 / (0.005 + 0.95) = 0.5 %.
    rows = changed(**{"mix/mu": lambda s: 0.06 - s / 20_000, "mix/grad_norm_sft": 0.1, "mix/grad_norm_rl": 1.0})
    found = only(tmp_path, "warn", "Imitation is silent", metrics=rows)
    assert "0.5 %" in found.evidence
    assert "balance.mu_min (now 0.05)" in found.action


def test_silent_exploration_by_mu_alone_and_fixed_on_purpose(tmp_path):
    rows = list(changed(**{"mix/mu": 0.99, "mix/grad_norm_rl": None}))
    found = only(tmp_path, "note", "Exploration is silent", metrics=rows)
    assert "may be meant" in found.evidence


def test_pure_exploration_on_purpose_means_no_complaint(tmp_path):
    rows = list(changed(**{"mix/mu": 0.0, "mix/grad_norm_sft": None, "mix/grad_cos": None}))
    assert titles(tmp_path, metrics=rows, config_changes={"balance": {"rule": "rl"}}) == []


def test_mu_stuck_at_a_bound_and_not_when_it_only_touches(tmp_path):
    stuck = {"mix/mu": lambda step: max(0.05, 0.5 - step / 100)}
    found = only(tmp_path / "a", "warn", "stuck at mu_min", metrics=changed(**stuck))
    assert "100 %" in found.evidence
    rows = changed(**stuck)
    only(tmp_path / "c", "warn", "stuck at mu_min", metrics=rows, config_changes={"balance": {"rule": "amft"}})
    touching = {"mix/mu": lambda step: 0.05 if step % 3 == 0 else 0.2}
    assert titles(tmp_path / "b", metrics=changed(**touching)) == []


def test_meta_gradient_of_pure_noise(tmp_path):
    found = only(tmp_path, "note", "noise", metrics=changed(**{"mix/meta_grad": lambda s: (-1) ** s * 1e-4}))
    assert "0.0 standard errors" in found.evidence
    assert "num_prompts (now 16)" in found.action


def test_entropy_collapse_blow_up_and_collapse_on_solved_problems(tmp_path):
    fall = {"entropy": lambda step: 0.5 * 0.98**step}
    assert "H* 0.500" in only(tmp_path / "a", "warn", "collapsed", metrics=changed(**fall)).evidence
    only(tmp_path / "b", "warn", "blown up", metrics=changed(entropy=lambda step: 0.01 * step))
    solved = [row | {"eval/val/success": 0.99} for row in changed(**fall)]
    only(tmp_path / "c", "note", "collapsed", metrics=solved)
    without = changed(**fall, entropy_target=None)
    assert "at the start" in only(tmp_path / "d", "warn", "collapsed", metrics=without).evidence


@pytest.mark.parametrize(("share", "level"), [(0.2, "warn"), (0.7, "bad")])
def test_truncation(tmp_path, share, level):
    rows = changed(**{"completions/clipped_ratio": share})
    assert "max_completion_length (now 96)" in only(tmp_path, level, "cut off", metrics=rows).action


def test_no_clear_change_on_the_test_split(tmp_path):
    found = only(tmp_path, "warn", "No clear change", scores=list(score_rows("id", 0.3, 0.3)))
    assert "includes 0" in found.evidence
    assert "learning_rate (now 0.001)" in found.action
    only(tmp_path / "b", "note", "No clear change", scores=list(score_rows("id", 0.98, 0.98)))
    only(tmp_path / "c", "warn", "Too few", scores=list(score_rows("id", 0.1, 0.9, hands=5)))


def test_flat_validation_where_no_test_was_scored(tmp_path):
    def rows(slope):
        return [row | {"eval/val/success": 0.2 + slope * row["step"] / 200} for row in metric_rows()]

    # Thirds of 200 evaluations average out: a rise of 0.3 is far beyond 2 * sqrt(p (1 - p) / 128 * 2 / 66) = 0.013.
    only(tmp_path / "a", "warn", "Validation success is flat", metrics=rows(0.01), scores=[])
    assert titles(tmp_path / "b", metrics=rows(0.3), scores=[]) == []
    beyond = [row | {"eval/val/success": 3.0} for row in metric_rows()]
    assert titles(tmp_path / "c", metrics=beyond, scores=[]) == []


def test_forgetting_names_the_split(tmp_path):
    scores = [*score_rows("id", 0.1, 0.6), *score_rows("rule_ood", 0.6, 0.2)]
    found = only(tmp_path, "bad", "rule_ood fell", scores=scores)
    assert "−" in found.evidence
    assert "beta (now 0.0)" in found.action


def test_past_the_peak(tmp_path):
    rows = [row | {"eval/val/success": 0.6 if row["step"] == 100 else 0.3} for row in metric_rows()]
    found = only(tmp_path, "warn", "past its peak", metrics=rows)
    assert "60.0 % at step 100" in found.evidence
    assert "checkpoint.keep_best (now False)" in found.action


def test_abstentions_as_a_share_or_a_count(tmp_path):
    only(tmp_path / "a", "note", "not scored", metrics=changed(frac_reward_abstained=0.1))
    # 64 of 16 * 8 completions is one half.
    found = only(tmp_path / "b", "warn", "not scored", metrics=changed(**{"rewards/abstained": 64}))
    assert "50.0 %" in found.evidence


def test_bad_steps_from_events_and_bundles(tmp_path):
    events = [
        {"step": 29, "kind": "resume", "message": ""},
        {"step": 30, "kind": "nonfinite_step", "message": "loss is nan"},
    ]
    path = write_run(tmp_path / "r", scores=list(score_rows("id", 0.1, 0.6)), events=events)
    (path / "incidents").mkdir()
    for step in (31, 32):
        (path / "incidents" / f"step-{step}.json").write_text("{}")
    (found,) = diagnose(path)
    assert (found.level, found.title) == ("warn", "Some steps were not finite")
    assert "3 of 200 steps were skipped: 30, 31, 32" in found.evidence
    for step in range(100, 110):
        (path / "incidents" / f"step-{step}.json").write_text("{}")
    assert diagnose(path)[0].level == "bad"


def test_unfinished_and_out_of_time(tmp_path):
    rows = list(metric_rows(120))
    found = only(tmp_path / "a", "warn", "not finished", metrics=rows)
    assert "120 of 200" in found.evidence
    assert "--resume" in found.action
    events = [{"step": 120, "kind": "time", "message": "stopped after max_seconds 61"}]
    limit = {"max_seconds": 61.0}
    out = only(tmp_path / "b", "note", "time budget", metrics=rows, config_changes=limit, events=events)
    assert "max_seconds (now 61.0)" in out.action
    earlier = [{**events[0], "step": 80}]
    only(tmp_path / "c", "warn", "not finished", metrics=rows, config_changes=limit, events=earlier)


def test_opposed_gradients(tmp_path):
    only(tmp_path, "note", "oppose", metrics=changed(**{"mix/grad_cos": -0.5}))


def test_the_gravest_comes_first_and_every_named_field_exists(tmp_path):
    rows = changed(**{
        "completions/clipped_ratio": 0.7, "frac_reward_zero_std": 0.6, "mix/grad_cos": -0.5, "mix/mu": 0.01,
        "entropy": 5.0, "frac_reward_abstained": 0.5,
    })  # fmt: skip
    found = findings(tmp_path, metrics=rows, scores=list(score_rows("id", 0.6, 0.1)))
    levels = [finding.level for finding in found]
    assert levels == sorted(levels, key=["bad", "warn", "note"].index)
    assert {"bad", "warn", "note"} == set(levels)
    named = {word.strip("`.,;()") for finding in found for word in finding.action.split() if "_" in word}
    assert named <= {*dotted(AMFTConfig().model_dump()), "balance.mu_min", "balance.mu_max", "balance.eta_mu"}
