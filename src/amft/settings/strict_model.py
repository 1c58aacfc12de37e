"""The base of every settings model: what it does not allow is a `ConfigError` of one line. No torch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ..errors import ConfigError
from .validation_errors import explain

SMALLEST, LARGEST_SIZE = 1e-30, 1e30
"""Sizes of numbers that single precision holds, with room for what is computed from them."""

LONGEST_NAME = 255
"""Bytes of a file's name, on every file system we know."""


def unrepresentable(value: Any) -> str | None:
    """What is wrong with a number or a text that nothing could be done with; None for all others."""
    if isinstance(value, float) and value and not SMALLEST <= abs(value) <= LARGEST_SIZE:
        return f"{value!r} is beyond single precision; give 0 or a size from {SMALLEST:g} to {LARGEST_SIZE:g}"
    if isinstance(value, str) and "\0" in value:
        return "there is a NUL character in it; take it out"
    if isinstance(value, str) and any(len(part.encode(errors="replace")) > LONGEST_NAME for part in value.split("/")):
        return f"{value[:20]!r}... is longer than {LONGEST_NAME} bytes; no file can be called so"
    return None


class StrictModel(BaseModel):
    """Frozen; unknown names, wrong types and values out of range are refused.

    So are numbers that single precision cannot hold, and texts that no file system can.

    Raises:
        ConfigError: one line that names the field, what was given and what is allowed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _paths_as_text(cls, values: Any) -> Any:
        return {name: _text(value) for name, value in values.items()} if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _representable(self) -> StrictModel:
        for name, value in self:
            for each in value if isinstance(value, list) else [value]:
                if wrong := unrepresentable(each):
                    raise ValueError(f"{name}: {wrong}")
        return self

    if not TYPE_CHECKING:  # editors and type checkers keep pydantic's own signature

        def __init__(self, **values):
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise ConfigError(explain(error, type(self))) from None

        # Within another model pydantic must not call this __init__: the line would say `steps` and not `eval.steps`.
        __init__.__pydantic_base_init__ = True


def _text(value: Any) -> Any:
    """A path as text, alone or in a list; lists of lists, which may be a bomb of a thousand million, are left alone."""
    if isinstance(value, list):
        return [os.fspath(item) if isinstance(item, os.PathLike) else item for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value
