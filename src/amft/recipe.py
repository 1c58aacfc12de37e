"""A recipe: one YAML file that says which model, task or data, and settings make a run. No torch until it is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .errors import ConfigError, DataError, ModelError, RunError, TaskError
from .runs import RunDirectory
from .settings.config import AMFTConfig
from .settings.recipe_file import find_recipe, override, preset_recipes, read_mapping, spelled_out
from .settings.validation_errors import nearest

if TYPE_CHECKING:
    from .tasks.base import Task
    from .training.trainer import AMFTTrainer

NANO = Path(__file__).parent / "models" / "nano_base"

__all__ = [
    "DataSpec",
    "Recipe",
    "TaskSpec",
    "build_trainer",
    "load_recipe",
    "model_directory",
    "preset_recipes",
]


class TaskSpec(BaseModel):
    """A task by its versioned id; every other key is an option of the task's constructor, which checks it."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    id: str = Field(min_length=1)

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class DataSpec(BaseModel):
    """The user's own prompts, demonstrations and reward functions. Paths are relative to the current directory."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    train: str = Field(min_length=1, description="JSONL, JSON, Parquet or CSV with a column `prompt`, or a hub name")
    demonstrations: str | None = Field(None, description="rows with `prompt` and `completion`; null: those of train")
    rewards: list[str] = Field(default_factory=list, description='each "path/to/file.py:function"')
    test: str | None = Field(None, description="rows scored before and after")
    columns: dict[str, str] = Field(default_factory=dict, description="our column name: its name in the files")


class Recipe(AMFTConfig):
    """`AMFTConfig` with the model and exactly one of `task` and `data`."""

    model: str = Field("nano", min_length=1, description="the shipped base, or a model directory")
    allow_download: bool = Field(
        False, description="let `model` and the files of `data` be names on the Hugging Face hub"
    )
    task: TaskSpec | None = None
    data: DataSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, values: Any) -> Any:
        return spelled_out(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _one_source(self) -> Recipe:
        if (self.task is None) == (self.data is None):
            raise ValueError("task, data: give exactly one of them (null removes the other)")
        return self


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `key=value` overrides in order, the later one winning.

    Args:
        path: a YAML file, or the name of a shipped recipe.
        overrides: `a.b=c` with `c` in YAML, so `learning_rate=1e-4` is a number and `task=null` removes the task.

    Raises:
        ConfigError: the file is missing or not YAML, a key is unknown, or a value is not allowed.
        TaskError: the task or one of its options does not exist.
    """
    file = find_recipe(str(path))
    tree = spelled_out(read_mapping(file))
    for text in overrides:
        override(tree, text)
    recipe = Recipe(**tree)
    from .balance.registry import build_balance

    build_balance(dict(recipe.balance))
    if recipe.task is not None:
        _known_splits(_task(recipe.task), recipe.test_splits or ())
    return recipe


def build_trainer(recipe: Recipe) -> AMFTTrainer:
    """The trainer of a recipe; data files are read before torch is imported, so that their errors come at once."""
    model = model_directory(recipe.model, recipe.allow_download)
    config = AMFTConfig(**{name: getattr(recipe, name) for name in AMFTConfig.model_fields})
    described = recipe.model_dump()
    if recipe.task is not None:
        task = _task(recipe.task)
        from .training.trainer import AMFTTrainer

        return AMFTTrainer(model, config, task=task, recipe=described)
    assert recipe.data is not None
    data = _load_data(recipe.data, recipe.allow_download)
    from .training.trainer import AMFTTrainer

    return AMFTTrainer(model, config, recipe=described, **data)


def model_directory(model: str, allow_download: bool = False) -> str:
    """The directory of a model: the shipped `nano`, a directory, a run's, or (only when allowed) a hub name as it is.

    Raises:
        ModelError: it is not a directory with a `config.json`, and may not be fetched.
    """
    path = NANO if model == "nano" else Path(model)
    trained = _trained_model(path)
    if trained is not None:
        return trained
    if (path / "config.json").is_file() or (path / "adapter_config.json").is_file():
        return str(path)
    if model == "nano":
        raise ModelError(f"model: the shipped nano base is missing from this installation ({NANO})")
    if path.exists():
        raise ModelError(f"model: {model} is not a model directory (no config.json in it)")
    if allow_download:
        return model
    raise ModelError(
        f"model: no directory {model}, and hub names are fetched only for a recipe with allow_download: true"
    )


def build_evaluation(
    model: str,
    task: str | None = None,
    splits: Sequence[str] = (),
    *,
    samples: int = 1,
    problems: int | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Answer held-out problems with a model, or the one a run ended with; one summary row per split.

    Args:
        model: `nano`, a model directory, or a run directory.
        task: versioned id; None is the task of the run. A run's own task keeps the options it was trained with.
        splits: none means the task's test splits.
        samples: answers per problem; 1 is greedy.
        problems: per split; None is all of them.
        options: of the task; they come before those of the run.

    Raises:
        ConfigError: no task is given, and `model` is not a run with one.
        TaskError: the task, an option or a split does not exist.
        ModelError, CheckpointError: there is no model to load.
    """
    from .tasks.registry import build_task

    name, chosen_options = asked_task(model, task, options or {})
    built = build_task(name, **chosen_options)
    chosen = list(splits) or list(built.test_splits)
    _known_splits(built, chosen)
    path = _trained_model(Path(model)) or model_directory(model)
    from .evaluation import evaluate_model
    from .evaluation.groups import group_figures
    from .evaluation.score import summary

    rows = evaluate_model(path, built, chosen, samples, problems, seed)
    return [
        line
        | group_figures(
            built,
            built.problems(line["split"], seed=seed, n=problems),
            [row for row in rows if row["split"] == line["split"]],
        )
        for line in summary(rows)
    ]


def merge_adapter(source: str, output: str) -> None:
    """Write the model of an adapter, or of a run with `lora`, as one ordinary model directory.

    Raises:
        ModelError: there is no adapter in `source`.
        RunError: `output` is there already.
    """
    path = Path(_trained_model(Path(source)) or model_directory(source))
    if not (path / "adapter_config.json").is_file():
        raise ModelError(f"{source}: no adapter in it (no adapter_config.json), so there is nothing to merge")
    if Path(output).exists():
        raise RunError(f"{output}: exists already; choose another directory")
    from .models.load import load_model, load_pictures, load_tokenizer
    from .models.lora import base_of, merge

    merge(load_model(base_of(path)), path).save_pretrained(output)
    pictures = load_pictures(str(path))
    if pictures is None:
        load_tokenizer(str(path)).save_pretrained(output)
    else:
        pictures.save(Path(output))


def asked_task(model: str, task: str | None, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Id and options of the task to answer: the one given, or the run's; if they are the same, as the run had it.

    Raises:
        ConfigError: no task is given, and `model` is not a run with one.
    """
    path = Path(model)
    trained = RunDirectory(path).read("config").get("task") if (path / "checkpoints").is_dir() else None
    if trained and task in (None, trained["id"], trained["id"].rpartition("-v")[0]):
        own = TaskSpec(**trained)
        return own.id, own.options | dict(options)
    if task is None:
        raise ConfigError(f"--task: give a task's id, since {model} is not a run of `amft train` on a task")
    return task, dict(options)


def _task(spec: TaskSpec) -> Task:
    from .tasks.registry import build_task

    return build_task(spec.id, **spec.options)


def _known_splits(task: Task, splits: Sequence[str]) -> None:
    for split in splits:
        if split not in task.splits:
            raise TaskError(f"split {split!r} of {task.id} does not exist; {nearest(split, [*task.splits])}")


def _trained_model(path: Path) -> str | None:
    """The model a run ended with (its newest checkpoint, or the best one with `keep_best`), if `path` is a run."""
    if not (path / "checkpoints").is_dir():
        return None
    from .checkpoints.checkpoint_retention import final_checkpoint

    return str(final_checkpoint(RunDirectory.open(path)) / "model")


def _load_data(data: DataSpec, allow_download: bool) -> dict[str, Any]:
    from .data.dataset import load_rows
    from .data.rewards import load_reward

    def rows(path: str | None) -> list[dict[str, Any]] | None:
        return None if path is None else [_renamed(row, data.columns, path) for row in load_rows(path, allow_download)]

    return {
        "train_dataset": rows(data.train),
        "demonstrations": rows(data.demonstrations),
        "eval_dataset": rows(data.test),
        "reward_funcs": [load_reward(reward) for reward in data.rewards],
    }


def _renamed(row: dict[str, Any], columns: dict[str, str], path: str) -> dict[str, Any]:
    names = {theirs: ours for ours, theirs in columns.items()}
    missing = [theirs for theirs in names if theirs not in row]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r} (data.columns.{names[missing[0]]}); it has {', '.join(row)}")
    return {names.get(name, name): value for name, value in row.items()}
