"""One line for a pydantic error: the dotted key, what was given, what is allowed."""

from __future__ import annotations

import difflib
import reprlib
import types
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from .moved_keys import MOVED_KEYS

_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "null",
}
_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first cause of `error` on one line; an unknown key comes first, for it often explains a missing one.

    Args:
        error: what `model` raised.
        model: the top-level model, for the names and the ranges of its fields.
    """
    details = sorted(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
    first, location = details[0], details[0]["loc"]
    key = ".".join(str(part) for part in location if part != "[key]")
    if first["type"] == "extra_forbidden":
        line = f"{key}: unknown key; {_suggest(location, model)}"
    elif first["type"] == "missing":
        line = f"{key}: required, but not given; expected {allowed_values(location, model)}"
    elif first["type"] == "value_error":
        line = (f"{key}: " if key else "") + str(first["ctx"]["error"])
    else:
        line = f"{key}: expected {allowed_values(location, model)}, got {shown(first['input'])}"
    return line if len(details) == 1 else f"{line} (and {len(details) - 1} more)"


def shown(value: Any) -> str:
    """A value as a reader of YAML knows it, shortened."""
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    return reprlib.repr(value)


FEW = 40
"""Choices that a message names."""


def nearest(name: str, names: Sequence[str]) -> str:
    """`did you mean 'x'?`, the last part alone where only that is near; or the choices, the first `FEW` of them."""
    match = difflib.get_close_matches(name, names, n=1, cutoff=0.6) or [
        each for each in names if each.rpartition(".")[2] == name
    ]
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return f"did you mean {match[0]!r}?" if match else f"choose from {', '.join(names[:FEW])}{more}"


def _suggest(location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    name, parents = str(location[-1]), tuple(str(part) for part in location[:-1])
    moved = "" if parents else MOVED_KEYS.get(name, "")
    if moved.partition(".")[0] in model.model_fields:
        return f"did you mean {moved!r}?"
    keys = [*_keys(model)]
    siblings = {key[-1]: ".".join(key) for key in keys if key[:-1] == parents}
    here = [siblings[near] for near in difflib.get_close_matches(name, siblings, n=1, cutoff=0.6)]
    match = here or [".".join(key) for key in keys if key[-1] == name]
    if match:
        return f"did you mean {match[0]!r}?"
    return f"valid keys: {', '.join(siblings)}" if len(siblings) < 10 else "no known key resembles it"


def _keys(model: type[BaseModel], parents: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        yield (*parents, name)
        inner = inner_model(field.annotation)
        if inner is not None:
            yield from _keys(inner, (*parents, name))


def inner_model(annotation: Any) -> type[BaseModel] | None:
    """The group that a field holds, if it holds one."""
    options = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    # Python 3.10 takes list[int] for a type, and then refuses it in `issubclass`
    kinds = (option for option in options if get_origin(option) is None and isinstance(option, type))
    return next((kind for kind in kinds if issubclass(kind, BaseModel)), None)


def allowed_values(location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    """What the field at `location` allows, in words: `a number > 0 or null`."""
    field = model.model_fields[str(location[0])]
    inner = inner_model(field.annotation)
    if inner is not None and len(location) > 1:
        return allowed_values(location[1:], inner)
    limits = [
        f"{_SIGNS[sign]} {_plain(getattr(rule, sign))}"
        for rule in field.metadata
        for sign in _SIGNS
        if hasattr(rule, sign)
    ]
    return _words(field.annotation, " and ".join(limits), any(hasattr(rule, "min_length") for rule in field.metadata))


def _plain(limit: float) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


def _words(annotation: Any, limits: str, filled: bool) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(argument, limits, filled) for argument in arguments)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is list:
        return f"a {'non-empty ' if filled else ''}list, each {_words(arguments[0], '', False)}"
    if origin is dict or inner_model(annotation):
        return "a mapping"
    word = "non-empty text" if annotation is str and filled else _WORDS.get(annotation, str(annotation))
    return f"{word} {limits}" if limits and annotation in (int, float) else word
