"""The checkpoints a run has: which is the newest, which one it ended with, which go. No torch.

A checkpoint with its optimizer can be resumed. One without it (`checkpoint.only_model`, or `keep_model` has been here)
is a model and the state beside it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from ..errors import CheckpointError
from ..runs import RunDirectory
from .manifest import MANIFEST, drop_files, read_manifest, verify
from .saved_state import STATE, SavedState, saved_state_of

OPTIMIZER = "optimizer.safetensors"
SAVING, REPLACED, DELETING = ".saving-", ".replaced-", ".deleting-"


class Skipped(NamedTuple):
    """A checkpoint that was passed over."""

    path: Path
    reason: str


class Newest(NamedTuple):
    """The newest sound checkpoint, or None, and the newer ones that are not sound."""

    path: Path | None
    skipped: list[Skipped]


def newest_checkpoint(checkpoints: Path, check: Callable[[Path], object] | None = None) -> Newest:
    """The newest `step-N` that passes the check, with the newer ones passed over and why. Changes nothing.

    Args:
        checkpoints: a run's directory of them.
        check: raises `CheckpointError` for one that is not to be used; default: `check_whole`.
    """
    skipped = []
    for path in reversed(list_checkpoints(checkpoints)):
        try:
            (check or check_whole)(path)
        except CheckpointError as error:
            skipped.append(Skipped(path, str(error)))
        else:
            return Newest(path, skipped)
    return Newest(None, skipped)


def check_whole(checkpoint: Path) -> SavedState:
    """Its state, after every file was compared with the manifest.

    Raises:
        CheckpointError: a file is missing or damaged, or the state is not one of this step.
    """
    verify(checkpoint)
    return saved_state_of(checkpoint)


def list_checkpoints(checkpoints: Path) -> list[Path]:
    """Every `step-N` directory, sound or not, in order of N."""
    if not checkpoints.is_dir():
        return []
    found = [path for path in checkpoints.iterdir() if re.fullmatch(r"step-[1-9]\d{0,17}", path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def prune(checkpoints: Path, keep: int, protect: Iterable[Path] = ()) -> list[Path]:
    """Delete all but the `keep` newest checkpoints; protected ones and ones without a manifest are not counted.

    Returns:
        The paths that were deleted.

    Raises:
        CheckpointError: one cannot be deleted.
    """
    protected = {Path(path).resolve() for path in protect}
    complete = [path for path in list_checkpoints(checkpoints) if (path / MANIFEST).is_file()]
    free = [path for path in complete if path.resolve() not in protected]
    removed = free[: max(len(free) - keep, 0)]
    for path in removed:
        try:
            doomed = path.rename(path.parent / f"{DELETING}{path.name}")
            shutil.rmtree(doomed)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be deleted ({error.strerror})") from error
    return removed


def final_checkpoint(run: RunDirectory, check: Callable[[Path], object] = verify) -> Path:
    """The checkpoint a run ended with: the newest sound one, or the best one with `checkpoint.keep_best`.

    Args:
        run: its directory.
        check: as in `newest_checkpoint`.

    Raises:
        CheckpointError: none is complete.
    """
    newest = newest_checkpoint(run.checkpoints, check).path
    if newest is None:
        raise CheckpointError(f"{run.path}: the run has no complete checkpoint yet")
    best = saved_state_of(newest).best if run.read("config").get("checkpoint", {}).get("keep_best") else None
    return run.checkpoints / f"step-{best.step}" if best else newest


def is_resumable(checkpoint: Path) -> bool:
    """Whether it holds more than the model.

    Raises:
        CheckpointError: its manifest is missing or damaged.
    """
    return OPTIMIZER in read_manifest(checkpoint)


def keep_model(run: RunDirectory) -> None:
    """Of all checkpoints of a finished run, keep the model it ended with; cut off at any moment, it can be repeated.

    Raises:
        CheckpointError: that one is missing or damaged, so the others stay; or something cannot be deleted.
    """
    found = list_checkpoints(run.checkpoints)
    if not found:
        return
    kept = found[0]
    if len(found) > 1:
        kept = final_checkpoint(run)
        verify(kept)
    drop_files(kept, lambda name: name == STATE or name.startswith("model/"))
    prune(run.checkpoints, keep=0, protect=[kept])


def clean_leftovers(checkpoints: Path) -> None:
    """Finish or undo what a killed process left half done. Only the process that writes may call it."""
    for path in sorted(checkpoints.glob(".*-step-*")):
        if path.name.startswith(REPLACED):
            original = path.parent / path.name.removeprefix(REPLACED)
            if not original.exists():  # killed between the two renames of `_swap_in`
                path.rename(original)
                continue
        if path.name.startswith((SAVING, REPLACED, DELETING)):
            shutil.rmtree(path)
