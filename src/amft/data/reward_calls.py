"""Calls reward functions, plain and async, and takes only one number or None per completion. No torch."""

from __future__ import annotations

import asyncio
import atexit
import inspect
import math
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from numbers import Real
from typing import Any

from ..errors import RewardError
from ..guests import guest, one_line, place_of
from ..types import RewardFunction

LARGEST = 1e15
"""Size of a reward above which the squares that advantages are made of leave single precision."""


def call_functions(
    functions: Sequence[RewardFunction], arguments: Mapping[str, Sequence[Any]], n: int
) -> dict[str, list[float]]:
    """Name of each function -> its n values, NaN where it returned None; async ones run side by side.

    A value that is not finite, or too large to compute with, is infinity.

    Args:
        functions: K functions; equal names get a number.
        arguments: keyword -> list; every function gets lists of its own.
        n: completions.

    Raises:
        RewardError: a function raised, exited or hung, or did not return one number or None per completion.
    """
    names = _names(functions)
    calls = [
        (function, name, {key: list(value) for key, value in arguments.items()})
        for function, name in zip(functions, names, strict=True)
    ]
    results = {call[1]: _call(*call, n) for call in calls if not _is_async(call[0])}
    if waiting := [call for call in calls if _is_async(call[0])]:
        results |= _run(waiting, n)
    return {name: results[name] for name in names}


def _names(functions: Sequence[RewardFunction]) -> list[str]:
    names: list[str] = []
    for function in functions:
        base = str(getattr(function, "__name__", None) or type(function).__name__)
        name, number = base, 1
        while name in names:
            number += 1
            name = f"{base}_{number}"
        names.append(name)
    return names


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _call(function: RewardFunction, name: str, arguments: dict[str, Any], n: int) -> list[float]:
    with guest(f"reward function {name!r}", RewardError):
        _check_call(function, name, arguments)
        return _values(function(**arguments), f"reward function {name!r}", n)


def _check_call(function: Any, name: str, arguments: Mapping[str, Any]) -> None:
    try:
        inspect.signature(function, follow_wrapped=False).bind(**arguments)
    except ValueError:  # some callables of C have no signature
        return
    except TypeError as error:
        raise RewardError(f"reward function {name!r} cannot be called ({one_line(error)}); give it **kwargs") from error


async def _call_all(calls: list[tuple[Any, str, dict[str, Any]]], n: int) -> dict[str, list[float]]:
    async def call(function: Any, name: str, arguments: dict[str, Any]) -> list[float]:
        try:
            _check_call(function, name, arguments)
            return _values(await function(**arguments), f"reward function {name!r}", n)
        except RewardError:
            raise
        except BaseException as error:  # an exit would end the loop, and then nobody would ever get an answer
            raise RewardError(f"reward function {name!r} raised {one_line(error)}{place_of(error)}") from error

    answers = await asyncio.gather(*(call(*one) for one in calls))
    return {name: answer for (_, name, _), answer in zip(calls, answers, strict=True)}


@cache
def _event_loop() -> asyncio.AbstractEventLoop:
    """One loop for the process, on its own thread: HTTP clients that a reward keeps open stay bound to it."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="amft-rewards", daemon=True).start()
    atexit.register(loop.call_soon_threadsafe, loop.stop)
    return loop


def _run(calls: list[tuple[Any, str, dict[str, Any]]], n: int) -> dict[str, list[float]]:
    names = ", ".join(repr(name) for _, name, _ in calls)
    with guest(f"reward function {names}", RewardError):
        answers = asyncio.run_coroutine_threadsafe(_call_all(calls, n), _event_loop())
        try:
            return answers.result()
        finally:
            answers.cancel()  # where this wait was cut


def _values(result: Any, who: str, n: int) -> list[float]:
    values = result.tolist() if hasattr(result, "tolist") else result
    if not isinstance(values, list | tuple):
        raise RewardError(f"{who} returned a {type(result).__name__}; return a list of {n} numbers or None")
    if len(values) != n:
        raise RewardError(f"{who} returned {len(values)} values for {n} completions; return one per completion")
    return [math.nan if value is None else reward_number(value, who, row) for row, value in enumerate(values, 1)]


def reward_number(value: Any, who: str, row: int) -> float:
    """The value as a float; infinite where it is NaN, infinite or beyond `LARGEST`: then its step is an incident.

    Raises:
        RewardError: it is no number; names who gave it and the row.
    """
    plain = value.item() if getattr(value, "shape", None) == () else value
    if not isinstance(plain, Real):
        shown = f"{type(value).__name__} {str(value)[:40]!r}"
        raise RewardError(f"{who}, row {row}: returned {shown}; return a finite number, or None to abstain")
    try:
        number = float(plain)
    except OverflowError:
        number = math.inf
    return number if abs(number) <= LARGEST else math.inf
