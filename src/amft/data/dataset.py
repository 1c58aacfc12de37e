"""Rows in TRL's dataset formats: where they come from, and whether they can be trained on. No torch.

    prompt-only         {"prompt": P, ...}                    what is explored
    prompt-completion   {"prompt": P, "completion": C, ...}   what is imitated; one set of these may serve both

P is a string or a conversation `[{"role": "user", "content": "..."}]`; C is of the same kind, a conversation of
one assistant message. All other columns go to the reward functions. Rows are numbered from 1 in messages.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..types import Row

READERS = ".jsonl, .json, .parquet or .csv"


def load_rows(source: str | Path | Iterable[Mapping[str, Any]]) -> list[Row]:
    """All rows of a file, of a `datasets.Dataset` or of a list of dicts.

    Args:
        source: path of a JSONL, JSON (a list), Parquet or CSV file (the last two need pyarrow), or the rows.

    Raises:
        DataError: the file is missing, malformed or of another kind, or there are no rows.
    """
    if isinstance(source, str | Path):
        name, rows = str(source), _read_file(Path(source))
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
    if not value[-1]["content"].strip():
        raise DataError(f"{where}: the last message of {column} has no content; fill it or drop the row")
    return value


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}"


def _read_object(source: Any) -> list[Any]:
    if isinstance(source, Mapping):
        keys = ", ".join(map(str, source))
        raise DataError(f"the {type(source).__name__} (keys: {keys}) is not rows; give one split, or a list of dicts")
    if hasattr(source, "to_list"):
        return source.to_list()
    if isinstance(source, list | tuple):
        return list(source)
    raise DataError(f"a dataset must be a path, a datasets.Dataset or a list of dicts, not {type(source).__name__}")


def _read_file(path: Path) -> list[Any]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the path of a {READERS} file")
    try:
        match path.suffix.lower():
            case ".jsonl":
                return _read_jsonl(path)
            case ".json":
                return _read_json(path)
            case ".parquet" | ".csv":
                return _read_table(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    raise DataError(f"{path}: unknown kind of file; convert it to {READERS}")


def _read_jsonl(path: Path) -> list[Any]:
    rows = []
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except ValueError as error:
                    raise DataError(f"{path} line {number}: not JSON ({error}); each line must be one object") from None
    return rows


def _read_json(path: Path) -> list[Any]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not JSON ({error}); name it .jsonl if each line is one object") from None
    if not isinstance(rows, list):
        raise DataError(f"{path}: holds one {type(rows).__name__}; make it a list of objects")
    return rows


def _read_table(path: Path) -> list[Any]:
    try:
        import pyarrow
        from pyarrow import csv, parquet
    except ImportError:
        raise DataError(f"{path}: reading {path.suffix} needs pyarrow; pip install pyarrow, or use .jsonl") from None
    text = {"prompt": pyarrow.string(), "completion": pyarrow.string()}  # a column of answers like 42 is text too
    try:
        if path.suffix.lower() == ".parquet":
            return parquet.read_table(path).to_pylist()
        lines = csv.ParseOptions(newlines_in_values=True)
        return csv.read_csv(path, None, lines, csv.ConvertOptions(column_types=text)).to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: cannot be read as {path.suffix} ({str(error).splitlines()[0]})") from None
