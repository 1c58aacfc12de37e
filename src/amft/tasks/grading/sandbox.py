"""What a grading process may do. Runs in the child; nothing here is called in the training process.

The caps hold in layers, so that no single one has to be perfect. Python refuses to start processes, to open
sockets, to write files or to send signals (an audit hook, which cannot be taken off); the kernel refuses memory
beyond the cap and, where the user is not root, new processes; an alarm that no handler can catch ends the process
if the parent does not.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

ALARM_GRACE = 2
"""Seconds after its time limit at which a grader ends itself, whatever became of its parent."""

OUT_OF_MEMORY = 70
"""Exit code of a process that came near its memory cap."""

_REFUSED = (
    "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "os.kill", "os.remove",
    "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown", "pty.spawn",
    "shutil.", "signal.", "socket.", "subprocess.", "webbrowser.", "ftplib.", "smtplib.", "urllib.",
)  # fmt: skip
_READ_ONLY = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)


def enter(modules: Sequence[str], memory_mb: int) -> None:
    """Load what the graders need, then shut the door.

    Args:
        modules: imported before the caps, and their `warm_up()` called if there is one, so that no grade pays.
        memory_mb: address space of the process, in MiB.
    """
    # The default action of SIGTERM ends a process that is deep in a C call; a Python handler would wait for it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.dont_write_bytecode = True
    loaded = [importlib.import_module(name) for name in modules]
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silence, stream)
    for module in loaded:
        getattr(module, "warm_up", _nothing)()
    _limit(memory_mb)
    sys.addaudithook(_refuse)


def _nothing() -> None:
    """A module without a warm-up."""


def _limit(memory_mb: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits; time limits and the hook stay
        return
    cap = memory_mb << 20
    for name, value in (("RLIMIT_AS", cap), ("RLIMIT_NPROC", 0), ("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0)):
        with contextlib.suppress(ValueError, OSError):  # a lower hard limit is already in force
            resource.setrlimit(getattr(resource, name), (value, value))


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    if event.startswith(_REFUSED) or (event == "open" and not _reads(*args)):
        raise PermissionError(f"a grader may not {event}")


def _reads(_path: object, mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return not set(mode) & set("wax+")
    return isinstance(flags, int) and flags & ~getattr(os, "O_DIRECTORY", 0) == _READ_ONLY


def call(judge: str, args: tuple[Any, ...], timeout: float, memory_mb: int) -> Any:
    """What `judge` returns, or the name of the exception it ended with.

    Graders catch exceptions of all kinds, running out of memory among them, and then call an answer wrong. So a
    process that came near its cap gives no verdict at all: it ends, and another takes its place.

    Args:
        judge: `package.module:function`.
        args: its arguments.
        timeout: seconds after which the parent kills this process.
        memory_mb: the cap that `enter` set.

    Returns:
        `(True, result)` or `(False, name of the exception)`.
    """
    signal.setitimer(signal.ITIMER_REAL, math.ceil(timeout) + ALARM_GRACE)
    try:
        module, _, name = judge.partition(":")
        result = (True, getattr(importlib.import_module(module), name)(*args))
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except BaseException as error:  # also KeyboardInterrupt and SystemExit: nothing a judge does may end the loop
        result = (False, type(error).__name__)
    signal.setitimer(signal.ITIMER_REAL, 0)
    if peak_memory_mb() > memory_mb / 2:
        os._exit(OUT_OF_MEMORY)
    return result


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, in MiB; 0 where the system does not tell.

    `ru_maxrss` would not do: a child inherits it from the process that started it, a trainer of many gigabytes.
    """
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return 0.0
