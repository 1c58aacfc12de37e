"""Where an engine in another process is: a worker started here, or a server that somebody else runs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch

from ..errors import ConfigError
from .protocol import Connection

WORKER = ("-m", "amft.rollout.vllm_worker")

OF_RANKS = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "ROLE_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
)
"""What torchrun tells a trainer; an engine that saw it would wait for the other ranks."""


class Endpoint(Protocol):
    """Somewhere an engine can be reached, again and again."""

    def reach(self, seconds: float) -> Connection:
        """A new connection; what was there before is given up. Raises OSError."""
        ...

    def last_words(self) -> str:
        """What is known about its end; empty: nothing."""
        ...

    def close(self) -> None:
        """Give it up for good."""
        ...


class Worker:
    """A process of one's own, killed and started anew at every `reach`. It ends when the trainer does.

    Args:
        device: the trainer's; the worker sees the same GPU.
        command: what Python runs; its last argument will be the number of the socket.
    """

    def __init__(self, device: torch.device, command: Sequence[str] = WORKER):
        self.command, self.environment = command, _environment(os.environ, device)
        self.log = tempfile.NamedTemporaryFile(prefix="amft-engine-", suffix=".log")  # noqa: SIM115
        self.process: subprocess.Popen[bytes] | None = None
        weakref.finalize(self, self.log.close)
        self._end: Callable[[], object] | None = None

    def reach(self, seconds: float) -> Connection:  # noqa: ARG002
        """See `Endpoint`. The process is started; whether it answers, the caller will see."""
        self._stop()
        self.log.seek(0)
        self.log.truncate()
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, *self.command, "--socket", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=self.log,
                start_new_session=True,  # Ctrl-C is the trainer's to handle
                env=self.environment,
            )
        self._end = weakref.finalize(self, _kill, self.process)
        return Connection(ours)

    def last_words(self) -> str:
        lines = Path(self.log.name).read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")

    def close(self) -> None:
        self._stop()
        self.log.close()

    def _stop(self) -> None:
        if self._end is not None:
            self._end()


class Server:
    """An engine that somebody else started with `--listen`, and starts again when it died."""

    def __init__(self, host: str, port: int):
        self.host, self.port = host, port

    def reach(self, seconds: float) -> Connection:
        """See `Endpoint`. Tried until the time is up, since a server that died may be coming back."""
        until = time.monotonic() + seconds
        while True:
            try:
                return Connection(
                    socket.create_connection((self.host, self.port), timeout=max(until - time.monotonic(), 0.1))
                )
            except OSError:
                if time.monotonic() + 1 > until:
                    raise
                time.sleep(1)

    def last_words(self) -> str:
        return ""

    def close(self) -> None:
        """It is not ours to end."""


def endpoint_of(where: str, device: torch.device) -> Endpoint:
    """`worker` or `host:port` as an endpoint.

    Raises:
        ConfigError: it is neither.
    """
    if where == "worker":
        return Worker(device)
    host, _, port = where.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise ConfigError(f"engine_options.where: {where!r} is none of trainer, worker and host:port")
    return Server(host.strip("[]"), int(port))


def _environment(own: Mapping[str, str], device: torch.device) -> dict[str, str]:
    found = {name: value for name, value in own.items() if name not in OF_RANKS and not name.startswith("TORCHELASTIC")}
    # The worker imports this amft, whatever the directory it was started in holds.
    here = str(Path(__file__).parents[2])
    found["PYTHONPATH"] = os.pathsep.join([here, *filter(None, [own.get("PYTHONPATH")])])
    found["PYTHONSAFEPATH"] = "1"
    if device.type == "cuda":
        visible = own.get("CUDA_VISIBLE_DEVICES")
        index = device.index or 0
        found["CUDA_VISIBLE_DEVICES"] = visible.split(",")[index] if visible else str(index)
    return found


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The process and its children; a stopped one too."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
