"""Users' code is a guest: a reward, a rule or a task of one's own may raise, exit, hang or move away.

Whatever it does ends in one line that names it; it never ends the program with exit code 0, and never for good. A call
is cut when it takes longer than it may, or when the run should have ended: by a timer of the operating system, whose
signal wakes a sleeping main thread too. Only compiled code that keeps the interpreter to itself cannot be reached so;
`rewards.isolate` is for that.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from .errors import AMFTError, CutShortError

CALL_SECONDS = 3600.0
"""Longest call of a guest where nobody says otherwise."""

GRACE = 5.0
"""Seconds a call may go on after the end of the run was asked for, if no call before it took half as long."""

_AGAIN = 1.0
"""Seconds after which a guest that swallowed the signal gets it again."""

_PATIENCE = 5
"""Signals a guest may swallow before the process ends without it."""

_HARD_EXIT = os._exit
_EXIT_CODES = {"SIGTERM": 143, "SIGINT": 130}


class _Cut(BaseException):
    """Raised in the middle of a guest's call; not an `Exception`, so that its own handlers let it pass."""


@dataclass
class Host:
    """How long guests may stay. There is one, as there is one alarm in a process."""

    call_seconds: float = CALL_SECONDS
    """Of one call."""
    ends: float | None = None
    """Monotonic time at which the run ends (`max_seconds`)."""
    told: str | None = None
    """Name of the signal that asked the run to stop."""
    longest: float = 0.0
    """Seconds of the longest call so far."""
    guest: str | None = None
    """Who is at work."""
    cause: str = ""
    """Why the timer will ring."""
    rings: int = 0
    """Times it rang for this guest."""
    handler: Any = None
    """Of the alarm, before the guest came."""

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Inside, a call may take so long."""
        before, self.call_seconds = self.call_seconds, seconds
        try:
            yield
        finally:
            self.call_seconds = before

    def hurry(self, name: str) -> None:
        """The run shall stop: what is at work now may finish, within its grace. `name`: of the signal."""
        self.told = name
        if self.guest is not None and _can_ring():
            self._arm()

    def _arm(self) -> None:
        grace = max(GRACE, 2 * self.longest)
        limits = [(self.call_seconds, "time")]
        if self.ends is not None:
            limits.append((max(0.0, self.ends - time.monotonic()) + grace, "max_seconds"))
        if self.told is not None:
            limits.append((grace, self.told))
        seconds, self.cause = min(limits)
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)

    @contextmanager
    def watching(self, who: str) -> Iterator[None]:
        """Inside, `who` is at work and cut when its time is over."""
        others = signal.getitimer(signal.ITIMER_REAL)[0] if _can_ring() else 0.0
        if not _can_ring() or others:  # somebody else's alarm stays theirs
            yield
            return
        self.handler, begun = signal.signal(signal.SIGALRM, self._ring), time.monotonic()
        self.guest, self.rings = who, 0
        try:
            self._arm()
            yield
        finally:
            self.rest()
            self.longest = max(self.longest, time.monotonic() - begun)

    def rest(self) -> None:
        """Turn the alarm off."""
        if self.guest is not None:
            self.guest = None  # from here on a signal that is under way does nothing
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self.handler)

    def _ring(self, _number: int, _frame: FrameType | None) -> None:
        if self.guest is None:
            return
        self.rings += 1
        if self.rings > _PATIENCE:
            said = f"amft: error: {self.guest} cannot be stopped, so the process ends; continue with --resume\n"
            os.write(2, said.encode())
            _HARD_EXIT(_EXIT_CODES.get(self.cause, 2))
        raise _Cut


HOST = Host()


def _can_ring() -> bool:
    return hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()


@contextmanager
def guest(who: str, error: type[AMFTError], *, timed: bool = True) -> Iterator[None]:
    """Inside runs a user's code: `who`, for messages.

    Args:
        error: what its failure becomes.
        timed: it is cut when its time is over; False for code that calls the run's own work.

    Raises:
        error: it raised or exited (`AMFTError`s pass as they are), or took longer than `HOST.call_seconds`.
        CutShortError: the run should have ended, and it did not.
    """
    belongings = _Belongings.now()
    os._exit = _no_exit(belongings.hard_exit, os.getpid())  # type: ignore[assignment]
    try:
        with HOST.watching(who) if timed and HOST.guest is None else contextlib.nullcontext():
            yield
    except _Cut:
        HOST.rest()  # the signal may have come between the end of the call and the end of its watch
        raise _cut_short(who, error) from None
    except (AMFTError, KeyboardInterrupt):
        raise
    except BaseException as raised:  # SystemExit and CancelledError too
        raise error(f"{who} raised {one_line(raised)}{place_of(raised)}") from raised
    finally:
        belongings.put_back()


def _cut_short(who: str, error: type[AMFTError]) -> AMFTError:
    if HOST.cause == "time":
        return error(f"{who} did not return within {HOST.call_seconds:g} s (reward_timeout)")
    asked = "max_seconds is over" if HOST.cause == "max_seconds" else f"{HOST.cause} came"
    return CutShortError(f"{asked} while {who} was still at work, so the run stops in the middle of a step", HOST.told)


def one_line(error: BaseException) -> str:
    """An exception's type and message on one line, shortened."""
    try:
        words = " ".join(str(error).split())
    except Exception:  # its own __str__ is a guest's too
        words = "no message"
    return f"{type(error).__name__}: {words[:300]}"


def place_of(error: BaseException) -> str:
    """Where in the guest's own file; nothing if it never got there."""
    trace, found = error.__traceback__, None
    while trace is not None:
        found, trace = trace, trace.tb_next
    if found is None or found.tb_frame.f_code.co_filename == __file__:
        return ""
    return f" at {Path(found.tb_frame.f_code.co_filename).name}:{found.tb_lineno}"


@dataclass(frozen=True)
class _Belongings:
    """What a guest might carry off: the current directory, the handlers of the stop signals, the standard streams."""

    directory: str | None
    handlers: dict[int, Any]
    streams: tuple[Any, Any]
    hard_exit: Callable[[int], Any]

    @classmethod
    def now(cls) -> _Belongings:
        numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        try:
            directory: str | None = os.getcwd()
        except OSError:
            directory = None
        return cls(
            directory, {number: signal.getsignal(number) for number in numbers}, (sys.stdout, sys.stderr), os._exit
        )

    def put_back(self) -> None:
        os._exit = self.hard_exit  # type: ignore[assignment]
        if self.directory is not None:
            with contextlib.suppress(OSError):
                os.chdir(self.directory)
        for number, handler in self.handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        sys.stdout, sys.stderr = map(_open_still, self.streams)


def _no_exit(hard_exit: Callable[[int], Any], pid: int) -> Callable[[int], Any]:
    """`os._exit` as a guest sees it: in this process an exit like any other, which cannot pass for the run's own."""

    def leave(status: int) -> Any:
        if os.getpid() == pid:
            raise SystemExit(status)
        return hard_exit(status)  # a child that was forked ends as it should

    return leave


def _open_still(stream: Any) -> Any:
    """The stream, or one that swallows all where it was closed."""
    return open(os.devnull, "w") if getattr(stream, "closed", False) else stream


class Hosted:
    """Our hands around a guest: what it is made of is the guest's own.

    Args:
        guest: a task, or a part of a method.
    """

    def __init__(self, guest: Any):
        self.wrapped = guest


def is_guest_class(kind: type) -> bool:
    """Whether a class is somebody's own, not one that ships with the package."""
    return kind.__module__.partition(".")[0] != __package__


def is_guest(thing: object) -> bool:
    """Whether a rule, task or part is of such a class."""
    return is_guest_class(type(thing))


def call_guest(thing: object, who: str, error: type[AMFTError], call: Callable[[], Any], *, timed: bool = True) -> Any:
    """What `call` returns, as a guest's call if `thing` is a guest; our own code keeps its tracebacks."""
    if not is_guest(thing):
        return call()
    with guest(who, error, timed=timed):
        return call()


def load_file(path: Path, name: str, who: str, error: type[AMFTError]) -> ModuleType:
    """The module of a user's file. Its code runs.

    Args:
        path: a file that exists.
        name: of the module in `sys.modules`: dataclasses in the file look it up.
        who: what names the file, for messages.
        error: raised when it cannot be imported.
    """
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise error(f"{who}: {path} is not a Python file; name it .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with guest(who, error):
            spec.loader.exec_module(module)
    except AMFTError as raised:
        del sys.modules[name]
        cause = raised.__cause__
        said = one_line(cause) if cause is not None else str(raised)
        raise error(f"{who}: {path} cannot be imported ({said})") from cause
    return module
