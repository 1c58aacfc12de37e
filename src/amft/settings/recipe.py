"""A recipe: one YAML file that says which model, task or data, and settings make a run. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field, model_validator

from ..balance.registry import build_balance, code_in
from ..errors import ConfigError, TaskError
from ..privacy import HIDDEN
from ..runs import RunDirectory
from .config import AMFTConfig
from .recipe_file import find_recipe, override, read_mapping, spelled_out
from .strict_model import StrictModel, unrepresentable
from .validation_errors import nearest

if TYPE_CHECKING:
    from ..tasks.base import Task


class TaskSpec(StrictModel):
    """A task by its versioned id; every other key is an option of the task's constructor, which checks it."""

    model_config = ConfigDict(extra="allow")

    id: str = Field(min_length=1)

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    def build(self) -> Task:
        """The task.

        Raises:
            TaskError: it or one of its options does not exist.
        """
        from ..tasks.guest_task import hosted
        from ..tasks.registry import build_task

        return hosted(build_task(self.id, **self.options))


class DataSpec(StrictModel):
    """The user's own prompts, demonstrations and reward functions. Paths are relative to the current directory."""

    train: str = Field(min_length=1, description="JSONL, JSON, Parquet or CSV with a column `prompt`, or a hub name")
    demonstrations: str | None = Field(None, description="rows with `prompt` and `completion`; null: those of train")
    rewards: list[str] = Field(default_factory=list, description='each "path/to/file.py:function"')
    val: str | None = Field(None, description="rows to validate on; null: one prompt in ten of train, at most 64")
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

    @property
    def code(self) -> list[str]:
        """The files of one's own that this recipe runs: rewards, rule and its parts, task."""
        task = [self.task.id] if self.task is not None and ".py:" in self.task.id else []
        return [*task, *(self.data.rewards if self.data is not None else ()), *code_in(self.balance)]

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, values: Any) -> Any:
        return spelled_out(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _one_source(self) -> Recipe:
        if (self.task is None) == (self.data is None):
            raise ValueError("task, data: give exactly one of them (null removes the other)")
        if self.rewards.isolate and self.data is None:
            raise ValueError("rewards.isolate: a task grades by itself, only data.rewards are functions; leave it out")
        return self


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `key=value` overrides in order, the later one winning. None of its code is run.

    Args:
        path: a YAML file, the name of a shipped recipe, or the directory of a run that shall go on.
        overrides: `a.b=c` with `c` in YAML, so `learning_rate=1e-4` is a number and `task=null` removes the task.

    Raises:
        ConfigError: the file is missing or not YAML, a key is unknown, or a value is not allowed.
    """
    if wrong := unrepresentable(str(path)):
        raise ConfigError(f"recipe: {wrong}")
    tree = spelled_out(_settings_of_run(path) if is_run(path) else read_mapping(find_recipe(str(path))))
    for text in overrides:
        override(tree, text)
    return Recipe(**tree)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """`read_recipe`, with its rule and its task tried out: code of one's own is run.

    Raises:
        ConfigError: as `read_recipe`, or the rule, a part or a setting of them is not allowed.
        TaskError: the task or one of its options does not exist.
    """
    recipe = read_recipe(path, overrides)
    check_parts(recipe)
    return recipe


def check_parts(recipe: Recipe) -> None:
    """Build a recipe's rule and task, to see whether they can be.

    Raises:
        ConfigError, TaskError: as `load_recipe`.
    """
    build_balance(dict(recipe.balance))
    if recipe.task is not None:
        check_known_splits(recipe.task.build(), recipe.eval.test_splits or ())


def is_run(path: str | Path) -> bool:
    """Whether a directory is one that `amft train` (or a trainer) writes."""
    return (Path(path) / "config.json").is_file() and (Path(path) / "checkpoints").is_dir()


def _settings_of_run(path: str | Path) -> dict[str, Any]:
    saved = RunDirectory.open(path).read("config")
    if saved.get("task") is None and saved.get("data") is None:
        raise ConfigError(f"{path}: this run was begun from Python; go on there, with trainer.train(resume=True)")
    kept = {name: saved[name] for name in Recipe.model_fields if name in saved}
    if HIDDEN in str(kept):
        raise ConfigError(f"{path}: its config.json hides a secret; go on with the recipe file that has it, --resume")
    return kept | {"output_dir": str(path)}


def check_known_splits(task: Task, splits: Sequence[str]) -> None:
    """Refuse a split that the task has not.

    Raises:
        TaskError: it does not exist; the line names the nearest one.
    """
    for split in splits:
        if split not in task.splits:
            raise TaskError(f"split {split!r} of {task.id} does not exist; {nearest(split, [*task.splits])}")
