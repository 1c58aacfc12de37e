"""The JSON object in a model's answer. Model text is hostile: it is read once, in time linear in it, and never run.

The rule: of all complete objects that hold a text under the key asked for, the one that ends last counts. Objects
may stand in prose, beside one another, or one inside another. Three slips are forgiven: single quotes, a comma
before a closing bracket, and closing braces left out at the very end of the answer.
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeAlias

MAX_ANSWER = 4096
"""Longest answer that is read, in characters."""

MAX_LISTS = 8
"""Lists inside one another."""

Found: TypeAlias = "tuple[Any, int] | None"
"""A value and the place after it; None where no value stands."""

_SPACE = re.compile(r"[ \t\r\n]*")
_OPENS = re.compile(r"\{(?=[ \t\r\n]*[\"'}])")
_QUOTED = r'("(?:[^"\\]|\\.)*"' + r"|'(?:[^'\\]|\\.)*')"
_STRING = re.compile(_QUOTED, re.DOTALL)
_NAME = re.compile(_QUOTED + r"[ \t\r\n]*:[ \t\r\n]*", re.DOTALL)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORD = re.compile(r"true|false|null")
_IN_SINGLE = re.compile(r'\\.|"', re.DOTALL)
_WORDS = {"true": True, "false": False, "null": None}


def last_object(text: str, key: str) -> dict[str, Any] | None:
    """The object of an answer, or None.

    >>> last_object("Let S={1,2}. {'formula': '8*3',} {ok}", "formula")
    {'formula': '8*3'}

    Args:
        text: raw model text; nothing is found in one over `MAX_ANSWER` characters.
        key: of the text that the object must hold.
    """
    if len(text) > MAX_ANSWER:
        return None
    reader = _Reader(text)
    best: dict[str, Any] | None = None
    last = 0
    for start in reversed([opens.start() for opens in _OPENS.finditer(text)]):
        found = reader.object(start)
        # Where braces are left out, objects inside one another all end with the text: the outermost counts.
        if found is not None and found[1] >= last and isinstance(found[0].get(key), str):
            best, last = found
    return best


class _Reader:
    """Reads objects from the last opening brace to the first, so that what is inside another was read before.

    That keeps the whole linear: from each opening brace, text is read only up to the next one that opens a value.
    """

    def __init__(self, text: str):
        self.text = text
        self.objects: dict[int, Found] = {}

    def object(self, start: int) -> Found:
        """The object whose brace opens at `start`."""
        self.objects[start] = found = self._members(start + 1)
        return found

    def _members(self, place: int) -> Found:
        members: dict[str, Any] = {}
        while True:
            place = self._skip(place)
            if place == len(self.text):
                return (members, place) if members else None
            if self.text[place] == "}":
                return members, place + 1
            member = self._member(place)
            if member is None:
                return None
            (name, value), place = member
            members[name] = value
            place = self._skip(place)
            if self.text[place : place + 1] == ",":
                place += 1
            elif self.text[place : place + 1] not in ("}", ""):
                return None

    def _member(self, place: int) -> Found:
        name = self._string(place, _NAME)
        value = name and self._value(name[1], MAX_LISTS)
        return ((name[0], value[0]), value[1]) if name and value else None

    def _value(self, place: int, lists: int) -> Found:
        sign = self.text[place : place + 1]
        if sign == "{":
            return self.objects.get(place)
        if sign == "[":
            return self._list(place + 1, lists - 1) if lists else None
        if sign in ("'", '"'):
            return self._string(place, _STRING)
        if word := _WORD.match(self.text, place):
            return _WORDS[word[0]], word.end()
        number = _NUMBER.match(self.text, place)
        if number is None:
            return None
        return (float if number[1] or number[2] else int)(number[0]), number.end()

    def _list(self, place: int, lists: int) -> Found:
        items: list[Any] = []
        while True:
            place = self._skip(place)
            if self.text[place : place + 1] == "]":
                return items, place + 1
            item = self._value(place, lists)
            if item is None:
                return None
            items.append(item[0])
            place = self._skip(item[1])
            if self.text[place : place + 1] == ",":
                place += 1
            elif self.text[place : place + 1] != "]":
                return None

    def _string(self, place: int, kind: re.Pattern[str]) -> Found:
        found = kind.match(self.text, place)
        if found is None:
            return None
        quoted = found[1]
        if quoted[0] == "'":
            quoted = f'"{_IN_SINGLE.sub(_in_double, quoted[1:-1])}"'
        try:
            return json.loads(quoted), found.end()
        except ValueError:
            return None

    def _skip(self, place: int) -> int:
        space = _SPACE.match(self.text, place)
        assert space is not None
        return space.end()


def _in_double(found: re.Match[str]) -> str:
    """What stands for a piece of a single-quoted string in a double-quoted one."""
    return {"\\'": "'", '"': '\\"'}.get(found[0], found[0])
