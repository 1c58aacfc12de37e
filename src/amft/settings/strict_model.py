"""The base of every settings model: what it does not allow is a `ConfigError` of one line. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import ConfigError
from .validation_errors import explain


class StrictModel(BaseModel):
    """Frozen; unknown names, wrong types and values out of range are refused.

    Raises:
        ConfigError: one line that names the field, what was given and what is allowed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True)

    if not TYPE_CHECKING:  # editors and type checkers keep pydantic's own signature

        def __init__(self, **values):
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise ConfigError(explain(error, type(self))) from None

        # Within another model pydantic must not call this __init__: the line would say `steps` and not `eval.steps`.
        __init__.__pydantic_base_init__ = True
