"""Checkpoints that are whole or are not there: safetensors and JSON, written aside, hashed, then renamed.

    step-N/NAME.safetensors   one file per group of tensors; `optimizer` is in all that can be resumed, see `upkeep`
    step-N/state.json         everything that is not a tensor
    step-N/model/             a Hugging Face model folder, when an exporter was given
    step-N/shards/            safetensors files of a model in shards, see `shards`
    step-N/manifest.json      size and SHA-256 of every other file; written last

No pickle is ever written or read. One process writes; readers need no lock.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..disk import disk_guard
from ..errors import CheckpointError
from .checkpoint_retention import REPLACED, SAVING, clean_leftovers
from .manifest import fsync, verify, write_manifest
from .saved_state import STATE

Tensors = dict[str, dict[str, Tensor]]


def save_checkpoint(
    directory: Path,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    export: Callable[[Path], None] | None = None,
    folders: Mapping[str, Path] | None = None,
) -> None:
    """Write one checkpoint; at every moment the directory holds either all of it or what was there before.

    Args:
        directory: `.../checkpoints/step-N`; an older checkpoint of that name is replaced.
        tensors: file name without suffix -> tensor name -> tensor of any dtype, device or memory layout.
        state: JSON values with string keys.
        export: writes a Hugging Face model folder into the (empty) directory it is given.
        folders: name -> a folder beside `directory` that is moved in under that name.

    Raises:
        CheckpointError: the disk is full or refuses; nothing that was there before has changed.
    """
    aside = directory.parent / f"{SAVING}{directory.name}"
    try:
        with disk_guard(directory, CheckpointError, "older checkpoints are as they were; free some space and resume"):
            directory.parent.mkdir(parents=True, exist_ok=True)
            clean_leftovers(directory.parent)
            aside.mkdir()
            for name, folder in (folders or {}).items():
                folder.rename(aside / name)
            _write_contents(aside, tensors, state, export)
            _swap_in(aside, directory)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def load_checkpoint(directory: Path) -> tuple[Tensors, dict[str, Any]]:
    """Read one checkpoint back, bit for bit, after checking every file against the manifest.

    Copy the tensors into the trainer's own (`copy_`, `load_state_dict`): these lie unaligned in a mapped file.

    Returns:
        `(tensors, state)` as they were given to `save_checkpoint`, tensors on the CPU.

    Raises:
        CheckpointError: a file is missing, damaged or a pickle; the message names it.
    """
    files = verify(directory)
    tensors: Tensors = {}
    try:
        for name in files:
            if name.endswith(".safetensors") and "/" not in name:
                tensors[name.removesuffix(".safetensors")] = load_file(directory / name)
        state = json.loads((directory / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"{directory}: cannot be read ({error})") from error
    return tensors, state


def _write_contents(
    aside: Path,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    export: Callable[[Path], None] | None,
) -> None:
    for stem, group in tensors.items():
        save_file(_plain_tensors(group), aside / f"{stem}.safetensors")
    (aside / STATE).write_text(_dumps(state), encoding="utf-8")
    if export is not None:
        (aside / "model").mkdir()
        export(aside / "model")
    for path in (path for path in aside.rglob("*") if path.is_file()):
        path.chmod(aside.stat().st_mode & 0o666)  # safetensors makes files that only their owner can read
    write_manifest(aside)


def _swap_in(aside: Path, directory: Path) -> None:
    """Rename into place. One already there steps aside first; after a kill `clean_leftovers` brings it back."""
    replaced = directory.parent / f"{REPLACED}{directory.name}"
    if directory.exists():
        directory.rename(replaced)
    try:
        aside.rename(directory)
    except OSError:
        if replaced.exists():
            replaced.rename(directory)
        raise
    fsync(directory.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _plain_tensors(group: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as safetensors wants them: on the CPU, contiguous, no two in one storage."""
    plain: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in group.items():
        value = tensor.detach().cpu().contiguous()
        storage = value.untyped_storage().data_ptr()
        plain[name] = value.clone() if storage in storages else value
        storages.add(storage)
    return plain


def _dumps(state: Mapping[str, Any]) -> str:
    _refuse_other_keys(state)
    return json.dumps(state, indent=1)


def _refuse_other_keys(value: Any) -> None:
    """JSON would turn the key 1 into "1" without a word."""
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"checkpoint state has keys that are not strings: {list(value)[:5]}")
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            _refuse_other_keys(item)
