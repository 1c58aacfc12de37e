"""Rows and reward functions of the user's own, as a recipe names them."""

from __future__ import annotations

from typing import Any

from ..errors import DataError
from ..settings.recipe import DataSpec, Recipe
from ..types import RewardFunction


def load_own_data(data: DataSpec, recipe: Recipe) -> dict[str, Any]:
    """The data of a recipe as the trainer's arguments.

    Raises:
        DataError, RewardError: a file or a function is missing or malformed.
    """

    def rows(path: str | None) -> list[dict[str, Any]] | None:
        return None if path is None else renamed_rows(path, data.columns, recipe.allow_download)

    return {
        "train_dataset": rows(data.train),
        "demonstrations": rows(data.demonstrations),
        "val_dataset": rows(data.val),
        "eval_dataset": rows(data.test),
        "reward_funcs": [
            load_own_reward(reference, recipe.rewards.isolate, recipe.reward_timeout) for reference in data.rewards
        ],
    }


def load_own_reward(reference: str, isolate: bool, seconds: float | None = None) -> RewardFunction:
    """The function behind `path/to/file.py:function`, in a process of its own where that is asked for.

    Raises:
        RewardError: no such file or function.
    """
    from ..data.isolated_reward import IsolatedReward
    from ..data.rewards import load_reward

    if not isolate:
        return load_reward(reference)
    return IsolatedReward(reference) if seconds is None else IsolatedReward(reference, seconds)


def renamed_rows(path: str, columns: dict[str, str], allow_download: bool) -> list[dict[str, Any]]:
    """The rows of a file or hub name, the columns of `data.columns` under our names.

    Raises:
        DataError: a row lacks such a column, or the file is not one of rows.
    """
    from ..data.dataset import load_rows

    return [_renamed(row, columns, path) for row in load_rows(path, allow_download)]


def _renamed(row: dict[str, Any], columns: dict[str, str], path: str) -> dict[str, Any]:
    names = {theirs: ours for ours, theirs in columns.items()}
    missing = [theirs for theirs in names if theirs not in row]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r} (data.columns.{names[missing[0]]}); it has {', '.join(row)}")
    return {names.get(name, name): value for name, value in row.items()}
