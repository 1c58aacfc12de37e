"""Files of rows, and sets of the Hugging Face hub: the one reader of data and tasks. No torch.

Rows come out as they stand in the file: a missing key stays missing, whole numbers stay whole, text stays text.
Parquet and the hub are read by `datasets`. JSON and CSV are not, because `datasets` keeps columns of one type: it
fills missing keys with None, turns text like 2020-01-01 into dates, refuses a type or key that is new after 10 MB, and
names no line of a broken file; its CSV reader (pandas) drops the first column of rows that are too long and fills short
ones.
"""

from __future__ import annotations

import csv
import glob
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import DataError
from .extras import require_extra

SUFFIXES = ".jsonl, .json, .parquet or .csv"
HUB_NAME = re.compile(r"([\w-][\w.-]*/[\w.-]+)(?::([\w.-]+))??(?::([\w.-]+(?:\[[\w:%-]*\])?))?")
"""owner/name:split or owner/name:configuration:split; a split may be cut, as in train[:500]."""
TEXT = ("prompt", "completion")
"""Columns of a CSV file that hold text, whatever it looks like."""
WHOLE = re.compile(r"0|-?[1-9][0-9]*")
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")


def read_rows(path: Path) -> list[Any]:
    """Every row of a JSONL, JSON (a list), Parquet or CSV file, anew at each call.

    A CSV column is numbers if all its values are, with None for an empty one; else it is text.

    Raises:
        DataError: the file is missing, malformed or of another kind; names the line or row where there is one.
    """
    if not os.path.isfile(path):  # which, of a name too long, says no
        raise DataError(f"{path}: no such file; give the path of a {SUFFIXES} file")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: unknown kind of file; convert it to {SUFFIXES}")
    try:
        return reader(path)
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({_line(error)})") from None


def hub_name(text: str) -> tuple[str, str | None, str | None] | None:
    """(name, configuration, split) of `owner/name:split` or `owner/name:configuration:split`; None for a path."""
    found = None if Path(text).suffix.lower() in _READERS else HUB_NAME.fullmatch(text)
    return None if found is None else (found[1], found[2], found[3])


def read_hub(name: str, configuration: str | None, split: str) -> list[Any]:
    """Every row of one split of a set on the Hugging Face hub, kept in its usual cache. Reaches the network.

    Raises:
        DataError: it cannot be fetched.
    """
    require_extra(f"the set {name}", "datasets", "datasets")
    import datasets

    try:
        return list(datasets.load_dataset(name, configuration, split=split).to_list())
    except Exception as error:  # the library raises errors of many kinds for one cause: it is not to be had
        raise DataError(f"cannot fetch {name} ({_line(error)})") from error


def _jsonl(path: Path) -> list[Any]:
    rows = []
    with open(path, encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except ValueError as error:
                    raise DataError(f"{path} line {number}: not JSON ({error}); each line must be one object") from None
    return rows


def _json(path: Path) -> list[Any]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not JSON ({error}); name it .jsonl if each line is one object") from None
    if not isinstance(rows, list):
        raise DataError(f"{path}: holds one {type(rows).__name__}; make it a list of objects")
    return rows


def _csv(path: Path) -> list[Any]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            cells = [row for row in reader if row]
        except csv.Error as error:
            raise DataError(f"{path} line {reader.line_num}: cannot be read as .csv ({error})") from None
    names, *rows = cells or [[]]
    if len(set(names)) < len(names):
        raise DataError(f"{path}: two columns have one name ({', '.join(names)}); rename one")
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise DataError(
                f"{path} row {number}: has {len(row)} values for {len(names)} columns; quote commas in text"
            )
    columns = [_typed(name, [row[place] for row in rows]) for place, name in enumerate(names)]
    return [dict(zip(names, row)) for row in zip(*columns)]


def _typed(name: str, values: list[str]) -> list[Any]:
    given = [value for value in values if value]
    if name in TEXT or not given or not all(map(NUMBER.fullmatch, given)):
        return list(values)
    kind = int if all(map(WHOLE.fullmatch, given)) else float
    return [kind(value) if value else None for value in values]


def _parquet(path: Path) -> list[Any]:
    require_extra(f"{path}: reading Parquet", "datasets", "datasets")
    import datasets

    # Not `load_dataset`: for a file on this machine too, it tells the hub's servers that it was called.
    try:
        with _silent(), tempfile.TemporaryDirectory() as cache:
            place = glob.escape(str(path))
            return list(datasets.Dataset.from_parquet(place, cache_dir=cache, batch_size=10_000).to_list())
    except Exception as error:  # arrow's, and the library's own for the same cause
        raise DataError(f"{path}: cannot be read as .parquet ({_line(error.__cause__ or error)})") from None


@contextmanager
def _silent() -> Iterator[None]:
    """Without the progress bars of `datasets`, and without its report of what is raised anyhow."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars, logging

    shown, level = not are_progress_bars_disabled(), logging.get_verbosity()
    disable_progress_bars()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            enable_progress_bars()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


_READERS = {".jsonl": _jsonl, ".json": _json, ".parquet": _parquet, ".csv": _csv}
