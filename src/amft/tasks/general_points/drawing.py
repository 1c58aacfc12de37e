"""Pictures of hands: cards drawn with polygons, a function of cards, suits, size and style alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .glyphs import STROKES, SUIT_STROKES, Line, arc, pips
from .rules import PIPS

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

Colour = tuple[int, int, int]

CARD_HEIGHT = 1.4
"""Height of a card in card widths."""

_CORNER = 0.1
_OUTLINE: Line = tuple(
    point
    for x, y, start in ((1, 1, 0), (0, 1, 90), (0, 0, 180), (1, 0, 270))
    for point in arc(
        x + _CORNER * (1 - 2 * x), y * CARD_HEIGHT + _CORNER * (1 - 2 * y), _CORNER, _CORNER, start, start + 90
    )
)


@dataclass(frozen=True)
class Style:
    """How a hand looks."""

    table: Colour = (24, 92, 62)
    card: Colour = (250, 250, 246)
    columns: int = 0
    """Cards in a row; 0 puts all of them in one."""
    face: str = "rank"
    """`rank`: a large rank over the suit; `pips`: as many signs as the card counts."""
    tilt: float = 0.0
    """Degrees that the cards lean, left and right in turn."""
    inks: Mapping[str, Colour] | None = None
    """Suit -> ink; None: black and red."""


INKS: Mapping[str, Colour] = {"S": (16, 16, 20), "C": (16, 16, 20), "H": (200, 16, 32), "D": (200, 16, 32)}

CARD_STYLES: Mapping[str, Style] = {
    "row": Style(),
    "grid": Style(columns=2),
    "tilted": Style(table=(52, 60, 96), tilt=7.0),
    "pips": Style(face="pips", table=(96, 40, 44)),
    "four-colour": Style(
        table=(214, 206, 190), inks={"S": (16, 16, 20), "H": (200, 16, 32), "C": (0, 110, 40), "D": (20, 60, 190)}
    ),
}
"""Name -> style; `row` is the arrangement of arXiv 2501.17161."""


@dataclass(frozen=True)
class Pen:
    """Draws in card widths on a picture: origin, scale in pixels, and lean."""

    draw: ImageDraw.ImageDraw
    x: float
    y: float
    width: float
    lean: float

    def place(self, line: Line, box: tuple[float, float, float, float]) -> list[tuple[float, float]]:
        """Points of a unit box, moved to `box` (left, top, width, height) of the leaning card, in pixels."""
        left, top, wide, high = box
        cos, sin = math.cos(self.lean), math.sin(self.lean)
        out = []
        for px, py in line:
            dx, dy = left + px * wide - 0.5, top + py * high - CARD_HEIGHT / 2
            out.append((self.x + (cos * dx - sin * dy) * self.width, self.y + (sin * dx + cos * dy) * self.width))
        return out

    def fill(self, line: Line, box: tuple[float, float, float, float], ink: Colour) -> None:
        self.draw.polygon(self.place(line, box), fill=ink)

    def stroke(self, line: Line, box: tuple[float, float, float, float], thick: float, ink: Colour) -> None:
        points = self.place(line, box)
        thickness = max(1, round(thick * self.width))
        self.draw.line(points, fill=ink, width=thickness, joint="curve")
        for x, y in (points[0], points[-1]):
            half = thickness / 2
            self.draw.ellipse((x - half, y - half, x + half, y + half), fill=ink)


def draw_hand(cards: Sequence[str], suits: Sequence[str], *, size: int = 336, style: str = "row") -> Image.Image:
    """A square picture of a hand.

    Args:
        cards: ranks, `A 2 ... 10 J Q K` or a number from 14 to 19.
        suits: `S`, `H`, `C` or `D` for each card.
        size: edge in pixels.
        style: a name in `CARD_STYLES`.
    """
    from PIL import Image, ImageDraw

    look = CARD_STYLES[style]
    finer = 4 if size <= 160 else 2 if size <= 480 else 1
    edge = size * finer
    image = Image.new("RGB", (edge, edge), look.table)
    draw = ImageDraw.Draw(image)
    columns = look.columns or len(cards)
    rows = -(-len(cards) // columns)
    tilt = math.radians(look.tilt)
    width = 0.88 * min(edge / columns, edge / rows / CARD_HEIGHT) / (math.cos(tilt) + CARD_HEIGHT * math.sin(tilt))
    for i, (card, suit) in enumerate(zip(cards, suits, strict=True)):
        row, column = divmod(i, columns)
        x = edge / 2 + (column - (columns - 1) / 2) * edge / columns
        y = edge / 2 + (row - (rows - 1) / 2) * edge / rows
        _card(Pen(draw, x, y, width, tilt if i % 2 else -tilt), card, suit, look)
    return image.reduce(finer) if finer > 1 else image


def _card(pen: Pen, card: str, suit: str, look: Style) -> None:
    ink = (look.inks or INKS)[suit]
    whole = (0.0, 0.0, 1.0, 1.0)
    pen.fill(_OUTLINE, whole, look.card)
    pen.stroke((*_OUTLINE, _OUTLINE[0]), whole, 0.02, (70, 70, 70))
    if look.face == "pips" and card in PIPS:
        _rank(pen, card, (0.06, 0.1, 0.44, 0.5), 0.09, ink)
        for x, y in pips(PIPS.index(card) + 1):
            _suit(pen, suit, (0.53 + 0.24 * x, 0.12 + 0.98 * y, 0.17, 0.19), ink)
    else:
        _rank(pen, card, (0.17, 0.14, 0.66, 0.62), 0.12, ink)
        _suit(pen, suit, (0.33, 0.88, 0.34, 0.36), ink)


def _rank(pen: Pen, rank: str, box: tuple[float, float, float, float], thick: float, ink: Colour) -> None:
    left, top, wide, high = box
    # A single character is narrower than the box, two share it.
    each = wide * (0.72 if len(rank) == 1 else 0.42)
    gap = wide - each * len(rank)
    for i, character in enumerate(rank):
        start = left + (gap / 2 if len(rank) == 1 else i * (each + gap))
        for line in STROKES[character]:
            pen.stroke(line, (start, top, each, high), thick if len(rank) == 1 else 0.85 * thick, ink)


def _suit(pen: Pen, suit: str, box: tuple[float, float, float, float], ink: Colour) -> None:
    for line in SUIT_STROKES[suit]:
        pen.fill(line, box, ink)
