"""How far something is: a bar on a terminal or in a notebook; elsewhere a line at least every half minute."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from tqdm import tqdm

SILENCE = 30.0
"""Seconds between two lines, where no bar is drawn."""


class Bar(Protocol):
    """What moves as the work goes on."""

    def move(self, n: int, shown: Mapping[str, str]) -> None:
        """So many units more are done. Args: shown: name -> what is told beside the count."""


def say(doing: str) -> None:
    """One line about what goes on, on stderr, above a bar that may be there."""
    tqdm.write(f"amft: {doing}", file=sys.stderr)


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this process."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", ())


def is_drawn() -> bool:
    """Whether somebody sees a bar move, so that lines would only disturb."""
    return in_notebook() or sys.stderr.isatty()


@contextmanager
def progress_bar(total: int, unit: str, done: int = 0) -> Iterator[Bar]:
    """A bar, or lines, of `total` units of work.

    Args:
        total: units in all.
        unit: what they are called, in the singular.
        done: units that an earlier process did.
    """
    if in_notebook():
        yield _NotebookBar(total, done)
    elif is_drawn():
        with tqdm(total=total, initial=done, unit=unit, dynamic_ncols=True) as bar:
            yield _TerminalBar(bar)
    else:
        lines = _Lines(total, unit, done)
        with heartbeat(lines.text):
            yield lines


@contextmanager
def heartbeat(text: Callable[[], str]) -> Iterator[None]:
    """While open, and where no bar is drawn, a line every `SILENCE` seconds. Args: text: what it says then."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(SILENCE):
            say(text())

    thread = threading.Thread(target=beat, daemon=True)
    if not is_drawn():
        thread.start()
    try:
        yield
    finally:
        over.set()
        if thread.is_alive():
            thread.join()


@contextmanager
def waiting(doing: str) -> Iterator[None]:
    """Say what goes on, and again every `SILENCE` seconds for how long it has."""
    say(doing)
    started = time.monotonic()
    with heartbeat(lambda: f"{doing}, {_minutes(time.monotonic() - started)} so far"):
        yield


class _TerminalBar:
    def __init__(self, bar: Any):
        self.bar = bar

    def move(self, n: int, shown: Mapping[str, str]) -> None:
        self.bar.set_postfix(dict(shown), refresh=False)
        self.bar.update(n)


class _NotebookBar:
    """The bar of transformers' own trainer: plain HTML, no widgets."""

    def __init__(self, total: int, done: int):
        from transformers.utils.notebook import NotebookProgressBar

        self.done, self.bar = done, NotebookProgressBar(total)
        self.bar.update(done)

    def move(self, n: int, shown: Mapping[str, str]) -> None:
        self.done += n
        told = ", ".join(f"{name} {value}" for name, value in shown.items())
        self.bar.update(self.done, force_update=self.done >= self.bar.total, comment=told)


class _Lines:
    def __init__(self, total: int, unit: str, done: int):
        self.total, self.unit, self.first, self.done = total, unit, done, done
        self.shown: Mapping[str, str] = {}
        self.started = time.monotonic()

    def move(self, n: int, shown: Mapping[str, str]) -> None:
        self.done, self.shown = self.done + n, shown

    def text(self) -> str:
        passed, made = time.monotonic() - self.started, self.done - self.first
        left = (
            f"about {_minutes(passed / made * (self.total - self.done))} left" if made else f"{_minutes(passed)} so far"
        )
        told = [f"{self.unit} {self.done} of {self.total}", *(f"{name} {value}" for name, value in self.shown.items())]
        return ", ".join([*told, left])


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"
