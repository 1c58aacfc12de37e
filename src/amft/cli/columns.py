"""Texts side by side on the terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from itertools import zip_longest

GAP = " | "


def side_by_side(titles: Sequence[str], texts: Sequence[str], width: int | None = None) -> str:
    """Columns of equal width under their titles, wrapped; what could steer a terminal is made visible.

    Args:
        titles: one per column.
        texts: one per column, from a model or a user.
        width: characters of a line; None is the terminal's.
    """
    from ..report.text import visible

    whole = width or _terminal()
    each = max(16, (whole - len(GAP) * (len(texts) - 1)) // len(texts))
    columns = [_wrapped(visible(f"[{title}]\n{text}"), each) for title, text in zip(titles, texts, strict=True)]
    lines = zip_longest(*columns, fillvalue="")
    return "\n".join(GAP.join(cell.ljust(each) for cell in line).rstrip() for line in lines)


def wrapped(text: str) -> str:
    """A text in lines that fit the terminal; what could steer it is made visible."""
    from ..report.text import visible

    return "\n".join(_wrapped(visible(text), _terminal()))


def _terminal() -> int:
    return shutil.get_terminal_size((80, 24)).columns


def _wrapped(text: str, width: int) -> list[str]:
    return [part for line in text.expandtabs().splitlines() for part in textwrap.wrap(line, width) or [""]]
