"""Rows in TRL's dataset formats: where they come from, and whether they can be trained on. No torch.

    prompt-only         {"prompt": P, ...}                    what is explored
    prompt-completion   {"prompt": P, "completion": C, ...}   what is imitated; one set of these may serve both

P is a string or a conversation `[{"role": "user", "content": "..."}]`; C is of the same kind, a conversation of
one assistant message. All other columns go to the reward functions. Rows are numbered from 1 in messages.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..row_files import hub_name, read_hub, read_rows
from ..types import Row


def load_rows(source: str | Path | Iterable[Mapping[str, Any]], allow_download: bool = False) -> list[Row]:
    """All rows of a file, of a set on the hub, of a `datasets.Dataset` or of a list of dicts.

    Args:
        source: path of a JSONL, JSON (a list), Parquet or CSV file, or the rows; where downloads are allowed also
            `owner/name:split` or `owner/name:configuration:split` on the Hugging Face hub.
        allow_download: a name on the hub may be fetched.

    Raises:
        DataError: the file is missing, malformed or of another kind, or there are no rows.
    """
    if isinstance(source, str | Path):
        name, rows = str(source), _read_named(os.path.expanduser(source), allow_download)
    else:
        name, rows = f"the {type(source).__name__}", _read_object(source)
    if not rows:
        raise DataError(f"{name}: no rows; give at least one")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise DataError(f"{name} row {number}: is a {type(row).__name__}; make it an object with named columns")
    return [dict(row) for row in rows]


def _read_named(source: str, allow_download: bool) -> list[Any]:
    named = None if os.path.exists(source) else hub_name(source)
    if named is None:
        return read_rows(Path(source))
    name, configuration, split = named
    if not allow_download:
        raise DataError(
            f"{source}: no such file, and sets of the hub are fetched only for a recipe with allow_download: true"
        )
    if split is None:
        raise DataError(f"{source}: which split? write {source}:train, or {source}:configuration:train")
    return read_hub(name, configuration, split)


def _read_object(source: Any) -> list[Any]:
    datasets = sys.modules.get("datasets")  # nobody has a dataset of it who has not imported it
    if datasets is not None and isinstance(source, datasets.IterableDataset | datasets.IterableDatasetDict):
        raise DataError(
            f"the {type(source).__name__} streams, but rows are counted, checked and drawn many times in an order of "
            "the seed; give list(dataset.take(n)), or load it without streaming"
        )
    if isinstance(source, Mapping):
        keys = ", ".join(map(str, source))
        raise DataError(f"the {type(source).__name__} (keys: {keys}) is not rows; give one split, or a list of dicts")
    if hasattr(source, "to_list"):
        return source.to_list()
    if isinstance(source, list | tuple):
        return list(source)
    raise DataError(f"a dataset must be a path, a datasets.Dataset or a list of dicts, not {type(source).__name__}")
