"""Processes that grade and can be killed: a pool (pebble) with a limit of time and of memory for every answer.

A grader that sleeps, loops, eats memory, dies or raises costs its own answer, which is then a `Failure`, and the
process, which is replaced. It never costs the caller more than the time limit, nor any other answer its verdict.
"""

from __future__ import annotations

import atexit
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType
from typing import Any

from ...errors import TaskError
from . import sandbox

START_SECONDS = 120.0
"""Longest time a process may need to load its libraries."""

START_USUAL = 30.0
"""Time in which it has loaded them on a slow or busy machine; a few seconds on a free one."""

_SWAP = threading.Lock()


class _Process(SpawnProcess):
    """A spawned process that does not run the user's script again.

    `spawn` makes every child import the main script; one without `if __name__ == "__main__"` would train anew in it.
    """

    def start(self) -> None:
        with _SWAP:
            main = sys.modules["__main__"]
            sys.modules["__main__"] = ModuleType("__main__")
            try:
                super().start()
            finally:
                sys.modules["__main__"] = main


class _Context(SpawnContext):
    Process = _Process


@dataclass(frozen=True)
class Limits:
    """What graders may use."""

    workers: int = 2
    """Processes, at least 1."""
    timeout: float = 5.0
    """Seconds an answer may take."""
    memory_mb: int = 2048
    """Address space of a process, in MiB; past half of it, resident, a process is replaced."""

    @property
    def seconds(self) -> float:
        """Longest wait for one answer: its time, a second to end its process, and a new process's start."""
        return self.timeout + 1.0 + START_USUAL

    def __post_init__(self) -> None:
        for name, low, high in (("workers", 1, 256), ("timeout", 0.1, 600), ("memory_mb", 512, 1 << 20)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise TaskError(f"task.{name}: {value!r} is not a number from {low} to {high}")


@dataclass(frozen=True)
class Failure:
    """An answer that could not be judged."""

    outcome: str
    """One of `types.ABSTENTIONS`."""
    why: str


class GradingPool:
    """Runs judges in other processes. They start with the first call and end with the program or `close`.

    Args:
        limits: of time, memory and processes.
        modules: loaded as a process starts; those of the judges.
    """

    def __init__(self, limits: Limits, modules: Sequence[str]):
        self.limits, self.modules = limits, tuple(modules)
        self._pool: Any = None

    def run(self, judge: str, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """`judge(*call)` for every call, in parallel, in their order; a `Failure` where there is no result.

        Args:
            judge: `package.module:function`; a name, so that this process need not import it.
            calls: its arguments, plain values.

        Raises:
            TaskError: the processes cannot start at all.
        """
        results: list[Any] = [None] * len(calls)
        waiting = list(range(len(calls)))
        for last in (False, True):
            broken = self._round(judge, calls, waiting, results)
            if not broken:
                return results
            self.close()
            waiting = broken
            if last:
                for place in broken:
                    results[place] = Failure("grader_crash", "the grading processes broke down twice")
        return results

    def _round(
        self, judge: str, calls: Sequence[tuple[Any, ...]], places: Sequence[int], results: list[Any]
    ) -> list[int]:
        """Fill `results` at `places`; the places whose processes broke down before they were judged."""
        from concurrent.futures.process import BrokenProcessPool

        pool, limits = self._started(), self.limits
        try:
            futures = [
                pool.schedule(sandbox.call, (judge, calls[i], limits.timeout, limits.memory_mb), timeout=limits.timeout)
                for i in places
            ]
        except RuntimeError:  # the pool was found broken
            return list(places)
        # Every answer may take its whole time, and then a process must start anew: the last resort against a hang.
        patience = time.monotonic() + START_SECONDS + len(places) * (limits.timeout + 5.0)
        broken = []
        for i, future in zip(places, futures, strict=True):
            try:
                results[i] = self._verdict(future, patience - time.monotonic())
            except BrokenProcessPool:
                broken.append(i)
        return broken

    def _verdict(self, future: Future[Any], seconds: float) -> Any:
        from concurrent.futures import TimeoutError as WaitedTooLong
        from concurrent.futures.process import BrokenProcessPool

        from pebble import ProcessExpired

        try:
            done, result = future.result(max(0.0, seconds))
        except ProcessExpired as error:
            return Failure("grader_crash", f"the grading process ended with code {error.exitcode}")
        except WaitedTooLong:
            if not future.done():
                raise BrokenProcessPool("no answer from the grading processes") from None
            return Failure("grader_timeout", f"not judged within {self.limits.timeout:g} s")
        return result if done else Failure("grader_crash", f"the grader raised {result}")

    def _started(self) -> Any:
        if self._pool is None:
            from pebble import ProcessPool

            limits = self.limits
            self._pool = ProcessPool(
                limits.workers, 0, sandbox.enter, (self.modules, limits.memory_mb), context=_Context()
            )
            atexit.register(self.close)
            try:
                self._pool.schedule(sandbox.call, ("builtins:abs", (1,), limits.timeout, limits.memory_mb)).result(
                    START_SECONDS
                )
            except Exception as error:
                self.close()
                raise TaskError(
                    f"task: the grading processes cannot start ({type(error).__name__}: "
                    f"{' '.join(str(error).split())}); see above, or raise task.memory_mb ({limits.memory_mb})"
                ) from None
        return self._pool

    def close(self) -> None:
        """End the processes; the next call starts new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            atexit.unregister(self.close)
            pool.stop()
            pool.join()
