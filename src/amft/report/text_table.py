"""Plain text tables and intervals for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows under a header; numbers to the right, text to the left.

    Args:
        rows: one mapping per line; a missing value prints as `-`.
        columns: which keys, in order; they are the header.
    """
    values = [[row.get(column) for column in columns] for row in rows]
    cells = [["-" if value is None else str(value) for value in line] for line in values]
    widths = [max(len(line[i]) for line in [list(columns), *cells]) for i in range(len(columns))]
    right = [bool(values) and all(isinstance(line[i], (int, float)) for line in values) for i in range(len(columns))]
    lines = [
        "  ".join(cell.rjust(width) if side else cell.ljust(width) for cell, width, side in zip(line, widths, right))
        for line in [list(columns), *cells]
    ]
    return "\n".join(line.rstrip() for line in lines)


def percent(value: float | None, low: float | None, high: float | None) -> str:
    """`39.1 % [33.0, 45.5]`: a proportion with its 95 % interval."""
    if value is None:
        return "-"
    interval = "" if low is None or high is None else f" [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{100 * value:.1f} %{interval}"
