"""Rows in TRL's dataset formats: where they come from, and whether they can be trained on. No torch.

    prompt-only         {"prompt": P, ...}                    what is explored
    prompt-completion   {"prompt": P, "completion": C, ...}   what is imitated; one set of these may serve both

P is a string or a conversation `[{"role": "user", "content": "..."}]`; C is of the same kind, a conversation of
one assistant message. All other columns go to the reward functions. Rows are numbered from 1 in messages.
"""

from __future__ import annotations

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
        name, rows = str(source), _read_named(str(source), allow_download)
    else:
        name, rows = f"the {type(source).__name__}", _read_object(source)
    if not rows:
        raise DataError(f"{name}: no rows; give at least one")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise DataError(f"{name} row {number}: is a {type(row).__name__}; make it an object with named columns")
    return [dict(row) for row in rows]


def check_prompts(rows: list[Row], name: str = "rl_dataset") -> None:
    """Every row has a `prompt` to answer.

    Args:
        rows: rows as `load_rows` gives them.
        name: how messages call the dataset.

    Raises:
        DataError: naming the row, the column and the fix.
    """
    if not rows:
        raise DataError(f"{name}: no rows; give at least one")
    for number, row in enumerate(rows, 1):
        where = f"{name} row {number}"
        prompt = _text_or_messages(row, "prompt", where)
        if isinstance(prompt, list) and prompt[-1]["role"] == "assistant":
            raise DataError(f"{where}: prompt ends with an assistant message; move that message to completion")


def check_demonstrations(rows: list[Row], name: str = "sft_dataset") -> None:
    """Every row has a `prompt` and the `completion` to imitate, both plain or both conversational.

    Args:
        rows: rows as `load_rows` gives them; extra columns are fine, so one joined set serves both branches.
        name: how messages call the dataset.

    Raises:
        DataError: naming the row, the column and the fix.
    """
    check_prompts(rows, name)
    for number, row in enumerate(rows, 1):
        where = f"{name} row {number}"
        completion = _text_or_messages(row, "completion", where)
        if type(completion) is not type(row["prompt"]):
            raise DataError(f"{where}: prompt and completion differ in kind; make both strings or both conversations")
        if isinstance(completion, list) and (len(completion) != 1 or completion[0]["role"] != "assistant"):
            raise DataError(f"{where}: completion must be one assistant message; move earlier turns to prompt")


def _text_or_messages(row: Row, column: str, where: str) -> Any:
    value = row.get(column)
    if column not in row:
        raise DataError(f"{where}: no column {column!r} (columns: {', '.join(row)}); rename the one that holds it")
    if isinstance(value, str):
        _check_unicode(value, column, where)
        if not value.strip():
            raise DataError(f"{where}: {column} is empty; fill it or drop the row")
        return value
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: {column} must be a non-empty string or list of messages, not {_shown(value)}")
    for message in value:
        if not isinstance(message, Mapping) or not all(
            isinstance(message.get(key), str) for key in ("role", "content")
        ):
            raise DataError(f'{where}: {column} needs messages like {{"role": "user", "content": "text"}}')
        _check_unicode(message["content"], column, where)
    if not value[-1]["content"].strip():
        raise DataError(f"{where}: the last message of {column} has no content; fill it or drop the row")
    return value


def _check_unicode(text: str, column: str, where: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        place = f"character {error.start + 1} of {column}"
        raise DataError(
            f"{where}: {place} is half of a surrogate pair, which is no text; mend or drop the row"
        ) from None


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}"


def _read_named(source: str, allow_download: bool) -> list[Any]:
    named = None if Path(source).exists() else hub_name(source)
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
