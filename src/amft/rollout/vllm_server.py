"""A vLLM server: a process that the trainer starts, watches and starts again, or one that somebody else runs."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from .vllm_client import POLICY, LostServerError, ServerAddress, VllmClient

COMMAND = (sys.executable, "-m", "amft.rollout.vllm_serve")

SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
"""Environment of a server, where the user has not set the name; 1 GiB of cache on a CPU.

Without multiprocessing, the engine computes the model itself on a CPU, as it does on one GPU. Its worker would be a
process that polls without a pause, on a core that the trainer needs while rollouts are drawn ahead.
"""

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
"""What torchrun tells a trainer; a server that saw it would wait for the other ranks."""

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Of which vLLM wants one as the largest."""


class Server(Protocol):
    """Where completions come from."""

    url: str
    key: str

    def start(self, seconds: float) -> None:
        """Have it answer within so many seconds; what was there before is given up. Raises LostServerError."""
        ...

    def last_words(self) -> str:
        """What is known about its end; empty: nothing."""
        ...

    def close(self) -> None:
        """Give it up for good."""
        ...


class OwnServer:
    """`vllm serve` on this machine. It ends when the trainer does, even one that was killed.

    Args:
        arguments: of `vllm serve`, but for host and port.
        environment: of the process.
        command: what runs them.
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], command: Sequence[str] = COMMAND):
        self.command, self.environment = [*command, "--ends-with", str(os.getpid()), *arguments], dict(environment)
        self.url, self.key = "", secrets.token_hex(16)
        self.log = tempfile.NamedTemporaryFile(prefix="amft-vllm-", suffix=".log")  # noqa: SIM115
        self.process: subprocess.Popen[bytes] | None = None
        weakref.finalize(self, self.log.close)
        self._end: Callable[[], object] | None = None

    def start(self, seconds: float) -> None:
        """See `Server`."""
        self._stop()
        self.log.seek(0)
        self.log.truncate()
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [*self.command, "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,  # Ctrl-C is the trainer's to handle
            env=self.environment | {"VLLM_API_KEY": self.key},
        )
        self._end = weakref.finalize(self, _kill, self.process)
        _await_health(self.url, self.key, seconds, self._check_alive)

    def _check_alive(self) -> None:
        assert self.process is not None
        if self.process.poll() is not None:
            raise LostServerError(f"its process ended with exit code {self.process.returncode}")

    def last_words(self) -> str:
        lines = Path(self.log.name).read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip()[-200:] for line in reversed(lines) if line.strip()), "")

    def close(self) -> None:
        self._stop()
        self.log.close()

    def _stop(self) -> None:
        if self._end is not None:
            self._end()


class RunningServer:
    """A server that somebody else started, and starts again when it died.

    Raises:
        ConfigError: `url` is not of the form http://host:port.
    """

    def __init__(self, url: str):
        ServerAddress.of(url)
        self.url, self.key = url.rstrip("/"), os.environ.get("VLLM_API_KEY", "")

    def start(self, seconds: float) -> None:
        """See `Server`; a server that died may be coming back."""
        _await_health(self.url, self.key, seconds, lambda: None)

    def last_words(self) -> str:
        return ""

    def close(self) -> None:
        """It is not ours to end."""


def serve_arguments(
    folder: Path,
    *,
    dtype: str,
    max_batch: int,
    backend: str | None,
    lora_rank: int | None,
    gpu_memory: float | None,
    sleep: bool,
    more: Mapping[str, Any],
) -> list[str]:
    """What `vllm serve` is told.

    Args:
        folder: the model; its config alone unless an adapter is trained.
        dtype: of the engine's weights.
        max_batch: rows decoded together.
        backend: of the weight transfer; None: adapters are loaded by name.
        lora_rank: of the adapters; None: there are none.
        gpu_memory: share of a GPU's memory; None: the server is on a CPU.
        sleep: the GPU's memory can be given back.
        more: further options of `vllm serve`; they come last.
    """
    options: dict[str, Any] = {
        "tokens_only": True,
        "served_model_name": POLICY,
        "dtype": dtype,
        "max_num_seqs": max_batch,
        "generation_config": "vllm",
        "logprobs_mode": "processed_logprobs",
        "middleware": "amft.rollout.server_key.RequireKey",
    }
    if lora_rank is not None:
        options |= {"enable_lora": True, "max_lora_rank": next(r for r in LORA_RANKS if r >= lora_rank)}
    if backend is not None:
        options |= {"load_format": "dummy", "weight_transfer_config": {"backend": backend}}
    if backend == "file":
        options["worker_extension_cls"] = "amft.rollout.file_transfer.FileTransferWorker"
    options |= {"enforce_eager": True} if gpu_memory is None else {"gpu_memory_utilization": gpu_memory}
    if sleep:
        options["enable_sleep_mode"] = True
    return [str(folder), *(word for name, value in {**options, **more}.items() for word in _option(name, value))]


def serve_environment(own: Mapping[str, str], devices: str | None) -> dict[str, str]:
    """The environment of a server that the trainer starts.

    Args:
        own: the trainer's.
        devices: the GPUs that it sees, as CUDA_VISIBLE_DEVICES has them; None: it is on a CPU.
    """
    found = {name: value for name, value in own.items() if name not in OF_RANKS and not name.startswith("TORCHELASTIC")}
    # The server imports this amft, whatever the directory it was started in holds.
    here = str(Path(__file__).parents[2])
    found["PYTHONPATH"] = os.pathsep.join([here, *filter(None, [own.get("PYTHONPATH")])])
    found |= {"PYTHONSAFEPATH": "1", "VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    if devices is not None:
        found["CUDA_VISIBLE_DEVICES"] = devices
        found["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"  # vLLM's ipc pickles handles; they come with our key only
    return SETTINGS | found


def _option(name: str, value: Any) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return [flag] if value else [flag.replace("--", "--no-", 1)]
    return [flag, json.dumps(value) if isinstance(value, dict | list) else str(value)]


def _await_health(url: str, key: str, seconds: float, check: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    while True:
        check()
        try:
            VllmClient(url, key, timeout=max(min(until - time.monotonic(), 10.0), 0.1)).call("/health", get=True)
            return
        except LostServerError as lost:
            if time.monotonic() + 0.2 > until:
                raise LostServerError(f"not up in {seconds:g} s ({lost})") from None
            time.sleep(0.2)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The process and its children; a stopped one too."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
