"""A reward function in a process of its own, which can be killed whatever it does. No torch.

Calls and answers are lines of JSON, so nothing that comes back can run here.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import RewardError
from ..guests import CALL_SECONDS

REWARD_START_SECONDS = 120.0
"""Longest time the file may need to be imported, where a call may take less."""


class IsolatedReward:
    """`path/to/file.py:function`, called in another process. It starts with the first call and keeps what it remembers.

    Args:
        reference: as in `data.rewards`.
        seconds: longest call; then the process is killed, with all it started.

    Raises:
        RewardError: no such file, or a name that cannot be a function's.
    """

    def __init__(self, reference: str, seconds: float = CALL_SECONDS):
        path, _, self.__name__ = reference.rpartition(":")
        if not self.__name__.isidentifier() or not Path(path).is_file():
            raise RewardError(f"reward {reference!r}: no such file; write it as path/to/file.py:function")
        self.path, self.seconds = Path(path).resolve(), seconds
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, **arguments: Sequence[Any]) -> list[float | None]:
        """One number or None per completion.

        Raises:
            RewardError: it failed, died or took too long; or a column is not JSON.
        """
        try:
            line = json.dumps(arguments)
        except (TypeError, ValueError) as error:
            raise RewardError(f"rewards.isolate: a column is not JSON ({error}); leave isolate off") from None
        if self._process is None:
            self._start()
        answer = self._ask(line, self.seconds)
        if "error" in answer:
            raise RewardError(answer["error"])
        values: list[float | None] = answer["values"]
        return values

    def close(self) -> None:
        """Kill the process and all it started."""
        process, self._process = self._process, None
        if process is None:
            return
        atexit.unregister(self.close)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    def _start(self) -> None:
        package = str(Path(__file__).parents[2])
        paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "amft.data.reward_process", f"{self.path}:{self.__name__}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # Ctrl-C is for the run; and a group can be killed whole
        )
        atexit.register(self.close)
        answer = self._ask(None, max(REWARD_START_SECONDS, self.seconds))
        if "error" in answer:
            self.close()
            raise RewardError(answer["error"])

    def _ask(self, line: str | None, seconds: float) -> dict[str, Any]:
        """Send a line, if any, and wait for one."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if line is not None:
                process.stdin.write(line.encode() + b"\n")
                process.stdin.flush()
            found = _line(process.stdout.fileno(), seconds)
            answer: dict[str, Any] = json.loads(found)
            return answer
        except TimeoutError:
            self.close()
            raise RewardError(
                f"reward function {self.__name__!r} did not return within {seconds:g} s (reward_timeout); it was killed"
            ) from None
        except (OSError, EOFError, ValueError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            code = process.poll()
            self.close()
            raise RewardError(
                f"reward function {self.__name__!r}: its process ended with code {code} in the middle of a call"
            ) from None
        except BaseException:  # the wait was cut: what is late would be taken for the answer to the next call
            self.close()
            raise


def _line(stream: int, seconds: float) -> bytes:
    """Raises: TimeoutError, EOFError."""
    ends, parts = time.monotonic() + seconds, bytearray()
    with selectors.DefaultSelector() as waits:
        waits.register(stream, selectors.EVENT_READ)
        while not parts.endswith(b"\n"):
            if not waits.select(max(0.0, ends - time.monotonic())):
                raise TimeoutError
            part = os.read(stream, 1 << 20)
            if not part:
                raise EOFError
            parts += part
    return bytes(parts)
