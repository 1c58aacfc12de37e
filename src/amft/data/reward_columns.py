"""Whether reward functions can be called with the columns that the rows have, before anything is trained. No torch."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from ..errors import ConfigError, RewardError
from ..types import RewardFunction
from .row_set import RowSet

GIVEN = ("prompts", "completions", "completion_ids")
"""What every reward function gets besides the columns."""


def require_function(function: Any) -> None:
    """Refuse what TRL takes for a reward and we do not: a model, or its name.

    Raises:
        ConfigError: it is no function.
    """
    if isinstance(function, str):
        raise ConfigError(
            f"reward_funcs: {function!r} is the name of a model, and a reward must be a function; load the model, and "
            "give a function that returns its scores"
        )
    if not callable(function) or hasattr(function, "forward"):
        raise ConfigError(
            f"reward_funcs: a {type(function).__name__} is no function f(prompts, completions, **columns) that returns "
            "one number per completion"
        )


def check_columns(functions: list[RewardFunction], rows: RowSet) -> None:
    """Every function gets all that it asks for, and takes all that it gets.

    Raises:
        RewardError: a column is missing; or a column would come for which there is no argument.
    """
    columns = list(dict.fromkeys(name for row in rows.rows for name in row))
    for function in functions if rows.rows else ():
        parameters = _parameters(function)
        name = getattr(function, "__name__", type(function).__name__)
        for parameter in parameters:
            wanted = parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
            if wanted and parameter.name not in (*GIVEN, *columns):
                raise RewardError(
                    f"reward `{name}` needs column `{parameter.name}`; rows of {rows.name} have {', '.join(columns)}"
                )
        names = {parameter.name for parameter in parameters} | {"prompt", "completion"}
        extra = [given for given in (*GIVEN, *columns) if given not in names]
        if parameters and extra and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            raise RewardError(f"reward `{name}` does not take `{extra[0]}`, which it is given; end it with **columns")


def required_columns(functions: Sequence[RewardFunction]) -> set[str]:
    """The columns without which one of the functions cannot be called."""
    return {
        parameter.name
        for function in functions
        for parameter in _parameters(function)
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    } - set(GIVEN)


def _parameters(function: RewardFunction) -> list[inspect.Parameter]:
    """Without `*args`; none where Python does not know them."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [parameter for parameter in found if parameter.kind is not parameter.VAR_POSITIONAL]
