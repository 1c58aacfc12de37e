"""Rollouts by vLLM, in the trainer's process or in another one: weights are pushed before every generation."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..errors import ConfigError, ModelError
from ..models.lora import merged_weights
from ..types import Sample, Sampling
from .protocol import TENSOR_DTYPES
from .remote import RemoteEngine, WeightStream
from .token_sampling import check_request
from .vllm_engine import SampledTokens, VllmEngine
from .watchdog import time_limit
from .worker_process import endpoint_of

RESERVED = {"model", "dtype", "load_format", "skip_tokenizer_init", "generation_config", "logprobs_mode"}
"""Arguments of `vllm.LLM` that are ours to set."""


class EngineClient(Protocol):
    """An engine, wherever it runs."""

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt with its completion."""
        ...

    @property
    def restarts(self) -> int | None:
        """Times it was started again; None: it cannot be."""
        ...

    def sample(self, weights: WeightStream, request: Mapping[str, Any]) -> list[SampledTokens]:
        """Push, then complete every row of the request."""
        ...


class InProcessEngine:
    """The engine in the trainer's process. Stuck, it ends the process: nothing else can stop it."""

    restarts = None

    def __init__(self, start: Mapping[str, Any], timeout: float):
        self.engine, self.timeout = VllmEngine(**start), timeout
        self.longest = self.engine.longest

    def sample(self, weights: WeightStream, request: Mapping[str, Any]) -> list[SampledTokens]:
        """See `EngineClient`."""
        with time_limit(self.timeout, f"engine vllm: no answer in {self.timeout:g} s (engine_options.timeout)"):
            return self.engine.sample(weights(), request)


class VllmSampler:
    """Sampling with vLLM; every call first pushes the policy's weights, so no caller can forget to."""

    def __init__(
        self,
        model: PreTrainedModel,
        pad_id: int,  # noqa: ARG002
        eos_ids: Sequence[int],
        max_batch: int = 256,
        *,
        where: str = "trainer",
        timeout: float = 600.0,
        start_timeout: float = 600.0,
        restarts: int = 3,
        dtype: str | None = None,
        gpu_memory: float = 0.3,
        sleep: bool = False,
        llm: Mapping[str, Any] | None = None,
    ):
        """Start the engine with the policy's architecture; its weights come with the first call.

        Args:
            pad_id: not used, nothing is padded.
            eos_ids: tokens that end a completion.
            max_batch: rows decoded together.
            where: `trainer`, `worker` (a process of its own on this machine), or the `host:port` of a running server.
            timeout, start_timeout: seconds one call and one start may take.
            restarts: of another process, in a row.
            dtype: of the engine's weights; None is the policy's.
            gpu_memory, sleep, llm: see `VllmEngine`.

        Raises:
            ConfigError: vLLM is missing, or this layout of processes or dtype is not supported.
            ModelError: vLLM does not take the model.
            EngineError: the worker or the server cannot be reached.
        """
        self.model, self.eos_ids = model, sorted(eos_ids)
        self.dtype: torch.dtype = model.dtype if dtype is None else TENSOR_DTYPES[dtype]
        _check(where, self.dtype, llm or {})
        _check_model(model)
        start = {
            "config": _config(model),
            "dtype": str(self.dtype).removeprefix("torch."),
            "max_batch": max_batch,
            "gpu_memory": gpu_memory,
            "sleep": sleep,
            "llm": dict(llm or {}),
        }
        self.engine: EngineClient
        if where == "trainer":
            self.engine = InProcessEngine(start, timeout)
        else:
            endpoint = endpoint_of(where, model.device)
            self.engine = RemoteEngine(endpoint, start, timeout=timeout, start_timeout=start_timeout, patience=restarts)

    @property
    def restarts(self) -> int | None:
        """Times the engine was started again; None: it is of this process."""
        return self.engine.restarts

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        generator: torch.Generator,
        pixels: Tensor | None = None,
    ) -> list[Sample]:
        """See `rollout.base.Sampler.generate`. One seed per completion is drawn from `generator`, none when greedy.

        Without `top_k` and `top_p` the trajectories carry the engine's own log-probabilities.

        Raises:
            ConfigError: a prompt and its completion are longer than the model's positions.
            ModelError: there are pictures.
            EngineError: the engine died or is stuck, and could not be started again.
        """
        if pixels is not None:
            raise ModelError("engine vllm: it is given no pictures; use engine hf")
        check_request(prompts, sampling)
        self._check_lengths(prompts, sampling)
        rows = [list(prompt) for prompt in prompts for _ in range(sampling.n)]
        if not rows:
            return []
        drawn = sampling.temperature > 0
        request = {
            "rows": rows,
            "seeds": _seeds(len(rows), generator) if drawn else [None] * len(rows),
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "stop": self.eos_ids,
            "logps": drawn and sampling.top_p == 1 and sampling.top_k == 0,
        }
        found = self.engine.sample(self.weights, request)
        return [
            Sample(tuple(row), tuple(ids), finished, logps=tuple(logps or ()))
            for row, (ids, finished, logps) in zip(rows, found, strict=True)
        ]

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """What is pushed: the policy's present weights, an adapter added to them.

        A shared tensor comes once, under its first name, as in a saved model.
        """
        return ((name, value.to(self.dtype)) for name, value in merged_weights(self.model))

    def _check_lengths(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> None:
        needed = max(map(len, prompts), default=0) + sampling.max_new_tokens
        if needed > self.engine.longest:
            raise ConfigError(
                f"max_new_tokens: prompt and completion may take {needed} tokens, the model has {self.engine.longest} "
                "positions; shorten one of them, or use engine decode or hf"
            )


def _check(where: str, dtype: torch.dtype, llm: Mapping[str, Any]) -> None:
    package = importlib.util.find_spec("vllm")
    if where in ("trainer", "worker") and (package is None or package.origin is None):  # a folder is found too
        raise ConfigError("engine: vllm is not installed; `pip install 'amft[vllm]'` on Linux, or use decode or hf")
    if where == "trainer" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("engine_options.where: vllm in the trainer's process is for a single one; use worker")
    if dtype not in TENSOR_DTYPES.values():
        raise ConfigError(f"engine: vllm has no {str(dtype).removeprefix('torch.')}; use decode or hf")
    for name in sorted(RESERVED & llm.keys()):
        raise ConfigError(f"engine_options.llm.{name}: is set by amft; leave it out")


def _check_model(model: PreTrainedModel) -> None:
    if getattr(model.config, "quantization_config", None) is not None:
        raise ModelError("engine vllm: weights in few bits cannot be pushed; use hf, or lora.load_in_4bit: false")


def _config(model: PreTrainedModel) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(model.config.to_json_string(use_diff=False))
    # FSDP2 changes a model's class, not what it is.
    return config | {"architectures": [type(model).__name__.removeprefix("FSDP")]}


def _seeds(rows: int, generator: torch.Generator) -> list[int]:
    return [*torch.randint(2**62, (rows,), generator=generator, device=generator.device).tolist()]
