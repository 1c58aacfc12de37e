"""`output_dir/model`: the model a run ended with, where people look for it, with its card."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ..report.card import write_card
from ..runs import RunDirectory


def place_final_model(run: RunDirectory, step: int) -> Path:
    """Put the model of `checkpoints/step-N` into `model` beside it, whole or not at all; one already there is replaced.

    Weights are hard links where the disk has them, so that they take no room twice.
    """
    source, target = run.checkpoints / f"step-{step}" / "model", run.path / "model"
    aside, old = run.path / ".model.aside", run.path / ".model.old"
    for left in (aside, old):
        shutil.rmtree(left, ignore_errors=True)
    shutil.copytree(source, aside, copy_function=_linked)
    write_card(run.path, aside)
    if target.exists():
        target.rename(old)
    aside.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return target


def _linked(source: str, target: str) -> str:
    if source.endswith(".safetensors"):
        try:
            os.link(source, target)
            return target
        except OSError:  # a file system without hard links
            pass
    return shutil.copy2(source, target)
