"""An engine for trainers in other processes.

    python -m amft.rollout.vllm_worker --listen 127.0.0.1:5800

One trainer at a time. What arrives is JSON and tensors, nothing of it is run; but it is not encrypted either, so a
server belongs in a private network. AMFT_ENGINE_KEY, the same on both sides, keeps strangers out.
"""

from __future__ import annotations

import argparse
import hmac
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol

from ..errors import ConfigError, ModelError
from .protocol import Connection
from .remote import KEY
from .vllm_engine import SampledTokens, VllmEngine

GREETING = 2**20
"""Bytes that a stranger may send."""


class ServedEngine(Protocol):
    """What is served."""

    longest: int

    def sample(self, weights: Any, request: Mapping[str, Any]) -> list[SampledTokens]: ...


class Service:
    """Answers trainers, one after the other, with one engine.

    Args:
        build: makes the engine from what the first trainer says it needs.
        key: that a trainer must know.
    """

    def __init__(self, build: Callable[..., ServedEngine], key: str):
        self.build, self.key = build, key
        self.start: dict[str, Any] | None = None
        self.engine: ServedEngine | None = None

    def serve(self, sock: socket.socket) -> None:
        """Until the trainer leaves."""
        connection = Connection(sock)
        try:
            if self._greet(connection):
                while True:
                    self._sample(connection)
        except (ConnectionError, TimeoutError):
            pass  # it left, or said nothing
        finally:
            connection.close()

    def _greet(self, connection: Connection) -> bool:
        connection.within(60)  # a stranger who says nothing must not block the rest
        hello = connection.receive(GREETING)
        connection.within(None)
        if not hmac.compare_digest(str(hello.get("key", "")).encode("utf-8", "replace"), self.key.encode()):
            connection.send(_error(ConfigError(f"engine_options.where: the server wants another {KEY}")))
            return False
        try:
            self._begin(hello.get("start"))
        except (ConfigError, ModelError) as error:
            connection.send(_error(error))
            return False
        assert self.engine is not None
        connection.send({"longest": self.engine.longest})
        return True

    def _begin(self, start: Any) -> None:
        if not isinstance(start, dict):
            raise ConfigError("engine_options.where: the trainer does not say what it needs; is it of this version?")
        if self.engine is None:
            try:
                self.engine, self.start = self.build(**start), start
            except (ConfigError, ModelError):
                raise
            except (TypeError, ValueError, KeyError, AttributeError) as error:
                raise ConfigError(f"engine_options.where: the server cannot make such an engine ({error})") from error
        if start != self.start:
            raise ModelError("engine_options.where: the server holds another model; start it again for this one")

    def _sample(self, connection: Connection) -> None:
        assert self.engine is not None
        request, weights = connection.receive().get("request"), connection.receive_tensors()
        if not isinstance(request, dict):
            raise ConnectionError("the other end does not speak this protocol")
        try:
            answer: dict[str, Any] = {"completions": self.engine.sample(weights, request)}
        except ModelError as error:
            answer = _error(error)
        for _ in weights:  # an engine that refused them did not take them all
            pass
        connection.send(answer)


def _error(error: Exception) -> dict[str, Any]:
    return {"error": str(error), "kind": type(error).__name__}


def listen(service: Service, host: str, port: int) -> NoReturn:
    """Serve for ever.

    Raises:
        ConfigError: there is no key.
    """
    if not service.key:
        raise ConfigError(f"--listen: set {KEY} to a long random word, here and for the trainer")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as door:
        print(f"listening on {host}:{door.getsockname()[1]}", flush=True)
        while True:
            sock, _ = door.accept()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            service.serve(sock)


def run(build: Callable[..., ServedEngine]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="A rollout engine for trainers in other processes.")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--listen", metavar="HOST:PORT")
    way.add_argument("--socket", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    service = Service(build, os.environ.get(KEY, ""))
    if arguments.listen:
        host, _, port = arguments.listen.rpartition(":")
        listen(service, host.strip("[]"), int(port))
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    service.serve(socket.socket(fileno=arguments.socket))


def _end_with(parent: int) -> None:
    """A worker that is stuck would outlive a trainer that was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    run(VllmEngine)
