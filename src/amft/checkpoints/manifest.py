"""A directory that can prove it is whole: a manifest with the size and SHA-256 of every file, written last."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..disk import is_regular
from ..errors import CheckpointError

FORMAT = 1
MANIFEST_BYTES = 2**24
"""Of a manifest; one line a file takes about a hundred."""
MANIFEST = "manifest.json"
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}


def write_manifest(directory: Path) -> None:
    """Push every file to the disk, then list them all in `manifest.json`, then push that.

    Raises:
        CheckpointError: one of them is a pickle by its name.
        OSError: the disk is full or refuses.
    """
    files = {}
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        name = path.relative_to(directory).as_posix()
        _refuse_pickle(path)
        fsync(path)
        files[name] = {"size": path.stat().st_size, "sha256": _sha256(path)}
    for folder in (path for path in directory.rglob("*") if path.is_dir()):
        fsync(folder)
    (directory / MANIFEST).write_text(_text(files), encoding="utf-8")
    fsync(directory / MANIFEST)
    fsync(directory)


def verify(directory: Path) -> list[str]:
    """The names of a checkpoint's files, each of them compared with the manifest.

    Raises:
        CheckpointError: naming the first file that is missing, damaged or not allowed.
    """
    files = read_manifest(directory)
    for name, expected in files.items():
        path = directory / name
        _refuse_pickle(path)
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise CheckpointError(f"{directory / MANIFEST}: names a file outside it ({name}); do not use it")
        if not path.exists():
            raise CheckpointError(f"{path}: missing from the checkpoint; use an older one")
        if not is_regular(path) or any((directory / part).is_symlink() for part in Path(name).parents):
            raise CheckpointError(f"{path}: a link or not a plain file, which is not written here; use an older one")
        if path.stat().st_size != expected["size"] or _sha256(path) != expected["sha256"]:
            raise CheckpointError(f"{path}: damaged (size or SHA-256 differ from {MANIFEST}); use an older checkpoint")
    return list(files)


def read_manifest(directory: Path) -> dict[str, dict[str, Any]]:
    """Name of every file -> its size and SHA-256, which are not compared with the files here.

    Raises:
        CheckpointError: the manifest is missing or damaged, or of another format.
    """
    path = directory / MANIFEST
    if not directory.is_dir() or directory.is_symlink():
        raise CheckpointError(f"{directory}: no such checkpoint (a link to one is none)")
    if not path.exists():
        raise CheckpointError(f"{path}: missing, so the checkpoint is incomplete; use an older one")
    if not is_regular(path, MANIFEST_BYTES):
        raise CheckpointError(f"{path}: a link, not a plain file, or far too large; use an older checkpoint")
    try:
        text = path.read_bytes().decode("utf-8")
        manifest = json.loads(text)
        files, version = manifest["files"], manifest["format"]
        whole = text == _text(files) and all(_is_entry(entry) for entry in files.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CheckpointError(f"{path}: damaged; use an older checkpoint") from None
    if version != FORMAT:
        raise CheckpointError(f"{path}: format {version!r}, this version reads {FORMAT}; use the one that wrote it")
    if not whole:
        raise CheckpointError(f"{path}: damaged (it differs from its own SHA-256); use an older checkpoint")
    return files


def drop_files(directory: Path, keep: Callable[[str], bool]) -> None:
    """Delete files, out of the manifest first, so that the directory is whole at every moment; it can be repeated.

    Args:
        keep: told a file's name in the manifest, whether it stays.

    Raises:
        CheckpointError: the manifest is missing or damaged, or the disk refuses.
    """
    files = read_manifest(directory)
    kept = {name: facts for name, facts in files.items() if keep(name)}
    try:
        if kept != files:
            aside = directory / f".{MANIFEST}"
            aside.write_text(_text(kept), encoding="utf-8")
            fsync(aside)
            aside.replace(directory / MANIFEST)
            fsync(directory)
        for path in sorted(directory.rglob("*"), reverse=True):  # what is in a folder before the folder
            if path.is_dir():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.relative_to(directory).as_posix() not in {*kept, MANIFEST}:
                path.unlink()
    except OSError as error:
        raise CheckpointError(f"{directory}: files in it cannot be deleted ({error.strerror})") from error


def fsync(path: Path) -> None:
    """Push one file or directory to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _text(files: Mapping[str, Mapping[str, Any]]) -> str:
    """The manifest's only spelling; it carries its own hash, so that no flipped bit in it goes unseen."""
    own = hashlib.sha256(json.dumps([FORMAT, files], sort_keys=True).encode()).hexdigest()
    return json.dumps({"format": FORMAT, "files": files, "sha256": own}, indent=1, sort_keys=True) + "\n"


def _is_entry(entry: Any) -> bool:
    return entry.keys() == {"size", "sha256"} and type(entry["size"]) is int and type(entry["sha256"]) is str


def _refuse_pickle(path: Path) -> None:
    if path.suffix.lower() in PICKLES:
        raise CheckpointError(f"{path}: pickle files are not allowed in a checkpoint; write safetensors")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
