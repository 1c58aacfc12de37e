"""Ranks and suits as outlines: points in a box one wide and one high, y down. No font, no artwork."""

from __future__ import annotations

import math
from typing import TypeAlias

Coordinates: TypeAlias = tuple[float, float]
Line: TypeAlias = tuple[Coordinates, ...]


def arc(x: float, y: float, rx: float, ry: float, start: float = 0.0, stop: float = 360.0) -> Line:
    """Part of an ellipse, one point every 15 degrees; 0 is right, 90 down."""
    count = max(2, round(abs(stop - start) / 15))
    angles = [math.radians(start + (stop - start) * i / count) for i in range(count + 1)]
    return tuple((x + rx * math.cos(angle), y + ry * math.sin(angle)) for angle in angles)


STROKES: dict[str, tuple[Line, ...]] = {
    "0": (arc(0.5, 0.5, 0.42, 0.5),),
    "1": (((0.12, 0.24), (0.5, 0), (0.5, 1)), ((0.12, 1), (0.88, 1))),
    "2": ((*arc(0.5, 0.28, 0.4, 0.28, 190, 400), (0.06, 1), (0.94, 1)),),
    "3": ((*arc(0.48, 0.26, 0.38, 0.26, 200, 450), *arc(0.48, 0.74, 0.42, 0.26, 270, 520)),),
    "4": (((0.72, 1), (0.72, 0), (0.04, 0.68), (0.98, 0.68)),),
    "5": (((0.88, 0), (0.2, 0), (0.14, 0.44), *arc(0.47, 0.68, 0.42, 0.32, 235, 510)),),
    "6": ((*arc(0.62, 0.5, 0.56, 0.5, 290, 180), *arc(0.5, 0.68, 0.42, 0.32, 180, 540)),),
    "7": (((0.06, 0), (0.94, 0), (0.4, 1)),),
    "8": (arc(0.5, 0.25, 0.34, 0.25), arc(0.5, 0.74, 0.42, 0.26)),
    "9": ((*arc(0.38, 0.5, 0.56, 0.5, 110, 0), *arc(0.5, 0.32, 0.42, 0.32, 0, 360)),),
    "A": (((0, 1), (0.5, 0), (1, 1)), ((0.2, 0.66), (0.8, 0.66))),
    "J": (((0.45, 0), (0.95, 0)), ((0.72, 0), *arc(0.38, 0.68, 0.34, 0.32, 0, 170))),
    "Q": (arc(0.5, 0.48, 0.46, 0.48), ((0.58, 0.68), (0.98, 1.04))),
    "K": (((0.1, 0), (0.1, 1)), ((0.92, 0), (0.1, 0.6)), ((0.36, 0.42), (0.96, 1))),
}
"""Pen strokes of each character."""

_HEART = (*arc(0.26, 0.28, 0.26, 0.28, 150, 360), *arc(0.74, 0.28, 0.26, 0.28, 180, 390), (0.5, 1.0))
_STEM = ((0.5, 0.6), (0.68, 1.0), (0.32, 1.0))

SUIT_STROKES: dict[str, tuple[Line, ...]] = {
    "S": (tuple((x, 0.86 * (1 - y)) for x, y in _HEART), _STEM),
    "H": (_HEART,),
    "C": (arc(0.5, 0.24, 0.24, 0.24), arc(0.25, 0.58, 0.25, 0.24), arc(0.75, 0.58, 0.25, 0.24), _STEM),
    "D": (((0.5, 0), (0.9, 0.5), (0.5, 1), (0.1, 0.5)),),
}
"""Filled outlines: spades, hearts, clubs, diamonds."""

_COLUMNS = (0.0, 0.5, 1.0)
_PIP_ROWS: dict[int, tuple[tuple[float, ...], ...]] = {
    1: ((), (0.5,), ()), 2: ((), (0, 1), ()), 3: ((), (0, 0.5, 1), ()), 4: ((0, 1), (), (0, 1)),
    5: ((0, 1), (0.5,), (0, 1)), 6: ((0, 0.5, 1), (), (0, 0.5, 1)), 7: ((0, 0.5, 1), (0.25,), (0, 0.5, 1)),
    8: ((0, 0.5, 1), (0.25, 0.75), (0, 0.5, 1)), 9: ((0, 1 / 3, 2 / 3, 1), (0.5,), (0, 1 / 3, 2 / 3, 1)),
    10: ((0, 1 / 3, 2 / 3, 1), (1 / 6, 5 / 6), (0, 1 / 3, 2 / 3, 1)),
}  # fmt: skip


def pips(count: int) -> list[Coordinates]:
    """Centres of the signs on a number card, in a box one wide and one high."""
    return [(x, y) for x, rows in zip(_COLUMNS, _PIP_ROWS[count], strict=True) for y in rows]
