"""What a trainer says to a vLLM server, over vLLM's own HTTP endpoints: tokens in and out, weights, adapters."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..errors import ConfigError, ModelError

POLICY = "policy"
"""How the served model is called."""

TOGETHER = 64
"""Requests on their way at the same time, of one rank."""

SampledTokens = tuple[list[int], bool, "list[float]"]
"""Tokens, whether an end token was reached, and their log-probabilities (none where they were not asked for)."""


class LostServerError(Exception):
    """The server is gone, does not answer in time, or answers what vLLM would not; a new start may help."""


class ServerAddress(NamedTuple):
    """Where a server listens."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> ServerAddress:
        """Of `http://host:port`.

        Raises:
            ConfigError: it is not of this form.
        """
        parts = urlsplit(url)
        with contextlib.suppress(ValueError):
            if parts.scheme in ("http", "https") and parts.hostname and parts.port and parts.path in ("", "/"):
                return cls(parts.scheme, parts.hostname, parts.port)
        raise ConfigError(f"engine_options.where: {url!r} is neither own nor of the form http://host:port")


class VllmClient:
    """One server.

    Args:
        url: `http://host:port`.
        key: that the server asks for.
        timeout: seconds one call may take.
    """

    def __init__(self, url: str, key: str, timeout: float):
        self.url, self.key, self.timeout = url, key, timeout
        self.version = "0"
        """Of the weights that are pushed or were pushed last."""
        self.model = POLICY
        """Who answers: the model, or one of its adapters."""

    def call(self, path: str, body: Mapping[str, Any] | None = None, *, get: bool = False) -> Any:
        """The JSON answer of one endpoint; None where it answers in other words.

        Raises:
            LostServerError: no answer in time, a lost connection, or an error inside the server.
            ConfigError: the server wants another key.
            ModelError: the server refuses what it is asked.
        """
        with _lost(self.timeout):
            status, text = self._exchange("GET" if get else "POST", path, body)
        if status in (401, 403):
            raise ConfigError(f"engine_options.where: {self.url} wants another key than VLLM_API_KEY ({_short(text)})")
        if 400 <= status < 500:
            raise ModelError(f"engine vllm: {path} is refused ({_short(text)})")
        if status != 200:
            raise LostServerError(f"an error inside the server ({status} at {path}: {_short(text)})")
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return None

    def _exchange(self, method: str, path: str, body: Mapping[str, Any] | None) -> tuple[int, str]:
        scheme, host, port = ServerAddress.of(self.url)
        kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        connection = kind(host, port, timeout=self.timeout)
        try:
            said = json.dumps(body) if body is not None else None
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
            connection.request(method, path, said, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
        finally:
            connection.close()

    def longest(self) -> int:
        """Tokens of the longest prompt with its completion."""
        with _understood("/v1/models"):
            return int(self.call("/v1/models", get=True)["data"][0]["max_model_len"])

    def world_size(self) -> int:
        """Processes that hold the model or a part of it."""
        with _understood("/get_world_size"):
            return int(self.call("/get_world_size", get=True)["world_size"])

    def complete(self, requests: Sequence[Mapping[str, Any]]) -> list[SampledTokens]:
        """The completions of every request, in order; `n` each.

        Args:
            requests: `token_ids`, and `sampling_params` in vLLM's names.

        Raises:
            LostServerError: see `call`; or the answer is not of the weights that were pushed last.
        """
        pool = ThreadPoolExecutor(min(TOGETHER, max(len(requests), 1)))
        try:
            return [each for found in pool.map(self._complete, requests) for each in found]
        finally:
            pool.shutdown(cancel_futures=True)

    def _complete(self, request: Mapping[str, Any]) -> list[SampledTokens]:
        answer = self.call("/inference/v1/generate", {**request, "model": self.model})
        with _understood("/inference/v1/generate"):
            choices = sorted(answer["choices"], key=lambda choice: choice["index"])
            if len(choices) != request["sampling_params"]["n"]:
                raise LostServerError(f"it gave {len(choices)} completions of {request['sampling_params']['n']}")
            if self.model == POLICY:
                self._check_version(choices)
            return [_sampled(choice) for choice in choices]

    def _check_version(self, choices: Iterable[Mapping[str, Any]]) -> None:
        found = {span["version"] for choice in choices for span in choice["weight_versions"] or ()}
        if found != {self.version}:
            raise LostServerError(f"it sampled from weights {sorted(found)}, not from {self.version}")

    def init_weight_transfer_engine(self, init_info: Mapping[str, Any]) -> None:
        """See vLLM's `VLLMWeightSyncClient`, as of the next three."""
        self.call("/init_weight_transfer_engine", {"init_info": init_info})

    def start_weight_update(self) -> None:
        self.call("/start_weight_update")

    def update_weights(self, update_info: Mapping[str, Any]) -> None:
        self.call("/update_weights", {"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self.call("/finish_weight_update", {"weight_version": weight_version or self.version})

    def forget_prefixes(self) -> None:
        """Empty the prefix cache, whose keys and values are of older weights. Raises LostServerError if it stays."""
        with _understood("/reset_prefix_cache"):
            if not self.call("/reset_prefix_cache")["success"]:
                raise LostServerError("its prefix cache cannot be emptied after a push")

    def load_adapter(self, name: str, folder: str) -> None:
        """From now on this adapter answers, in place of the one before."""
        self.call("/v1/load_lora_adapter", {"lora_name": name, "lora_path": folder})
        if self.model != POLICY:
            self.call("/v1/unload_lora_adapter", {"lora_name": self.model})
        self.model = name

    def sleep(self) -> None:
        """Give the GPU's memory back; the weights wait in the host's."""
        self.call("/sleep?level=1")

    def wake_up(self) -> None:
        self.call("/wake_up")


def _sampled(choice: Mapping[str, Any]) -> SampledTokens:
    said = (choice["logprobs"] or {}).get("content") or ()
    ids = [int(token) for token in choice["token_ids"]]
    if said and [token["token_id"] for token in said] != ids:
        raise LostServerError("its log-probabilities are of other tokens")
    return ids, choice["finish_reason"] == "stop", [float(token["logprob"]) for token in said]


@contextmanager
def _lost(timeout: float) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise LostServerError(f"no answer in {timeout:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise LostServerError(f"the connection is lost ({_short(str(error)) or type(error).__name__})") from None


@contextmanager
def _understood(path: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise LostServerError(f"{path} answers what vLLM 0.32 would not ({type(error).__name__}: {error})") from None


def _short(text: str) -> str:
    """What an answer says, on one line."""
    try:
        found = json.loads(text)["error"]
        text = str(found["message"] if isinstance(found, dict) else found)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return " ".join(text.split())[:200]
