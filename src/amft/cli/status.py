"""What a command is doing now, said on stderr where it takes long."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from .rank_output import is_main

PATIENCE = 0.5
"""Seconds: what is over before that, a mistake in the input say, is told alone."""


@contextmanager
def doing(what: str) -> Iterator[None]:
    """While open longer than `PATIENCE`, one line says what goes on. Only the first of several processes speaks."""
    timer = threading.Timer(PATIENCE, lambda: typer.echo(f"amft: {what} ...", err=True))
    timer.daemon = True
    if is_main():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
