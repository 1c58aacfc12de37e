"""Stops a run before it damages itself: non-finite steps, and the operating system's stop signals. No torch."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from ..errors import NonFiniteError, RewardError
from ..guests import CALL_SECONDS, HOST
from ..runs import write_json

_CURE = "a smaller learning_rate or max_grad_norm is the usual cure"
_CURES = {"reward": "look there for what was rewarded, and at the reward function"}


class NonFiniteGuard:
    """Says which steps to skip, and ends the run after too many of them in a row.

    Args:
        max_bad_steps: non-finite steps in a row that end the run.
        run: run directory; bundles go to `incidents/step-N.json` under it. None on the ranks that write nothing.
    """

    def __init__(self, max_bad_steps: int, run: Path | None):
        self.max_bad_steps = max_bad_steps
        self.incidents = None if run is None else run / "incidents"
        self.bad_in_a_row = 0

    def check(self, step: int, values: Mapping[str, float], bundle: Callable[[], Mapping[str, Any]]) -> bool:
        """True when every value is finite; else writes a bundle and returns False: skip this step.

        Args:
            step: optimizer step.
            values: losses and gradient norms by name, measured before the optimizer moves anything.
            bundle: called on a bad step only; JSON values that let a person replay it (texts, token ids, statistics).

        Raises:
            NonFiniteError: this was the last bad step allowed.
        """
        bad = {name: value for name, value in values.items() if not math.isfinite(value)}
        if not bad:
            self.bad_in_a_row = 0
            return True
        self.bad_in_a_row += 1
        where = self._write(step, values, bundle())
        if self.bad_in_a_row >= self.max_bad_steps:
            named = ", ".join(f"{name} {float(value)}" for name, value in bad.items())
            raise NonFiniteError(
                f"step {step}: {named}; {self.bad_in_a_row} such steps in a row (max_bad_steps), so the run stopped; "
                f"the last batch is in {where}; {_CURES.get(next(iter(bad)), _CURE)}"
            )
        return False

    def state_dict(self) -> dict[str, int]:
        """JSON values."""
        return {"bad_in_a_row": self.bad_in_a_row}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue a count."""
        self.bad_in_a_row = int(state["bad_in_a_row"])

    def _write(self, step: int, values: Mapping[str, float], bundle: Mapping[str, Any]) -> str:
        if self.incidents is None:
            return "rank 0's run directory"
        path = self.incidents / f"step-{step}.json"
        measured = {name: float(value) for name, value in values.items()}
        try:
            self.incidents.mkdir(parents=True, exist_ok=True)
            write_json(path, _printable({"step": step, "values": measured, **bundle}))
        except OSError as error:  # a full disk must not hide why the run is in trouble
            return f"{path} (which could not be written: {error.strerror})"
        return str(path)


def _printable(value: Any) -> Any:
    """The same JSON value with non-finite numbers as words: plain JSON has none."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _printable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(item) for item in value]
    return value


class AbstentionGuard:
    """Ends a run in which nothing is ever rewarded, since it could only copy."""

    limit = 3
    """Generations in a row without a single reward."""

    def __init__(self) -> None:
        self.in_a_row = 0

    def check(self, step: int, row: Mapping[str, Any]) -> None:
        """Count a step's generation, where it has one.

        Args:
            step: optimizer step.
            row: its metrics; `frac_reward_abstained` is the share of completions without a reward.

        Raises:
            RewardError: this was the last one allowed.
        """
        if "frac_reward_abstained" not in row:
            return
        self.in_a_row = self.in_a_row + 1 if row["frac_reward_abstained"] == 1 else 0
        if self.in_a_row >= self.limit:
            raise RewardError(
                f"step {step}: no completion of the last {self.in_a_row} generations got a reward, so there is nothing "
                "to explore; a reward function returned None for all of them: let it return numbers"
            )


class StopSignals:
    """While open, SIGINT and SIGTERM only set `received`; the loop saves and leaves at the next step.

    Users' code that is at work then gets a short grace (`guests`). A second SIGINT raises KeyboardInterrupt. A signal
    that was ignored (nohup) stays ignored. Outside the main thread, where Python allows no handlers, it does nothing.
    """

    received: str | None = None
    """Name of the first signal, for example `SIGTERM`."""

    def __init__(self, call_seconds: float = CALL_SECONDS) -> None:
        """Args: call_seconds: longest call of users' code."""
        self.call_seconds = self._before = call_seconds
        self._old: dict[int, Any] = {}
        self._interrupts = 0

    def __enter__(self) -> StopSignals:
        self.received = None
        self._interrupts = 0
        self._before, HOST.call_seconds = HOST.call_seconds, self.call_seconds
        HOST.told, HOST.ends, HOST.longest = None, None, 0.0
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._old.clear()
        HOST.call_seconds, HOST.told, HOST.ends = self._before, None, None

    @contextmanager
    def within(self, seconds: float | None) -> Iterator[None]:
        """Inside, users' code may not go on for longer than this (and its grace); None: for as long as a call may."""
        HOST.ends = None if seconds is None else time.monotonic() + seconds
        try:
            yield
        finally:
            HOST.ends = None

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number).name
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            raise KeyboardInterrupt
        HOST.hurry(self.received)
