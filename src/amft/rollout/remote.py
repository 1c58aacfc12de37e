"""An engine in another process: every call has a time limit, and a dead or stuck engine is started again."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from ..errors import ConfigError, EngineError, ModelError
from .protocol import Connection
from .vllm_engine import SampledTokens
from .worker_process import Endpoint

WeightStream = Callable[[], Iterable[tuple[str, Tensor]]]
"""The policy's present weights, from the beginning, as often as they are asked for."""

KEY = "AMFT_ENGINE_KEY"
"""Environment variable with the word that a server asks for."""

ERRORS = {"ConfigError": ConfigError, "ModelError": ModelError}
"""Errors of the user's that an engine reports; to start it again would not help."""

log = logging.getLogger("amft")


class RemoteEngine:
    """Calls an engine elsewhere; a call that fails is made again on a new engine, with the same weights and seeds.

    A dead engine is noticed at once, a stuck one after `timeout`; a new one must answer within `start_timeout`. So a
    call returns, or fails for good, within `(patience + 1) * (timeout + start_timeout)` seconds.

    Args:
        endpoint: where it is.
        start: arguments of `VllmEngine`.
        timeout: seconds for weights and completions of one call.
        start_timeout: seconds for a start.
        patience: starts in a row after a failure, before it is an error.

    Raises:
        EngineError: it does not start.
        ConfigError, ModelError: it starts, but refuses `start`.
    """

    def __init__(
        self, endpoint: Endpoint, start: Mapping[str, Any], *, timeout: float, start_timeout: float, patience: int
    ):
        self.endpoint, self.start = endpoint, start
        self.timeout, self.start_timeout, self.patience = timeout, start_timeout, patience
        self.restarts, self.longest = 0, 0
        self.connection: Connection | None = None
        self._insist(lambda: None)

    def sample(self, weights: WeightStream, request: Mapping[str, Any]) -> list[SampledTokens]:
        """Push, then complete every row of the request.

        Raises:
            EngineError: the engine failed `patience + 1` times in a row.
            ModelError: it refuses the weights.
        """
        return self._insist(lambda: self._sample(weights, request))

    def close(self) -> None:
        """End a worker, leave a server."""
        self._leave()
        self.endpoint.close()

    def _insist(self, call: Callable[[], Any]) -> Any:
        for failures in range(self.patience + 1):
            if failures:
                self.restarts += 1
            try:
                if self.connection is None:
                    self._connect()
                return call()
            except OSError as error:
                self._leave()
                said = self._said(error)
                log.warning("engine vllm: %s; starting it again", said)
        self.endpoint.close()
        raise EngineError(
            f"engine vllm: it failed {self.patience + 1} times in a row, the last time as {said}; "
            "see engine_options in docs/vllm.md, or use engine decode or hf"
        )

    def _connect(self) -> None:
        self.connection = self.endpoint.reach(self.start_timeout)
        self.connection.within(self.start_timeout)
        self.connection.send({"key": os.environ.get(KEY, ""), "start": dict(self.start)})
        try:
            self.longest = int(self._answer(self.connection)["longest"])
        except (ConfigError, ModelError):
            self.close()
            raise

    def _sample(self, weights: WeightStream, request: Mapping[str, Any]) -> list[SampledTokens]:
        assert self.connection is not None
        self.connection.within(self.timeout)
        self.connection.send({"request": dict(request)})
        self.connection.send_tensors(weights())
        return [(ids, finished, logps) for ids, finished, logps in self._answer(self.connection)["completions"]]

    def _answer(self, connection: Connection) -> dict[str, Any]:
        answer = connection.receive()
        if "error" in answer:
            raise ERRORS.get(answer["kind"], ModelError)(answer["error"])
        return answer

    def _leave(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _said(self, error: OSError) -> str:
        what = "no answer in time" if isinstance(error, TimeoutError) else f"the connection is lost ({error})"
        words = self.endpoint.last_words()
        return f"{what}; its last words: {words}" if words else what
