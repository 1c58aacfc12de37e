"""Units that may follow a number in a mathematical answer."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SPELLINGS = """
mm millimeter millimeters millimetre millimetres
cm centimeter centimeters centimetre centimetres
m meter meters metre metres
km kilometer kilometers kilometre kilometres
in inch inches
ft foot feet
yd yard yards
mi mile miles
mg milligram milligrams
g gram grams
kg kilogram kilograms
lb lbs pound pounds
oz ounce ounces
ml milliliter milliliters millilitre millilitres
l liter liters litre litres
gallon gallons
cup cups
ms millisecond milliseconds
s sec second seconds
min minute minutes
h hr hrs hour hours
day days
week weeks
month months
year years
mph
cent cents
dollar dollars usd
euro euros
degree degrees
rad radian radians
hz hertz
n newton newtons
j joule joules
w watt watts
v volt volts
a amp amps ampere amperes
ohm ohms
pa pascal pascals
k kelvin
mol mole moles
unit units
point points
person people persons
"""

UNITS: Mapping[str, str] = {word: line.split()[0] for line in _SPELLINGS.strip().splitlines() for word in line.split()}
"""Spelling -> its unit."""

_POWERS = {"square": "2", "squared": "2", "sq": "2", "cubic": "3", "cubed": "3"}
_PIECE = re.compile(r"[a-z]+|/|[23]")


def unit_of(text: str) -> str | None:
    """One name for all spellings of a unit; None for what is no unit.

    >>> unit_of("square metres"), unit_of("km per hour"), unit_of("m^2"), unit_of("is wrong")
    ('m2', 'km/h', 'm2', None)
    """
    plain = text.lower().replace("²", "2").replace("³", "3").strip(" .~")
    if re.search(r"[^a-z/23^{}. ~]", plain):
        return None
    pieces = [{"per": "/"}.get(piece, piece) for piece in _PIECE.findall(plain)]
    powers = [_POWERS[piece] for piece in pieces if piece in _POWERS]
    named = [UNITS.get(piece, piece) for piece in pieces if piece not in _POWERS]
    known = all(piece in UNITS.values() or piece in ("/", "2", "3") for piece in named)
    return "".join([*named, *powers]) if known and named and named[0].isalpha() else None
