"""From a recipe to its trainer, its data files read first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..settings.config import AMFTConfig
from ..settings.recipe import Recipe
from .models import model_directory
from .own_data import load_own_data

if TYPE_CHECKING:
    from ..training.trainer import AMFTTrainer


def build_trainer(recipe: Recipe, reward_funcs: Sequence[Callable[..., Any]] | None = None) -> AMFTTrainer:
    """The trainer of a recipe; data files are read before torch is imported, so that their errors come at once.

    Args:
        recipe: what to train on, and how.
        reward_funcs: in place of those of the recipe's data, for who must not call them; a task keeps its grader.
    """
    model = model_directory(recipe.model, recipe.allow_download)
    config = AMFTConfig(**{name: getattr(recipe, name) for name in AMFTConfig.model_fields})
    described = recipe.model_dump()
    if recipe.task is not None:
        task = recipe.task.build()
        from ..training.trainer import AMFTTrainer

        return AMFTTrainer(model, config, task=task, recipe=described)
    assert recipe.data is not None
    data = load_own_data(recipe.data, recipe)
    if reward_funcs is not None:
        data["reward_funcs"] = [*reward_funcs]
    from ..training.trainer import AMFTTrainer

    return AMFTTrainer(model, config, recipe=described, **data)
