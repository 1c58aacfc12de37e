"""From a recipe to its trainer, its data files read first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..settings.config import AMFTConfig
from ..settings.recipe import DataSpec, Recipe
from ..types import RewardFunction
from .models import model_directory

if TYPE_CHECKING:
    from ..training.trainer import AMFTTrainer


def build_trainer(recipe: Recipe) -> AMFTTrainer:
    """The trainer of a recipe; data files are read before torch is imported, so that their errors come at once."""
    model = model_directory(recipe.model, recipe.allow_download)
    config = AMFTConfig(**{name: getattr(recipe, name) for name in AMFTConfig.model_fields})
    described = recipe.model_dump()
    if recipe.task is not None:
        task = recipe.task.build()
        from ..training.trainer import AMFTTrainer

        return AMFTTrainer(model, config, task=task, recipe=described)
    assert recipe.data is not None
    data = _load_data(recipe.data, recipe)
    from ..training.trainer import AMFTTrainer

    return AMFTTrainer(model, config, recipe=described, **data)


def _load_data(data: DataSpec, recipe: Recipe) -> dict[str, Any]:
    from ..data.dataset import load_rows

    def rows(path: str | None) -> list[dict[str, Any]] | None:
        if path is None:
            return None
        return [_renamed(row, data.columns, path) for row in load_rows(path, recipe.allow_download)]

    return {
        "train_dataset": rows(data.train),
        "demonstrations": rows(data.demonstrations),
        "val_dataset": rows(data.val),
        "eval_dataset": rows(data.test),
        "reward_funcs": [_reward(reference, recipe) for reference in data.rewards],
    }


def _reward(reference: str, recipe: Recipe) -> RewardFunction:
    from ..data.isolated_reward import IsolatedReward
    from ..data.rewards import load_reward

    return IsolatedReward(reference, recipe.reward_timeout) if recipe.rewards.isolate else load_reward(reference)


def _renamed(row: dict[str, Any], columns: dict[str, str], path: str) -> dict[str, Any]:
    names = {theirs: ours for ours, theirs in columns.items()}
    missing = [theirs for theirs in names if theirs not in row]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r} (data.columns.{names[missing[0]]}); it has {', '.join(row)}")
    return {names.get(name, name): value for name, value in row.items()}
