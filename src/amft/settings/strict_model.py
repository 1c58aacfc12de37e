"""The base of every settings model: what it does not allow is a `ConfigError` of one line. No torch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ..errors import ConfigError
from .validation_errors import explain


class StrictModel(BaseModel):
    """Frozen; unknown names, wrong types and values out of range are refused.

    Raises:
        ConfigError: one line that names the field, what was given and what is allowed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _paths_as_text(cls, values: Any) -> Any:
        return {name: _text(value) for name, value in values.items()} if isinstance(values, dict) else values

    if not TYPE_CHECKING:  # editors and type checkers keep pydantic's own signature

        def __init__(self, **values):
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise ConfigError(explain(error, type(self))) from None

        # Within another model pydantic must not call this __init__: the line would say `steps` and not `eval.steps`.
        __init__.__pydantic_base_init__ = True


def _text(value: Any) -> Any:
    """A path as text, alone or in a list."""
    if isinstance(value, list):
        return [_text(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value
