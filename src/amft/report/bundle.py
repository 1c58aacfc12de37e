"""A run for a bug report: its settings and numbers in one archive, without texts, weights, names and secrets."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..disk import is_regular, replace_bytes
from ..errors import RunError
from ..privacy import anonymous, private
from ..runs import RunDirectory, read_json

RECORDS = ("config.json", "env.json")
NUMBERS = ("metrics.jsonl", "timings.jsonl", "events.jsonl", "scores.jsonl")
TEXTS = ("samples.jsonl",)
TEXT_FIELDS = {"texts", "ids", "prompt", "answer", "completion", "completions", "demonstration"}
"""Of scores and incidents: what the model or the data said."""
STATES = 8
"""Manifests and states of so many of the newest checkpoints."""


def write_bundle(run: str | Path, output: str | Path | None = None, with_texts: bool = False) -> tuple[Path, list[str]]:
    """Write a `.tar.gz` of what a run recorded about itself.

    Left out: weights, optimizer, the data, and, unless `with_texts`, everything that the model or the data said. Home
    paths become `~`; secrets, and the names of the user and of the machine, are hidden.

    Args:
        run: its directory.
        output: the archive; default: `NAME-bundle.tar.gz` beside the run. It must not exist.
        with_texts: samples, answers and the texts of incidents too.

    Returns:
        The archive, and the names in it.

    Raises:
        RunError: there is no run, or the archive exists or cannot be written.
    """
    opened = RunDirectory.open(run)
    home = opened.path.resolve()
    target = Path(output) if output is not None else home.parent / f"{home.name}-bundle.tar.gz"
    if target.exists():
        raise RunError(f"{target}: exists already; choose another --output")
    names, buffer = [], io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in _parts(opened, with_texts):
            content = anonymous(text).encode()
            entry = tarfile.TarInfo(f"bundle/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
            names.append(name)
    replace_bytes(target, buffer.getvalue(), cure="choose another --output")
    return target, names


def _parts(run: RunDirectory, with_texts: bool) -> Iterator[tuple[str, str]]:
    for name in RECORDS:
        if is_regular(run.path / name):
            yield name, _json(private(read_json(run.path / name)))
    for name in NUMBERS + (TEXTS if with_texts else ()):
        if is_regular(run.path / name):
            rows = (_told(row, with_texts) for row in run.rows(name.removesuffix(".jsonl")))
            yield name, "".join(json.dumps(private(row)) + "\n" for row in rows)
    for path in sorted((run.path / "incidents").glob("*.json")):
        yield f"incidents/{path.name}", _json(private(_told(read_json(path), with_texts)))
    for path in sorted(run.checkpoints.glob("step-*/*.json"), key=lambda path: path.stat().st_mtime)[-2 * STATES :]:
        if is_regular(path):
            yield path.relative_to(run.path).as_posix(), _json(private(read_json(path)))


def _told(row: dict[str, Any], with_texts: bool) -> dict[str, Any]:
    return row if with_texts else {name: value for name, value in row.items() if name not in TEXT_FIELDS}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
