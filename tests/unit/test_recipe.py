"""Recipes: YAML, overrides, and one line for every mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from saved_states import saved_state

from amft.assembly.evaluation import asked_task, run_config
from amft.assembly.models import model_directory, trained_model
from amft.assembly.own_data import _renamed as renamed
from amft.checkpoints.checkpoint import save_checkpoint
from amft.errors import AMFTError, CheckpointError, ConfigError, DataError, ModelError, TaskError
from amft.planning.own_code import without_own_code
from amft.runs import RunDirectory, write_json
from amft.settings.config import AMFTConfig
from amft.settings.recipe import Recipe, load_recipe, read_recipe
from amft.settings.recipe_file import preset_recipes

MINIMAL = "task: general_points-v1\n"


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def _write(text: str | bytes, name: str = "r.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return _write


def message(call: Any, *args: Any, kind: type[AMFTError] = ConfigError) -> str:
    with pytest.raises(kind) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", preset_recipes())
def test_shipped_recipe_loads(name: str) -> None:
    assert load_recipe(name) == load_recipe(preset_recipes()[name])


@pytest.mark.parametrize("name", preset_recipes())
def test_shipped_recipe_opens_with_purpose_command_and_expectation(name: str) -> None:
    head = [line for line in preset_recipes()[name].read_text().splitlines() if line.startswith("#")]
    assert all(any(line.startswith(f"# {word}:") for line in head) for word in ("Purpose", "Command", "Expect"))


def test_the_demo_is_shipped() -> None:
    recipe = load_recipe("general_points")
    assert recipe.model == "nano"
    assert recipe.task is not None
    assert recipe.task.id == "general_points-v1"
    assert recipe.balance == {"rule": "amft"}


def test_a_file_wins_over_a_shipped_name(write: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(MINIMAL + "seed: 41\n", "general_points")
    monkeypatch.chdir(tmp_path)
    assert load_recipe("general_points").seed == 41


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("1E-4", 1e-4), ("+1.e+2", 100.0), (".5e1", 5.0), ("1.0e-4", 1e-4), ("0.001", 1e-3), ("2", 2.0)],
)
def test_every_way_to_write_a_number_is_a_number(write: Any, text: str, value: float) -> None:
    path = write(MINIMAL + f"learning_rate: {text}\n")
    assert load_recipe(path).learning_rate == value
    assert load_recipe(write(MINIMAL), [f"learning_rate={text}"]).learning_rate == value


@pytest.mark.parametrize("text", ["1e", "e4", "1e-4x", "v1e4", "1e4.5"])
def test_what_only_looks_like_a_number_stays_text(write: Any, text: str) -> None:
    assert load_recipe(write(MINIMAL + f"output_dir: {text}\n")).output_dir == text


def test_overrides_apply_in_order_and_reach_into_mappings(write: Any) -> None:
    path = write("task: {id: general_points-v1, cards: 3}\n")
    recipe = load_recipe(
        path, ["seed=1", "task.target=10", "seed=2", "max_grad_norm=null", "eval.test_splits=[id, seen]"]
    )
    assert recipe.task is not None
    assert recipe.task.options == {"cards": 3, "target": 10}
    assert (recipe.seed, recipe.max_grad_norm, recipe.eval.test_splits) == (2, None, ["id", "seen"])


def test_an_override_may_build_on_an_earlier_one_and_fill_a_null(write: Any) -> None:
    recipe = load_recipe(write(MINIMAL + "balance: {rule: amft}\n"), ["balance=fixed", "balance.mu=0.25"])
    assert recipe.balance == {"rule": "fixed", "mu": 0.25}
    recipe = load_recipe(write("task:\nbalance: fixed\n"), ["task.id=general_points-v1", "balance.mu=0.5"])
    assert recipe.task is not None
    assert recipe.balance == {"rule": "fixed", "mu": 0.5}


def test_an_override_keeps_everything_after_the_first_equals_sign(write: Any) -> None:
    assert load_recipe(write(MINIMAL), ["output_dir=a=b"]).output_dir == "a=b"


def test_plain_names_are_short_for_mappings(write: Any) -> None:
    plain = load_recipe(write("task: general_points-v1\nbalance: amft\n"))
    full = load_recipe(write("task: {id: general_points-v1}\nbalance: {rule: amft}\n"))
    assert plain == full == Recipe(task="general_points-v1", balance="amft")  # type: ignore[arg-type]


def test_a_plain_name_is_a_place_for_more_settings(write: Any) -> None:
    recipe = load_recipe(write(MINIMAL + "balance: {rule: amft, mu_init: 0.2}\n"), ["task.cards=3", "balance=sft"])
    assert recipe.balance == {"rule": "sft"}
    assert recipe.task is not None
    assert recipe.task.options == {"cards": 3}


WRONG_VALUES = [
    ("learning_rate: fast", ["learning_rate", "'fast'", "a number > 0"]),
    ("learning_rate: '1e-4'", ["learning_rate", "'1e-4'", "a number"]),
    ("learning_rate: true", ["learning_rate", "true", "a number"]),
    ("learning_rate: .nan", ["learning_rate", "nan", "a number > 0"]),
    ("learning_rate: .inf", ["learning_rate", "inf", "a number > 0"]),
    ("learning_rate: 0", ["learning_rate", "0", "a number > 0"]),
    ("max_steps: true", ["max_steps", "true", "a whole number >= 1"]),
    ("max_steps: 1.5", ["max_steps", "1.5", "a whole number >= 1"]),
    ("max_steps: 1e2", ["max_steps", "100.0", "a whole number >= 1"]),
    ("max_steps: '5'", ["max_steps", "'5'", "a whole number >= 1"]),
    ("max_steps: -1", ["max_steps", "-1", "a whole number >= 1"]),
    ("max_steps:", ["max_steps", "null", "a whole number >= 1"]),
    ("label_smoothing: 1.0", ["label_smoothing", "1.0", "a number >= 0 and < 1"]),
    ("max_seconds: -1", ["max_seconds", "-1", "a number > 0 or null"]),
    ("checkpoint: {keep_best: 1}", ["checkpoint.keep_best", "1", "true or false"]),
    ("output_dir: 2024-01-02", ["output_dir", "2024", "text"]),
    ("output_dir: ''", ["output_dir", "''", "non-empty text"]),
    ("optim: lamb", ["optim", "'lamb'", "one of adamw, adam, sgd"]),
    ("report_to: [tensorbored]", ["report_to.0", "'tensorbored'", "tensorboard, trackio, wandb"]),
    ("report_to: wand", ["report_to", "'wand'", "a list"]),
    ("reward_weights: [1, x]", ["reward_weights.1", "'x'", "number"]),
    ("balance: [amft]", ["balance", "'amft'", "a mapping"]),
    ("balance: {1: 2}", ["balance"]),
    ("model: 7", ["model", "7", "text"]),
    ("allow_download: 'yes'", ["allow_download", "'yes'", "true or false"]),
    ("num_generations: 1", ["num_generations", "at least 2", "dapo"]),
    ("sft_warmup_steps: 9\nmax_steps: 5", ["sft_warmup_steps", "max_steps"]),
    ("learnig_rate: 1e-4", ["learnig_rate: unknown key", "did you mean 'learning_rate'?"]),
    ("train: x.jsonl", ["train: unknown key", "did you mean 'data.train'?"]),
    ("zzz: 1", ["zzz: unknown key"]),
    ("seed: -1\nmax_stepz: 1", ["max_stepz: unknown key", "(and 1 more)"]),
    ("data: {train: x}", ["task, data", "exactly one"]),
    ("eval: {test_splits: [idd]}", ["'idd'", "did you mean 'id'?"]),
]


@pytest.mark.parametrize(("line", "parts"), WRONG_VALUES)
def test_a_wrong_value_names_key_value_and_what_is_allowed(write: Any, line: str, parts: list[str]) -> None:
    said = message(load_recipe, write(MINIMAL + line + "\n"), kind=AMFTError)
    assert all(part in said for part in parts), said


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("data: {tain: x}", ["data.tain: unknown key", "'data.train'"]),
        ("data: {train: 3}", ["data.train", "3", "text"]),
        ("data: {train: x, rewards: a.py:f}", ["data.rewards", "'a.py:f'", "a list, each text"]),
        ("data: {train: x, columns: {prompt: 3}}", ["data.columns.prompt", "3"]),
        ("data: {demonstrations: x}", ["data.train: required", "non-empty text"]),
        ("data: x.jsonl", ["data", "'x.jsonl'", "a mapping"]),
        ("task: {cards: 3}", ["task.id: required"]),
        ("task: 3", ["task", "3", "a mapping"]),
        ("seed: 1", ["task, data", "exactly one"]),
    ],
)
def test_a_wrong_source_names_the_dotted_key(write: Any, text: str, parts: list[str]) -> None:
    said = message(load_recipe, write(text))
    assert all(part in said for part in parts), said


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("general_point-v1", ["general_point-v1", "general_points-v1"]),
        ("{id: general_points-v1, cars: 3}", ["task.cars", "did you mean cards?"]),
        ("{id: general_points-v1, cards: 99}", ["task.cards", "99"]),
        ("{id: general_points-v1, cards: '3'}", ["task.cards", "'3'"]),
    ],
)
def test_a_wrong_task_is_told_by_the_task(write: Any, text: str, parts: list[str]) -> None:
    said = message(load_recipe, write(f"task: {text}\n"), kind=TaskError)
    assert all(part in said for part in parts), said


@pytest.mark.parametrize("text", ["{rule: amff}", "{rule: amft, mu_initt: 0.1}", "{rule: amft, mu_init: 7}", "{}"])
def test_a_wrong_balance_is_told_by_the_rule(write: Any, text: str) -> None:
    assert "balance" in message(load_recipe, write(MINIMAL + f"balance: {text}\n"))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("task: general_points-v1\nseed: [1\n", ["r.yaml, line 3, column 1", "not valid YAML"]),
        ("task: x\n  seed: 1\n", ["r.yaml, line 2, column 7"]),
        ("a:\tb\n\t- c", ["r.yaml, line 1, column 3"]),
        ("seed: 1\ntask: x\nseed: 2\n", ["line 3, column 1", "'seed' is given twice"]),
        ("balance: {rule: a, rule: b}\n", ["line 1, column 20", "'rule' is given twice"]),
        ("seed: !!python/object:os.system 1\n", ["line 1, column 7"]),
        ("a: *nowhere\n", ["line 1, column 4"]),
        ("? [1]\n: 2\n", ["line 1"]),
        ("", ["mapping", "null"]),
        ("- 1\n", ["mapping", "[1]"]),
        ("just text", ["mapping", "'just text'"]),
        ("1: 2\n", ["key 1", "text"]),
        (b"\xff\xfe\xfa", ["r.yaml", "cannot be read"]),
        ("a: \x00", ["r.yaml", "not valid YAML"]),
        ("seed: 2024-13-45\n", ["r.yaml", "not valid YAML"]),
    ],
)
def test_a_broken_file_names_file_line_and_column(write: Any, text: str | bytes, parts: list[str]) -> None:
    said = message(load_recipe, write(text))
    assert all(part in said for part in parts), said


def test_merge_keys_may_be_overridden(write: Any) -> None:
    recipe = load_recipe(write("task: {<<: {id: general_points-v1, cards: 3}, cards: 4}\n"))
    assert recipe.task is not None
    assert recipe.task.options == {"cards": 4}


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("seed", ["--set seed", "key=value"]),
        ("=3", ["--set =3", "key=value"]),
        ("a..b=3", ["--set a..b=3", "key=value"]),
        ("seed.x=3", ["--set seed.x=3", "seed is 5", "not a mapping"]),
        ("seed=[1", ["--set seed=[1", "not valid YAML"]),
        ("sed=3", ["sed: unknown key", "'seed'"]),
        ("data.tran=3", ["data.tran: unknown key", "'data.train'"]),
        ("max_steps=", ["max_steps", "null"]),
    ],
)
def test_a_wrong_override_is_named(write: Any, given: str, parts: list[str]) -> None:
    said = message(load_recipe, write(MINIMAL + "seed: 5\n"), [given])
    assert all(part in said for part in parts), said


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("nowhere/r.yaml", ["nowhere/r.yaml", "no such recipe file"]),
        ("r.yml", ["r.yml", "no such recipe file"]),
        ("general_point", ["general_point", "did you mean 'general_points'?"]),
        ("qqq", ["qqq", "general_points"]),
        ("/", ["directory"]),
    ],
)
def test_a_missing_recipe_is_named(name: str, parts: list[str]) -> None:
    said = message(load_recipe, name)
    assert all(part in said for part in parts), said


def test_the_config_itself_raises_config_errors() -> None:
    assert "learning_rate: expected a number > 0" in message(lambda: AMFTConfig(learning_rate="fast"))  # type: ignore[arg-type]
    assert "did you mean 'max_steps'?" in message(lambda: AMFTConfig(max_step=1))  # type: ignore[call-arg]
    assert AMFTConfig(learning_rate=1).learning_rate == 1.0


def test_a_model_is_a_directory_or_allowed_to_be_fetched(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    assert "no config.json" in message(model_directory, str(tmp_path / "m"), kind=ModelError)
    assert "allow_download" in message(model_directory, "Someone/some-model", kind=ModelError)
    assert model_directory("Someone/some-model", True) == "Someone/some-model"
    (tmp_path / "m" / "config.json").write_text("{}")
    assert model_directory(str(tmp_path / "m")) == str(tmp_path / "m")


def test_columns_are_renamed_to_ours_and_others_kept() -> None:
    assert renamed({"q": 1, "a": 2}, {"prompt": "q"}, "f") == {"prompt": 1, "a": 2}
    with pytest.raises(DataError, match=r"f: no column 'question' \(data.columns.prompt\); it has q, a"):
        renamed({"q": 1, "a": 2}, {"prompt": "question"}, "f")


@pytest.mark.parametrize(("keep_best", "step"), [(False, 3), (True, 2)])
def test_a_run_stands_for_the_model_it_ended_with(tmp_path: Path, keep_best: bool, step: int) -> None:
    run = RunDirectory.create(tmp_path / "run")
    run.write("config", {"checkpoint": {"keep_best": keep_best}})
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        trained_model(run.path)
    for n in (2, 3):
        save_checkpoint(
            run.checkpoints / f"step-{n}",
            {},
            saved_state(n, {"step": 2, "score": 0.5}),
            lambda path: path.mkdir(exist_ok=True),
        )
    assert trained_model(run.path) == str(run.checkpoints / f"step-{step}" / "model")
    assert trained_model(tmp_path) is None


def test_a_run_is_asked_its_own_task_with_its_own_options(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    write_json(run / "config.json", {"task": {"id": "general_points-v1", "cards": 3, "target": 12}})
    config = run_config(str(run))
    for name in (None, "general_points-v1", "general_points"):
        assert asked_task(str(run), config, name, {"target": 10}) == ("general_points-v1", {"cards": 3, "target": 10})
    # Another task has nothing of the run's, nor has a model that is no run.
    assert asked_task(str(run), config, "word_problems-v1", {}) == ("word_problems-v1", {})
    assert asked_task("nano", run_config("nano"), "general_points-v1", {"cards": 2}) == (
        "general_points-v1",
        {"cards": 2},
    )
    for model in ("nano", str(run)):
        with pytest.raises(ConfigError, match="^--task: give a task's id"):
            asked_task(model, {"task": None}, None, {})


@pytest.mark.parametrize(
    "line",
    [
        "learning_rate: 1.0e+300",
        "epsilon: 1.0e+300",
        "adam_epsilon: 1.0e-300",
        "temperature: 1.0e-300",
        "reward_weights: [1.0e+300]",
        "max_completion_length: 2147483648",
        "num_prompts: 1000000000",
        "num_demos: 1000000",
        "lora: {r: 10000000}",
        "threads: 100000",
        'output_dir: "a\\0b"',
        f"output_dir: {'x' * 300}",
        f"output_dir: {'x/' * 2000}",
        f"model: {'x' * 300}",
        "eval: {test_samples: 1000000000}",
    ],
)
def test_sizes_beyond_all_reason_are_refused_by_name(write: Any, line: str) -> None:
    said = message(load_recipe, write(MINIMAL + line + "\n"), kind=AMFTError)
    name = line.partition(":")[0]
    assert said.startswith(name)
    assert len(said) < 300


def test_a_recipe_says_which_code_it_runs_and_reading_it_runs_none(write: Any, tmp_path: Any) -> None:
    own = tmp_path / "own.py"
    own.write_text("open('executed', 'w')\n")
    text = f"""
data: {{train: rows.jsonl, rewards: ['reward.py:f']}}
balance: {{rule: '{own}:Mine', token_weight: '{own}:Weight'}}
"""
    recipe = read_recipe(write(text))
    assert recipe.code == ["reward.py:f", f"{own}:Mine", f"{own}:Weight"]
    task = read_recipe(write(f"task: '{own}:Task'\nbalance: fixed\n"))
    assert task.code == [f"{own}:Task"]
    assert read_recipe(write(MINIMAL)).code == []
    planned, note = without_own_code(recipe)
    assert planned.balance == {"rule": "amft"}
    assert note is not None
    assert "runs no code of yours" in note
    assert without_own_code(task)[0].task is None
    assert not (tmp_path / "executed").exists()


def test_a_task_has_no_rewards_to_isolate(write: Any) -> None:
    said = message(load_recipe, write(MINIMAL + "rewards: {isolate: true}\n"), kind=ConfigError)
    assert said.startswith("rewards.isolate: a task grades by itself")
