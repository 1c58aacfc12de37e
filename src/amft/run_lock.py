"""One writer at a time: an operating system's lock on a file, gone with the process that holds it. No torch."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from pathlib import Path
from typing import IO, Any

from .disk import disk_guard
from .errors import RunError

LOCK_FILE = "run.lock"


def try_lock(file: IO[Any]) -> bool:
    """Take the exclusive lock on an open file; False when another process has it.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class RunLock:
    """The right to write in a run directory. The file stays when it is released; a lock left by a dead process is none.

    Args:
        directory: of the run.
    """

    def __init__(self, directory: Path):
        self.path = directory / LOCK_FILE
        self._file: IO[bytes] | None = None

    def take(self) -> str | None:
        """Take the lock, for as long as this process lives or until `release`.

        Returns:
            What a user should know: that the file system has no locks, so that nothing keeps a second writer away.

        Raises:
            RunError: another process writes here; says which.
        """
        with disk_guard(self.path):
            file = open(self.path, "a+b", buffering=0)  # noqa: SIM115  # held open until `release`
        try:
            if not try_lock(file):
                file.seek(0)
                owner = file.read(200).decode("utf-8", "replace").strip("\0\n ") or "of which nothing is known"
                file.close()
                raise RunError(
                    f"{self.path.parent}: another process is writing this run ({owner}); wait for it, stop it, or "
                    "choose another output_dir"
                )
        except OSError as error:
            if isinstance(error, RunError):
                raise
            file.close()
            return f"{self.path}: this file system has no locks ({error.strerror}); start no second process on this run"
        self._file = file
        self._write_owner(file)
        return None

    def release(self) -> None:
        """Let another process write; nothing happens where the lock is not held."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.truncate(0)
            self._file.close()
            self._file = None

    @staticmethod
    def _write_owner(file: IO[bytes]) -> None:
        # On a full disk the lock holds, only its owner stays unnamed.
        with contextlib.suppress(OSError):
            file.truncate(0)
            owner = f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
            file.write(owner.encode())
