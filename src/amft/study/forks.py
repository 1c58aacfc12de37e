"""Processes that begin with everything imported: forked from one server, which has no threads and no run of its own.

Importing torch and transformers takes about five seconds of a core, more than a short run trains.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerProcess
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

PRELOAD = ["amft.assembly.training", "amft.training.trainer", "amft.report.page"] if sys.platform == "linux" else []
"""What the server imports. Elsewhere nothing: system libraries of macOS do not survive a fork."""

_CONTEXT = multiprocessing.get_context("forkserver")
_GUARD = threading.Lock()  # two threads that poll one process at once: one of them reads no exit code


def serve(variables: Mapping[str, str]) -> None:
    """Start the server, unless it runs. `variables` are set before its libraries are loaded: numbers of threads."""
    known = dict(os.environ)
    _CONTEXT.set_forkserver_preload(PRELOAD)
    os.environ.update(variables)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(known)


def start(
    words: Sequence[str], *, environment: Mapping[str, str], cores: frozenset[int] | None, log: Path, kept: int
) -> ForkServerProcess:
    """Run `python -m words...` in a session of its own.

    Args:
        words: a module and its arguments.
        environment: all of its environment.
        cores: CPUs it may use; None leaves them as they are.
        log: gets what it prints, at the end.
        kept: a file descriptor it holds open to its end; a lock on it is shared.
    """
    with _GUARD:
        process = _CONTEXT.Process(target=_Module(list(words), dict(environment), cores, str(log), kept))
        process.start()
    return process


def wait(process: ForkServerProcess) -> int:
    """Wait for its end: its exit code, or minus the number of the signal that ended it."""
    connection.wait([process.sentinel])
    with _GUARD:
        process.join()
    assert process.exitcode is not None
    return process.exitcode


@dataclass
class _Module:
    """What a process does; pickled on its way there."""

    words: list[str]
    environment: dict[str, str]
    cores: frozenset[int] | None
    log: str
    kept: Any

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "kept": DupFd(self.kept)}

    def __call__(self) -> None:
        os.setsid()
        self.kept = self.kept.detach()
        log = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.clear()
        os.environ.update(self.environment)
        if self.cores is not None:
            os.sched_setaffinity(0, self.cores)
        sys.argv = self.words
        try:
            runpy.run_module(self.words[0], run_name="__main__", alter_sys=True)
        finally:
            atexit._run_exitfuncs()  # a forked process ends without them
