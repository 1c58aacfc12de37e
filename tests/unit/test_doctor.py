"""Each test breaks one thing in a run that goes well and asks the doctor what it is."""

import pytest
from report_runs import changed, config, metric_rows, sample_row, score_rows, write_run

from amft.losses.choices import POLICY_LOSSES
from amft.report.advice import OF_ROLLOUTS, useful
from amft.report.checks_rollout import UNGROUPED
from amft.report.doctor import diagnose
from amft.report.finding import SettingChange
from amft.report.load import load_run
from amft.runs import RunDirectory
from amft.settings.config import AMFTConfig
from amft.settings.groups import CheckpointSettings, EvalSettings


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


def test_rows_that_are_not_used(tmp_path):
    lost = {"step": 0, "kind": "data", "message": "demonstrations: 30 of 80 rows are not used: too long"}
    assert "30 of 80" in only(tmp_path, "warn", "not used", events=[lost]).evidence


def test_rows_that_are_held_out_are_no_finding(tmp_path):
    held_out = {"step": 0, "kind": "held-out", "message": "train_dataset: 3 of 36 rows are not used: held out"}
    assert titles(tmp_path, events=[held_out]) == []


def test_nothing_measured_yet(tmp_path):
    RunDirectory.create(tmp_path / "r").write("config", config())
    (finding,) = diagnose(tmp_path / "r")
    assert finding.level == "note"


def test_flat_groups_all_wrong(tmp_path):
    rows = [row | {"eval/val/success": 0.02} for row in changed(frac_reward_zero_std=0.9, reward=0.01)]
    found = only(tmp_path, "bad", "all wrong", metrics=rows)
    assert "90 %" in found.evidence
    assert "1 %" in found.evidence
    assert "num_generations (now 8)" in found.action


def test_flat_groups_all_right(tmp_path):
    rows = [row | {"eval/val/success": 0.97} for row in changed(frac_reward_zero_std=0.6, reward=0.97)]
    assert only(tmp_path / "solved", "note", "training problems are solved", metrics=rows).action
    still = {"metrics": [row | {"reward": 0.97} for row in rows], "scores": list(score_rows("id", 0.4, 0.4))}
    assert "temperature (now 1.0)" in only(tmp_path / "still", "warn", "all right", **still).action


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
    rows = [row | {"eval/val/success": 0.02} for row in changed(frac_reward_zero_std=0.9, success=0.88)]
    assert "88 %" in only(tmp_path, "bad", "all right", metrics=rows).evidence


def test_silent_exploration_for_want_of_spread_points_there(tmp_path):
    rows = changed(**{"frac_reward_zero_std": 1.0, "mix/grad_norm_rl": 0.0})
    assert "look there first" in only(tmp_path, "warn", "Exploration is silent", metrics=rows).action


def test_silent_imitation(tmp_path):
    # mu 0.05 with norms 0.1 and 1: the share is 0.005 / (0.005 + 0.95) = 0.5 %.
    rows = changed(**{"mix/mu": lambda s: 0.06 - s / 20_000, "mix/grad_norm_sft": 0.1, "mix/grad_norm_rl": 1.0})
    found = only(tmp_path, "warn", "Imitation is silent", metrics=rows)
    assert "0.5 %" in found.evidence
    assert "balance.mu_min (now 0.05)" in found.action


def test_a_constant_mu_is_called_constant_and_its_setting_named(tmp_path):
    rows = list(changed(**{"mix/mu": 0.99, "mix/grad_norm_rl": None}))
    fixed = {"balance": {"rule": "fixed", "mu": 0.99}}
    found = only(tmp_path / "a", "note", "Exploration is silent", metrics=rows, config_changes=fixed)
    assert "0.99 in every step" in found.evidence
    assert "Lower balance.mu (now 0.99)" in found.action
    rows = list(changed(**{"mix/mu": 0.3, "mix/grad_norm_rl": None}))
    assert titles(tmp_path / "b", metrics=rows, config_changes=fixed) == []


def test_mu_is_not_called_constant_when_it_moved_before_the_second_half(tmp_path):
    rows = changed(**{"mix/mu": lambda step: min(0.95, 0.52 + step / 150), "mix/grad_norm_rl": 1e-3})
    found = only(tmp_path, "note", "μ is stuck at mu_max", metrics=rows)
    assert "from 0.66 to 0.95" in found.evidence
    assert "every step" not in found.evidence
    assert "Raise balance.mu_max (now 0.95)" in found.action
    assert [f.topic for f in findings(tmp_path / "again", metrics=list(rows)) if f.topic == "balance"] == []


def test_a_schedule_that_does_what_it_was_asked_is_no_finding(tmp_path):
    paths = {
        "sft-then-rl": lambda step: float(step < 110),
        "linear": lambda step: max(0.0, 0.9 - step / 120),
        "cosine": lambda step: 0.9 * 0.9**step,
        "chord-mu": lambda step: 0.9 if step < 100 else 0.005,
    }
    for rule, path in paths.items():
        rows = changed(**{"mix/mu": path, "mix/grad_norm_sft": None, "mix/grad_norm_rl": None})
        assert titles(tmp_path / rule, metrics=rows, config_changes={"balance": {"rule": rule}}) == [], rule
    learned = changed(**{"mix/mu": lambda step: 0.9 if step < 100 else 0.005, "mix/grad_norm_rl": None})
    only(
        tmp_path / "own", "warn", "Imitation is silent", metrics=learned, config_changes={"balance": {"rule": "x.py:X"}}
    )


def test_steps_that_either_imitate_or_explore_are_not_silent(tmp_path):
    rows = changed(**{"mix/mu": lambda step: float(step % 100 == 0), "mix/grad_norm_rl": None})
    assert titles(tmp_path, metrics=rows, config_changes={"balance": {"rule": "relift"}}) == []


def test_weights_that_do_not_sum_to_one_are_read_as_they_are(tmp_path):
    both = {"mix/grad_norm_sft": None, "mix/grad_norm_rl": None, "mix/weight_rl": 1.0}
    sigma = {"balance": {"rule": "superrl-sigma"}}
    rows = list(changed(**both, **{"mix/mu": lambda step: 0.99 + step / 1e5}))
    assert titles(tmp_path / "a", metrics=rows, config_changes=sigma) == []
    rows = list(changed(**both, **{"mix/mu": lambda step: 0.005 + step / 1e5}))
    found = only(tmp_path / "b", "note", "Imitation is silent", metrics=rows, config_changes=sigma)
    assert "mu_min" not in found.action


def test_pure_exploration_on_purpose_means_no_complaint(tmp_path):
    rows = list(changed(**{"mix/mu": 0.0, "mix/grad_norm_sft": None, "mix/grad_cos": None}))
    assert titles(tmp_path, metrics=rows, config_changes={"balance": {"rule": "rl"}}) == []


def test_mu_stuck_at_a_bound_and_not_when_it_only_touches(tmp_path):
    stuck = {"mix/mu": lambda step: max(0.05, 0.5 - step / 100)}
    found = only(tmp_path / "a", "note", "stuck at mu_min", metrics=changed(**stuck))
    assert "100 %" in found.evidence
    rows = changed(**stuck)
    only(tmp_path / "c", "note", "stuck at mu_min", metrics=rows, config_changes={"balance": {"rule": "amft-scalar"}})
    flat = [row | {"reward": 0.3, "eval/val/success": 0.3} for row in changed(**stuck)]
    only(tmp_path / "d", "warn", "stuck at mu_min", metrics=flat, scores=list(score_rows("id", 0.3, 0.3)))
    touching = {"mix/mu": lambda step: 0.05 if step % 3 == 0 else 0.2}
    assert titles(tmp_path / "b", metrics=changed(**touching)) == []


def test_meta_gradient_of_pure_noise(tmp_path):
    found = only(tmp_path, "note", "noise", metrics=changed(**{"mix/meta_grad": lambda s: (-1) ** s * 1e-4}))
    assert "0.0 over the" in found.evidence
    assert "num_prompts (now 16)" in found.action
    assert len(findings(tmp_path / "again", metrics=changed(**{"mix/meta_grad": lambda s: (-1) ** s * 1e-4}))) == 1


def test_a_meta_gradient_that_was_clear_before_mu_arrived_is_not_called_noise(tmp_path):
    path = {"mix/meta_grad": lambda step: 1e-4 if step < 110 else (-1) ** step * 1e-4}
    assert titles(tmp_path / "a", metrics=changed(**path)) == []
    assert titles(tmp_path / "b", metrics=changed(**{"mix/meta_grad": lambda step: 1e-4 * (1 + step % 3)})) == []


FALL = {"entropy": lambda step: 0.5 * 0.98**step}
STUCK = {"reward": 0.1, "success": 0.1}


def unchanged(**metrics):
    """Rows of a run in which nothing was learned."""
    return [
        row | {"eval/val/success": 0.1} if "eval/val/success" in row else row for row in changed(**STUCK, **metrics)
    ]


def test_entropy_collapse_where_nothing_was_gained(tmp_path):
    scores = list(score_rows("id", 0.1, 0.1, hands=300))
    found = only(tmp_path / "a", "warn", "collapsed", metrics=unchanged(**FALL), scores=scores)
    assert "H* 0.500" in found.evidence
    assert "Raise entropy_coef (now 0.001) or temperature (now 1.0)" in found.action
    without = unchanged(**FALL, entropy_target=None)
    assert "at the start" in only(tmp_path / "b", "warn", "collapsed", metrics=without, scores=scores).evidence
    assert not [t for t in titles(tmp_path / "c", metrics=unchanged(), scores=scores) if "collapsed" in t]


def test_entropy_that_falls_as_success_rises_is_no_alarm(tmp_path):
    rise = {"success": lambda step: min(0.85, step / 200), "reward": lambda step: min(0.85, step / 200)}
    assert titles(tmp_path / "a", metrics=changed(**FALL, **rise)) == []
    assert titles(tmp_path / "b", metrics=list(changed(**FALL, **rise)), scores=[]) == []
    little = {"success": lambda step: 0.1 + step / 1000, "reward": lambda step: step / 1000}
    only(tmp_path / "c", "note", "collapsed", metrics=changed(**FALL, **little))
    solved = [row | {"eval/val/success": 0.97} for row in changed(**FALL, success=0.97, reward=0.97)]
    scores = list(score_rows("id", 0.97, 0.97, hands=300))
    only(tmp_path / "d", "note", "collapsed", metrics=solved, scores=scores)


def test_entropy_blow_up(tmp_path):
    found = only(tmp_path / "a", "warn", "blown up", metrics=changed(entropy=lambda step: 0.01 * step))
    assert "Raise balance.mu_min (now 0.05)" in found.action.replace("or raise", "Raise")
    assert titles(tmp_path / "b", metrics=changed(entropy=lambda step: 0.005 * step)) == []


@pytest.mark.parametrize(("share", "level"), [(0.2, "warn"), (0.7, "bad")])
def test_truncation(tmp_path, share, level):
    rows = changed(**{"completions/clipped_ratio": share})
    assert "max_completion_length (now 96)" in only(tmp_path, level, "cut off", metrics=rows).action
    assert titles(tmp_path / "few", metrics=changed(**{"completions/clipped_ratio": 0.05})) == []


def test_no_clear_change_on_the_test_split(tmp_path):
    found = only(tmp_path, "warn", "No clear change", scores=list(score_rows("id", 0.3, 0.3, hands=300)))
    assert "includes 0" in found.evidence
    assert "learning_rate (now 0.001)" in found.action
    only(tmp_path / "b", "note", "No clear change", scores=list(score_rows("id", 0.98, 0.98)))
    few = only(tmp_path / "c", "note", "Too few", scores=list(score_rows("id", 0.1, 0.9, hands=5)))
    assert "eval.test_problems (now 60)" in few.action
    only(tmp_path / "d", "note", "Too few", scores=list(score_rows("id", 0.3, 0.3, hands=16, orders=1)))
    every = {"eval": {"steps": 20, "problems": 128, "test_problems": None}}
    rows = list(score_rows("id", 0.3, 0.3, hands=16))
    assert only(tmp_path / "e", "note", "Too few", scores=rows, config_changes=every).action == ""


def test_only_the_headline_split_is_asked_for_a_clear_change(tmp_path):
    scores = [*score_rows("id", 0.1, 0.6), *score_rows("rule_ood", 0.3, 0.3, hands=300)]
    assert titles(tmp_path, scores=scores) == []


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
    assert [f.topic for f in findings(tmp_path / "b", scores=scores)] == ["success on rule_ood"]


def test_too_few_validation_problems_are_no_alarm(tmp_path):
    few = {"eval": {"steps": 20, "problems": 4, "test_problems": 60}}
    sparse = [
        row if row["step"] % 50 == 0 else {k: v for k, v in row.items() if "eval" not in k} for row in metric_rows()
    ]
    sparse = [row | {"eval/val/success": 0.3} if row["step"] % 50 == 0 else row for row in sparse]
    found = only(tmp_path, "note", "Too few validation", metrics=sparse, scores=[], config_changes=few)
    assert "eval.problems (now 4)" in found.action


def test_the_number_of_validation_problems_is_told_from_their_scores(tmp_path):
    """Three problems, whatever the settings allow: from all right to two of three is chance, not a fall."""
    rows = [row | {"eval/val/success": 1.0 if row["step"] < 150 else 2 / 3} for row in metric_rows() if row["step"] > 0]
    sparse = [row if row["step"] % 50 == 0 else {k: v for k, v in row.items() if "eval" not in k} for row in rows]
    assert titles(tmp_path / "a", metrics=sparse) == []
    many = [
        row | {"eval/val/success": round(128 * row["eval/val/success"] - 1) / 128} if "eval/val/success" in row else row
        for row in sparse
    ]
    only(tmp_path / "b", "warn", "past its peak", metrics=many)
    one = [row | {"eval/val/success": float(row["step"] < 150)} if "eval/val/success" in row else row for row in sparse]
    assert "Validation success is past its peak" not in titles(tmp_path / "c", metrics=one), (
        "one problem, right or wrong"
    )


def test_past_the_peak(tmp_path):
    rows = [row | {"eval/val/success": (77 if row["step"] == 100 else 38) / 128} for row in metric_rows()]
    found = only(tmp_path, "warn", "past its peak", metrics=rows)
    assert "60.2 % at step 100" in found.evidence
    assert "Set checkpoint.keep_best (now False)" in found.action
    assert titles(tmp_path / "kept", metrics=rows, config_changes={"checkpoint": {"keep_best": True}}) == []
    near = [row | {"eval/val/success": (46 if row["step"] == 100 else 38) / 128} for row in metric_rows()]
    assert titles(tmp_path / "near", metrics=near) == []
    alone = [finding.title for finding in findings(tmp_path / "alone", metrics=rows, scores=[])]
    assert alone == ["Validation success is past its peak"]  # and not flat besides


def test_abstentions_as_a_share_or_a_count(tmp_path):
    only(tmp_path / "a", "note", "not scored", metrics=changed(frac_reward_abstained=0.1))
    # 64 of 16 * 8 completions is one half.
    found = only(tmp_path / "b", "warn", "not scored", metrics=changed(**{"rewards/abstained": 64}))
    assert "50.0 %" in found.evidence
    assert titles(tmp_path / "c", metrics=changed(frac_reward_abstained=0.0)) == []


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
    assert titles(tmp_path / "near", metrics=changed(**{"mix/grad_cos": -0.1})) == []
    only(tmp_path, "note", "oppose", metrics=changed(**{"mix/grad_cos": -0.5}))


WORST = {
    "completions/clipped_ratio": 0.7, "frac_reward_zero_std": 0.6, "mix/grad_cos": -0.5, "mix/mu": 0.05,
    "entropy": 5.0, "frac_reward_abstained": 0.5, "success": 0.02,
}  # fmt: skip


def test_the_gravest_comes_first_and_every_named_field_exists(tmp_path):
    found = findings(tmp_path, metrics=changed(**WORST), scores=list(score_rows("id", 0.6, 0.1)))
    levels = [finding.level for finding in found]
    assert levels == sorted(levels, key=["bad", "warn", "note"].index)
    assert {"bad", "warn", "note"} == set(levels)
    named = {word for finding in found for word in finding.action.replace(".", " ").split() if "_" in word}
    groups = (CheckpointSettings, EvalSettings)
    known = {*AMFTConfig.model_fields, "mu_min", "mu_max", "eta_mu"}.union(*(kind.model_fields for kind in groups))
    assert {word.strip("`,;()") for word in named} <= known


def test_no_two_findings_pull_one_setting_two_ways(tmp_path):
    """The test fell, so imitation should weigh more; mu sits at its lower bound, so that bound should go down."""
    found = findings(tmp_path, metrics=changed(**WORST), scores=list(score_rows("id", 0.6, 0.1)))
    actions = {finding.topic: finding.action for finding in found}
    assert "raise beta (now 0.0) or balance.mu_min (now 0.05)" in actions["success on id"].lower()
    assert "μ is stuck at mu_min" in [finding.title for finding in found]
    assert "mu_min" not in actions["balance"]
    assert len(actions) == len(found)


def test_ok_is_said_only_when_nothing_else_is(tmp_path):
    noise = changed(**{"mix/meta_grad": lambda step: (-1) ** step * 1e-4})
    assert [finding.level for finding in findings(tmp_path, metrics=noise)] == ["note"]


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"balance": {"rule": "sft-then-rl"}}, "balance.mu_min"),
        ({"balance": {"rule": "amft-no-warmup"}}, "sft_warmup_steps"),
        ({"balance": {"rule": "amft-scalar", "warmup": False}}, "sft_warmup_steps"),
        ({"balance": {"rule": "x.py:X"}}, "balance.mu_min"),
        ({"checkpoint": {"keep_best": True}}, "checkpoint.keep_best"),
        ({"max_grad_norm": None}, "max_grad_norm"),
        ({"entropy_coef": 0.0}, "entropy_coef"),
        ({"balance": {"rule": "hpt"}}, "num_demos"),
    ],
)
def test_a_setting_that_is_not_there_or_cannot_move_is_not_named(tmp_path, changes, missing):
    run = load_run(write_run(tmp_path / "r", config_changes=changes))
    assert not any(useful(run, SettingChange(way, missing)) for way in ("lower", "set"))
    assert missing == "entropy_coef" or not useful(run, SettingChange("raise", missing))
    good = load_run(write_run(tmp_path / "good"))
    assert any(useful(good, SettingChange(way, missing)) for way in ("raise", "lower", "set"))


def test_settings_of_rollouts_are_not_named_where_there_are_none(tmp_path):
    rows = [{k: v for k, v in row.items() if k != "policy_loss"} for row in metric_rows()]
    run = load_run(write_run(tmp_path / "r", metrics=rows))
    assert not any(useful(run, SettingChange("raise", name)) for name in OF_ROLLOUTS)
    assert useful(run, SettingChange("raise", "num_demos"))


def test_the_example_of_the_readme_raises_no_alarm(tmp_path):
    """Four steps and sixteen problems show nothing; that is said, and nothing is called a problem."""
    rows = list(metric_rows(4, warmup=1))
    scores = list(score_rows("id", 0.25, 0.25, hands=16, orders=1, steps=(0, 4)))
    changes = {"max_steps": 4, "sft_warmup_steps": 1, "eval": {"steps": 20, "problems": 16, "test_problems": 16}}
    found = findings(tmp_path, metrics=rows, scores=scores, config_changes=changes)
    assert [(finding.level, finding.title) for finding in found] == [("note", "Too few test problems to tell")]
