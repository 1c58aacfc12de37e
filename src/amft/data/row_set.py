"""Rows of one source that keep their own numbers, whatever is taken out of them. No torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..types import Row
from .dataset import load_rows


@dataclass(frozen=True)
class RowSet:
    """Rows, and the number that each has where it came from, counted from 1."""

    name: str
    """How messages call the source."""
    rows: Sequence[Row]
    numbers: Sequence[int]

    @classmethod
    def whole(cls, name: str, rows: Sequence[Row]) -> RowSet:
        """All rows of a source, in its order."""
        return cls(name, rows, range(1, len(rows) + 1))

    @classmethod
    def read(cls, name: str, source: Any) -> RowSet:
        """Rows as `load_rows` gives them; None is no rows."""
        return cls.whole(name, [] if source is None else load_rows(source))

    def placed(self) -> Iterator[tuple[str, Row]]:
        """Every row, after the words by which a message names it."""
        for number, row in zip(self.numbers, self.rows, strict=True):
            yield f"{self.name} row {number}", row

    def digest(self, most: int | None = None) -> str:
        """SHA-256 of the rows in their order, or of the first `most` of them."""
        digest = hashlib.sha256()
        for row in self.rows[:most]:
            digest.update(json.dumps(row, sort_keys=True, default=_plain).encode())
            digest.update(b"\n")
        return digest.hexdigest()

    def pick(self, places: Iterable[int]) -> RowSet:
        """The rows at these places, counted from 0."""
        chosen = list(places)
        return RowSet(self.name, [self.rows[i] for i in chosen], [self.numbers[i] for i in chosen])


@dataclass(frozen=True)
class RowCount:
    """Rows of a source that are not used, and why."""

    source: str
    reason: str
    rows: int
    of: int
    """Rows that the source had."""
    expected: bool = False
    """It is as it must be: what is held out is not trained on."""

    def __str__(self) -> str:
        return f"{self.source}: {self.rows} of {self.of} rows are not used: {self.reason}"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "tobytes"):  # a picture, an array
        return hashlib.sha256(value.tobytes()).hexdigest()
    return dict(value) if isinstance(value, Mapping) else str(value)
