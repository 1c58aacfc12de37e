"""A limit on the time of a call that nothing in the same process can interrupt."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STUCK = 2
"""Exit code, that of an error the user can act on."""


@contextmanager
def time_limit(seconds: float, said: str) -> Iterator[None]:
    """End the process with one line if the block takes longer.

    A call stuck in compiled code answers to no signal and no exception, so the process ends at once, without clean-up;
    checkpoints already written stay.
    """
    timer = threading.Timer(seconds, _end, [said])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(said: str) -> None:
    sys.stderr.write(f"\namft: {said}; the run stops here, continue with --resume\n")
    sys.stderr.flush()
    os._exit(STUCK)
