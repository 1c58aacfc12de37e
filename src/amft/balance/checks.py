"""How a rule refuses a setting: one line with its name, its range and what was given."""

from __future__ import annotations

import math
from collections.abc import Collection

from ..errors import ConfigError


def require_number(name: str, value: object, low: float, high: float, *, below: bool = False) -> None:
    """Refuse a setting that is not a finite number in [low, high], or in [low, high) when `below`.

    Raises:
        ConfigError: the setting, its range and what was given, on one line.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    inside = number and low <= value <= high and not (below and value == high)  # type: ignore[operator]
    if not inside:
        raise ConfigError(
            f"balance.{name} must be a number in [{low:g}, {high:g}{')' if below else ']'}, got {value!r}"
        )


def require_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Refuse a setting that is not one of `choices`.

    Raises:
        ConfigError: the setting, its choices and what was given, on one line.
    """
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise ConfigError(f"balance.{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
