"""Adaptive Meta Fine-Tuning: imitation and exploration in one stage, with a learned balance.

Public names are imported on first use, so that `import amft` stays fast and imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .assembly.training import build_trainer as build_trainer
    from .balance.registry import build_balance as build_balance
    from .errors import AMFTError as AMFTError
    from .settings.config import AMFTConfig as AMFTConfig
    from .settings.recipe import Recipe as Recipe
    from .settings.recipe import load_recipe as load_recipe
    from .tasks.registry import build_task as build_task
    from .training.trainer import AMFTTrainer as AMFTTrainer

    __version__: str

_HOMES = {
    "AMFTConfig": "settings.config",
    "AMFTError": "errors",
    "AMFTTrainer": "training.trainer",
    "Recipe": "settings.recipe",
    "build_balance": "balance.registry",
    "build_task": "tasks.registry",
    "build_trainer": "assembly.training",
    "load_recipe": "settings.recipe",
}

__all__ = [
    "AMFTConfig",
    "AMFTError",
    "AMFTTrainer",
    "Recipe",
    "__version__",
    "build_balance",
    "build_task",
    "build_trainer",
    "load_recipe",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("amft")
    if name not in _HOMES:
        raise AttributeError(f"module 'amft' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
