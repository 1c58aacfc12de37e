"""Files of problems -> checked items. Every row is read or named; nothing is dropped in silence."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...row_files import read_hub, read_rows
from .rows import Item, RowError, has_columns, of_source, read_row
from .sets import SETS, KnownSet, Layout


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used."""

    file: str
    row: int
    """From 1."""
    field: str
    why: str

    def __str__(self) -> str:
        return f"{self.file} row {self.row}: {self.field}: {self.why}"


@dataclass
class LoadedSet:
    """What a file holds."""

    name: str
    items: list[Item] = field(default_factory=list)
    """One per question."""
    bad: list[BadRow] = field(default_factory=list)
    repeated: int = 0
    """Rows that repeat a question with the same answer (published evaluation files hold each problem 32 times)."""
    passed_over: int = 0
    """Rows of other sets in the same file."""

    def counts(self) -> dict[str, Any]:
        """Figures for people: rows used, repeated, passed over, and bad ones by field."""
        return {
            "set": self.name,
            "used": len(self.items),
            "repeated": self.repeated,
            "passed_over": self.passed_over,
            "bad": dict(Counter(bad.field for bad in self.bad)),
        }


def read_set(name: str, path: str | Path) -> LoadedSet:
    """All usable items of a file and all rows that are not.

    Args:
        name: a set in `sets.SETS`; says which columns hold what.
        path: a .jsonl, .json (a list), .parquet or .csv file.

    Raises:
        DataError: the file cannot be read, or has none of the set's known columns.
    """
    file = Path(path)
    return check_rows(name, read_rows(file), str(file))


def download_set(name: str) -> LoadedSet:
    """The same from the Hugging Face hub.

    Raises:
        DataError: the set cannot be fetched.
    """
    hub, configuration, split = SETS[name].hub
    if not hub:
        raise DataError(f"{name}: is not a published set; give its file")
    return check_rows(name, read_hub(hub, configuration, split), hub)


def check_rows(name: str, rows: list[Any], source: str) -> LoadedSet:
    """Items and bad rows of a list of rows.

    Args:
        name: a set in `sets.SETS`.
        rows: of one file.
        source: how messages call it.

    Raises:
        DataError: there are no rows of the set, or the columns are unknown.
    """
    known = SETS[name]
    layout = _layout(known, rows, source)
    loaded = LoadedSet(name)
    answers: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        if not of_source(row, layout):
            loaded.passed_over += 1
            continue
        try:
            item = read_row(row, layout, known.choice)
            if answers.get(item.key, item.answer) != item.answer:
                raise RowError(layout.answer, "differs from that of an earlier row with the same question")
        except RowError as error:
            loaded.bad.append(BadRow(source, number, error.field, error.why))
            continue
        if item.key in answers:
            loaded.repeated += 1
        else:
            answers[item.key] = item.answer
            loaded.items.append(item)
    if not loaded.items and not loaded.bad:
        raise DataError(f"{source}: none of its {len(rows)} rows has {' = '.join(layout.source)}; is it {name}?")
    return loaded


def _layout(known: KnownSet, rows: list[Any], source: str) -> Layout:
    if not rows:
        raise DataError(f"{source}: no rows")
    for row in rows[:100]:
        for layout in known.layouts:
            if has_columns(row, layout):
                return layout
    there = ", ".join(rows[0]) if isinstance(rows[0], dict) else f"no columns but a {type(rows[0]).__name__}"
    wanted = " or ".join(f"({', '.join(layout.columns)})" for layout in known.layouts)
    raise DataError(f"{source}: needs the columns {wanted}; it has {there}")
