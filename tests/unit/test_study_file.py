import pytest
from study_dirs import study_file

from amft.errors import AMFTError, ConfigError, RunError
from amft.runs import RunDirectory
from amft.study.file import read_study
from amft.study.plan import plan_runs, start_run


def test_every_run_of_a_study_has_its_own_place_and_settings(tmp_path):
    study = study_file(budget={"max_steps": 70}, settings={"learning_rate": 1e-4}, threads=2)
    runs = plan_runs(study, tmp_path)
    assert len(runs) == len({run.path for run in runs}) == 2 * 6 * 5
    run = next(run for run in runs if (run.regime, run.rule, run.seed) == ("noisy", "fixed-0.5", 3))
    assert run.path == tmp_path / "runs" / "noisy" / "fixed-0.5" / "seed-3"
    recipe = run.load()
    assert recipe.balance == {"rule": "fixed", "mu": 0.5}
    assert (recipe.max_steps, recipe.learning_rate, recipe.seed, recipe.threads) == (70, 1e-4, 3, 2)
    assert recipe.task.options["reward"] == "binary"
    assert recipe.checkpoint.keep_best
    assert {run.state for run in runs} == {"missing"}


def test_a_group_in_a_study_adds_to_what_the_recipe_and_the_metrics_say(tmp_path):
    study = study_file(
        settings={"eval": {"steps": 3}, "checkpoint.steps": 2},
        metrics={"splits": ["id"], "problems": 6},
        rules={"amft": {"rule": "amft", "settings": {"checkpoint": {"total_limit": 9}}}, "sft": "sft"},
    )
    by_rule = {run.rule: run.load() for run in plan_runs(study, tmp_path)}
    assert by_rule["amft"].eval == by_rule["sft"].eval
    assert by_rule["amft"].eval.model_dump() == {
        "steps": 3, "problems": 60, "test_splits": ["id"], "test_problems": 6, "test_samples": 1,
        "answer_probability": False,
    }  # fmt: skip
    kept = {"steps": 2, "only_model": False, "keep_best": True, "async_save": False}
    assert by_rule["amft"].checkpoint.model_dump() == kept | {"total_limit": 9}
    assert by_rule["sft"].checkpoint.model_dump() == kept | {"total_limit": 3}


def test_tasks_are_crossed_with_regimes():
    study = study_file(tasks={"three": {"id": "general_points-v1", "cards": 3}, "four": "general_points-v1"})
    assert list(study.cases) == ["three+many", "three+noisy", "four+many", "four+noisy"]
    assert study.cases["four+noisy"] == {"task": {"id": "general_points-v1"}, "task.reward": "binary"}
    assert list(study_file(tasks={"a": "general_points-v1"}, regimes={"all": {}}).cases) == ["a"]


def test_the_claims_judged_are_those_of_amft_or_of_the_first_rule():
    assert study_file().subject == "amft"
    others = {"rl": "rl", "sft": "sft"}
    assert study_file(rules=others, tuned={}, baseline="sft").subject == "rl"
    assert study_file(rules=others, tuned={}, baseline="rl", subject="sft").subject == "sft"


def test_the_budget_beats_a_regime_and_a_rule_cannot_touch_it(tmp_path):
    study = study_file(budget={"max_steps": 20}, regimes={"many": {"max_steps": 99}})
    assert plan_runs(study, tmp_path)[0].load().max_steps == 20


def test_a_start_is_a_run_of_its_own_whose_model_the_others_begin_with(tmp_path):
    study = study_file(start={"balance": "sft", "max_steps": 30}, budget={"max_steps": 50})
    first = start_run(study, tmp_path)
    assert (first.path, first.load().max_steps, first.load().model) == (tmp_path / "start", 30, "nano")
    assert {run.load().model for run in plan_runs(study, tmp_path)[:3]} == {str(tmp_path / "start")}
    assert start_run(study_file(), tmp_path) is None
    assert plan_runs(study_file(), tmp_path)[0].load().model == "nano"


def with_settings(**settings):
    return {"rules": {"amft": {"rule": "amft", "settings": settings}, "sft": "sft"}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rulse": {}}, r"rulse: unknown key; did you mean 'rules'\?"),
        ({"baseline": "sfx"}, r"baseline: no rule 'sfx'; did you mean 'sft'\?"),
        ({"seeds": [1, 1]}, "seeds: each once"),
        ({"seeds": []}, "seeds: expected a non-empty list"),
        ({"grid": [0.5, 1.5]}, r"grid: values of mu in \[0, 1\]"),
        ({"rules": {"a/b": "sft"}}, "rules: the name 'a/b'"),
        ({"rules": {"sft": "sft", "amft": {"mu": 1}}}, "rules.amft: give a rule's name"),
        (
            {"rules": {"amft": {"rule": "amft", "settings": {"max_steps": 9}}, "sft": "sft"}},
            "settings.max_steps: every",
        ),
        (
            {"rules": {"amft": {"rule": "amft", "settings": {"task.cards": 3}}, "sft": "sft"}},
            "settings.task.cards: every",
        ),
        (
            {"rules": {"amft": {"rule": "amft", "settings": {"eval": {"steps": 3}}}, "sft": "sft"}},
            "settings.eval.steps: every",
        ),
        (
            {"rules": {"amft": {"rule": "amft", "settings": {"checkpoint": {"keep_best": False}}}, "sft": "sft"}},
            "settings.checkpoint.keep_best: every",
        ),
        ({"budget": {"learning_rate": 1}}, "budget.learning_rate: not a budget key"),
        ({"tuned": {"best": ["fixed-0.7"]}}, "tuned.best: no rule 'fixed-0.7'"),
        ({"target": {"mean": 0.02, "worst": 0.05}, "grid": [], "tuned": {}}, "target: regret needs a grid"),
        ({"metrics": {"pass_at": [4]}}, "metrics.pass_at: each k from 1 to metrics.samples"),
        ({"metrics": {"headlin": "id"}}, "metrics.headlin: unknown key; did you mean 'metrics.headline'"),
        ({"rules": {"fixed-0.5": "sft", "sft": "sft", "amft": "amft"}}, "the grid makes this one"),
        ({"threads": 0}, "threads: expected a number >= 1|threads: expected a whole number >= 1"),
    ],
)
def test_a_wrong_study_is_one_line(changes, message):
    with pytest.raises(ConfigError, match=message) as error:
        study_file(**changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rules": {"amft": "amtf", "sft": "sft"}}, "many/amft: balance.rule: unknown rule 'amtf'"),
        ({"regimes": {"x": {"learning_rat": 1}}}, "x/amft: learning_rat: unknown key"),
        ({"regimes": {"x": {"task.card": 3}}}, "task.card"),
        ({"metrics": {"splits": ["di"]}}, "split 'di'"),
        ({"recipe": "general_pionts"}, "general_points"),
        ({"metrics": {"splits": []}}, "no test split is scored"),
        ({"settings": {"eval_step": 4}}, "many/amft: eval_step: unknown key"),
        ({"settings": {"eval": {"steps": 0}}}, "eval.steps is 0"),
        (
            {"settings": {"checkpoint": {"only_model": True}}},
            "checkpoint.only_model: a run that is cut off could not be resumed",
        ),
    ],
)
def test_a_run_that_cannot_be_made_is_refused_before_anything_starts(changes, message, tmp_path):
    with pytest.raises(AMFTError, match=message):
        plan_runs(study_file(**changes), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_named_in_the_error(tmp_path):
    with pytest.raises(ConfigError, match="no such study file"):
        read_study(tmp_path / "none.yaml")
    (tmp_path / "s.yaml").write_text("recipe: general_points\nrules: {a: sft}\nseeds: [0]\nbaseline: b\n")
    with pytest.raises(ConfigError, match=r"s.yaml: baseline: no rule 'b'"):
        read_study(tmp_path / "s.yaml")


def test_a_run_of_other_settings_is_refused_not_mixed_in(tmp_path):
    study = study_file(regimes={"many": {}}, grid=[], tuned={}, seeds=[0, 1])
    run = next(run for run in plan_runs(study, tmp_path) if run.seed == 1)
    kept = RunDirectory.create(run.path)
    kept.write("config", run.load().model_dump())
    assert [found.state for found in plan_runs(study, tmp_path)].count("started") == 1
    other = study_file(regimes={"many": {}}, grid=[], tuned={}, seeds=[0, 1], settings={"learning_rate": 0.5})
    with pytest.raises(RunError, match="learning_rate 0.0003, the study says 0.5"):
        plan_runs(other, tmp_path)
