"""How a part refuses a setting that counts something: one line with its name and what was given."""

from __future__ import annotations

from ..errors import ConfigError


def require_whole(name: str, value: object, low: int) -> None:
    """Refuse what is not a whole number from `low` on.

    Raises:
        ConfigError: names the setting.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ConfigError(f"balance.{name} must be a whole number from {low} on, got {value!r}")
