"""A seeded tool that spoils a checkpoint in one way: bytes as a disk or a stranger leaves them, or whole nonsense.

The second kind carries a manifest that fits, as somebody who edits a checkpoint by hand would make it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from amft.checkpoints.manifest import MANIFEST, write_manifest

DEEP = "[" * 100_000


def spoil(checkpoint: Path, seed: int) -> str:
    """Spoil a checkpoint; the words say how. The same seed spoils it in the same way."""
    draw = random.Random(seed)
    kind = draw.choice([_bytes, _bytes, _file_kind, _manifest, _directory, _json, _json, _json, _tensors])
    return f"{seed} {kind.__name__[1:]}: {kind(checkpoint, draw)}"


def _files(checkpoint: Path) -> list[Path]:
    return sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != MANIFEST)


def _bytes(checkpoint: Path, draw: random.Random) -> str:
    path = draw.choice([*_files(checkpoint), checkpoint / MANIFEST])
    data = bytearray(path.read_bytes())
    how = draw.choice(["flip", "cut", "more", "empty", "zeros"])
    if how == "flip":
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif how == "cut":
        del data[draw.randrange(len(data)) :]
    elif how == "more":
        data += b"\n"
    else:
        data = bytearray(0 if how == "empty" else len(data))
    path.write_bytes(data)
    return f"{how} {path.name}"


def _file_kind(checkpoint: Path, draw: random.Random) -> str:
    path = draw.choice([*_files(checkpoint), checkpoint / MANIFEST])
    how = draw.choice(["gone", "folder", "pipe", "link", "pickle"])
    kept = checkpoint.parent.parent / f"kept-{path.name}"
    path.rename(kept)
    if how == "folder":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "link":
        path.symlink_to(kept)
    elif how == "pickle":
        kept.rename(path)
        torch.save({"a": torch.zeros(2)}, path.with_suffix(".pt"))
        _rehash(checkpoint, also=[path.with_suffix(".pt")])
    return f"{how} {path.name}"


def _manifest(checkpoint: Path, draw: random.Random) -> str:
    path = checkpoint / MANIFEST
    manifest = json.loads(path.read_text())
    how = draw.choice(["deep", "list", "number", "files", "entry", "outside", "version", "other spelling"])
    text: Any = {"deep": DEEP, "list": "[]", "number": "7"}.get(how)
    if text is None:
        name = draw.choice(sorted(manifest["files"]))
        if how == "files":
            manifest["files"] = draw.choice([[], None, 3, "x"])
        elif how == "entry":
            manifest["files"][name] = draw.choice([None, [], {"size": "x"}, {"size": -1, "sha256": 5}])
        elif how == "outside":
            manifest["files"]["../../config.json"] = manifest["files"][name]
        elif how == "version":
            manifest["format"] = draw.choice([0, 99, "1", None])
        text = json.dumps(manifest)
    path.write_text(text)
    return how


def _directory(checkpoint: Path, draw: random.Random) -> str:
    how = draw.choice(["zeros before its number", "another number", "a link"])
    if how == "a link":
        kept = checkpoint.parent.parent / "kept-checkpoint"
        checkpoint.rename(kept)
        checkpoint.symlink_to(kept, target_is_directory=True)
    else:
        checkpoint.rename(checkpoint.parent / ("step-006" if how.startswith("zeros") else "step-9"))
    return how


def _json(checkpoint: Path, draw: random.Random) -> str:
    """A value of another type, or a name that is missing, in the state."""
    path = checkpoint / "state.json"
    state = json.loads(path.read_text())
    holder, name = draw.choice(list(_places(state)))
    old = holder[name]
    if draw.random() < 0.25 and isinstance(holder, dict):
        del holder[name]
        said = f"no {name}"
    else:
        holder[name] = draw.choice(_nonsense(old))
        said = f"{name} {old!r} -> {holder[name]!r}"
    path.write_text(json.dumps(state))
    if draw.random() < 0.1:
        path.write_text(DEEP)
        said = "deep"
    _rehash(checkpoint)
    return said[:100]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield value, name
        yield from _places(inner)


def _nonsense(old: Any) -> list[Any]:
    """Values that cannot stand there."""
    if isinstance(old, bool):
        return ["x", None, [], 3]
    if isinstance(old, int | float):
        return ["x", [], {}, [[[]]]]
    if isinstance(old, str):
        return [5, [], {}]
    return ["x", 5, True]


def _tensors(checkpoint: Path, draw: random.Random) -> str:
    path = draw.choice([path for path in _files(checkpoint) if path.suffix == ".safetensors"])
    tensors = load_file(path)
    if not tensors:
        path.write_bytes(b"")
        _rehash(checkpoint)
        return f"empty {path.name}"
    name, how = draw.choice(sorted(tensors)), draw.choice(["gone", "shape", "more", "other file"])
    changes: dict[str, Callable[[], Any]] = {
        "gone": lambda: tensors.pop(name),
        "shape": lambda: tensors.update({name: torch.zeros(3, 2, 1, dtype=tensors[name].dtype)}),
        "more": lambda: tensors.update({"surplus": torch.zeros(2)}),
        "other file": lambda: tensors.clear(),
    }
    changes[how]()
    save_file(tensors, path, {"format": "pt"})
    _rehash(checkpoint)
    return f"{how} {name} in {path.name}"


def _rehash(checkpoint: Path, also: list[Path] | None = None) -> None:
    """A manifest that fits what is there; of a pickle, which is never written, by hand."""
    for path in also or []:
        path.rename(checkpoint.parent.parent / path.name)
    write_manifest(checkpoint)
    for path in also or []:
        shutil.move(checkpoint.parent.parent / path.name, path)
        from amft.checkpoints import manifest

        files = json.loads((checkpoint / MANIFEST).read_text())["files"]
        files[path.relative_to(checkpoint).as_posix()] = {"size": path.stat().st_size, "sha256": manifest._sha256(path)}
        (checkpoint / MANIFEST).write_text(manifest._text(files))
