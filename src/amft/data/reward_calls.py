"""Calls reward functions, plain and async, and takes only one number or None per completion. No torch."""

from __future__ import annotations

import asyncio
import atexit
import inspect
import math
import threading
import traceback
from collections.abc import Coroutine, Mapping, Sequence
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Any

from ..errors import RewardError
from ..types import RewardFunction


def call_functions(
    functions: Sequence[RewardFunction], arguments: Mapping[str, Sequence[Any]], n: int
) -> dict[str, list[float]]:
    """Name of each function -> its n values, NaN where it returned None; async ones run side by side.

    Args:
        functions: K functions; equal names get a number.
        arguments: keyword -> list; every function gets lists of its own.
        n: completions.

    Raises:
        RewardError: a function raised, or did not return one finite number or None per completion.
    """
    names = _names(functions)
    calls = [
        (function, name, {key: list(value) for key, value in arguments.items()})
        for function, name in zip(functions, names, strict=True)
    ]
    results = {call[1]: _call(*call) for call in calls if not _is_async(call[0])}
    if waiting := [call for call in calls if _is_async(call[0])]:
        results |= _run(_call_all(waiting))
    return {name: _values(results[name], f"reward function {name!r}", n) for name in names}


def _names(functions: Sequence[RewardFunction]) -> list[str]:
    names: list[str] = []
    for function in functions:
        base = getattr(function, "__name__", None) or type(function).__name__
        name, number = base, 1
        while name in names:
            number += 1
            name = f"{base}_{number}"
        names.append(name)
    return names


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _call(function: RewardFunction, name: str, arguments: dict[str, Any]) -> Any:
    try:
        return function(**arguments)
    except Exception as error:
        raise RewardError(_raised(name, error)) from error


async def _call_all(calls: list[tuple[Any, str, dict[str, Any]]]) -> dict[str, Any]:
    async def call(function: Any, name: str, arguments: dict[str, Any]) -> Any:
        try:
            return await function(**arguments)
        except Exception as error:
            raise RewardError(_raised(name, error)) from error

    answers = await asyncio.gather(*(call(*one) for one in calls))
    return {name: answer for (_, name, _), answer in zip(calls, answers, strict=True)}


@cache
def _event_loop() -> asyncio.AbstractEventLoop:
    """One loop for the process, on its own thread: HTTP clients that a reward keeps open stay bound to it."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="amft-rewards", daemon=True).start()
    atexit.register(loop.call_soon_threadsafe, loop.stop)
    return loop


def _run(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    return asyncio.run_coroutine_threadsafe(work, _event_loop()).result()


def _raised(name: str, error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    if place.filename == __file__:  # the call itself failed
        return f"reward function {name!r} cannot be called ({one_line(error)}); give it **kwargs"
    return f"reward function {name!r} raised {one_line(error)} at {Path(place.filename).name}:{place.lineno}"


def one_line(error: BaseException) -> str:
    """An exception's type and message on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _values(result: Any, who: str, n: int) -> list[float]:
    values = result.tolist() if hasattr(result, "tolist") else result
    if not isinstance(values, list | tuple):
        raise RewardError(f"{who} returned a {type(result).__name__}; return a list of {n} numbers or None")
    if len(values) != n:
        raise RewardError(f"{who} returned {len(values)} values for {n} completions; return one per completion")
    return [math.nan if value is None else finite_reward(value, who, row) for row, value in enumerate(values, 1)]


def finite_reward(value: Any, who: str, row: int) -> float:
    """The value as a float.

    Raises:
        RewardError: it is no number, or NaN or infinite; names who gave it and the row.
    """
    plain = value.item() if getattr(value, "shape", None) == () else value
    fix = "return a finite number, or None to abstain"
    if not isinstance(plain, Real):
        raise RewardError(f"{who}, row {row}: returned {type(value).__name__} {str(value)[:40]!r}; {fix}")
    try:
        number = float(plain)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise RewardError(f"{who}, row {row}: returned {number}; {fix}")
    return number
