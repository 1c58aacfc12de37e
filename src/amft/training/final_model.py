"""`output_dir/model`: the model a run ended with, where people look for it, with its card; and the way to the hub."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ..disk import disk_guard
from ..errors import ModelError
from ..models.hub import check_hub, push_folder
from ..runs import RunDirectory
from ..settings.config import AMFTConfig


def place_final_model(run: RunDirectory, step: int) -> Path:
    """Put the model of `checkpoints/step-N` into `model` beside it, whole or not at all; one already there is replaced.

    Weights are hard links where the disk has them, so that they take no room twice.

    Raises:
        RunError: the disk is full or refuses.
    """
    from ..report.card import write_card  # draws a picture: matplotlib is not needed before the end of a run

    source, target = run.checkpoints / f"step-{step}" / "model", run.path / "model"
    aside, old = run.path / ".model.aside", run.path / ".model.old"
    for left in (aside, old):
        shutil.rmtree(left, ignore_errors=True)
    with disk_guard(target):
        shutil.copytree(source, aside, copy_function=_linked)
        write_card(run.path, aside)
        if target.exists():
            target.rename(old)
        aside.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return target


def check_target(config: AMFTConfig) -> None:
    """Where a run shall push to, made ready before the first step.

    Raises:
        ModelError: it cannot be.
    """
    if config.push_to_hub:
        check_hub(_target(config), config.hub_private_repo)


def push_final_model(model: Path, config: AMFTConfig, event: Callable[[int, str, str], None]) -> str | None:
    """Push the final model where the settings ask for it; None where they do not.

    Returns:
        Where it is now; or why it is not there, for a hub that fails must not take the end of a run with it.
    """
    if not config.push_to_hub:
        return None
    try:
        return f"pushed: {push_folder(model, _target(config), config.hub_private_repo)}"
    except ModelError as error:
        event(config.max_steps, "hub", str(error))
        return f"not pushed: {error}; later: amft push {model.parent} {_target(config)}"


def _target(config: AMFTConfig) -> str:
    """As in TRL."""
    return config.hub_model_id or Path(config.output_dir).name


def _linked(source: str, target: str) -> str:
    if source.endswith(".safetensors"):
        try:
            os.link(source, target)
            return target
        except OSError:  # a file system without hard links
            pass
    return shutil.copy2(source, target)
