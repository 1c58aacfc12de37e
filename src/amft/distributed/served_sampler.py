"""Rollouts by a vLLM server that all ranks ask; it is started again when it died or hangs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..errors import ConfigError, EngineError, ModelError
from ..rollout.token_sampling import check_request, says_logps
from ..rollout.vllm_client import LostServerError, SampledTokens, VllmClient
from ..settings.groups import EngineSettings
from ..types import Sample, Sampling
from .ranks import Ranks
from .served_policy import ServedPolicy
from .vllm_place import build_place

T = TypeVar("T")

log = logging.getLogger("amft")


class ServedSampler:
    """See `rollout.base.Sampler`; `generate` is a collective, and its samples do not depend on the number of ranks.

    A server that died is noticed at once, one that hangs after `timeout`. It is started again (or waited for) and gets
    the weights and the same requests with the same seeds. A call returns, or fails for good, within
    `(restarts + 1) * (2 * timeout + start_timeout)` seconds: a push and the completions have `timeout` each.

    Args:
        model: the policy, laid out on the ranks already.
        ranks: all that ask.
        eos_ids: tokens that end a completion.
        dtype: of the engine's weights where the options leave it open.
        options: see `EngineSettings`.
        max_batch: rows decoded together.

    Raises:
        ConfigError: vLLM is missing, or an option does not fit.
        ModelError: vLLM does not take the model.
        EngineError: the server does not start, or cannot be reached.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        ranks: Ranks,
        eos_ids: Sequence[int],
        dtype: torch.dtype,
        options: EngineSettings,
        max_batch: int = 256,
    ):
        self.ranks, self.eos_ids, self.options = ranks, sorted(eos_ids), options
        self.place = place = build_place(model, ranks, dtype, options, max_batch)  # kept: its folder goes with it
        self.server = place.server
        self.policy = ServedPolicy(model, ranks, place.dtype, place.backend, place.folder)
        self.restarts, self.bytes_told, self.longest = 0, 0, 0
        self.client: VllmClient | None = None
        """None: no server answers."""
        self._insist(lambda _: None)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        generator: torch.Generator,
        pixels: Tensor | None = None,
    ) -> list[Sample]:
        """See `rollout.base.Sampler.generate`. One seed per prompt is drawn from `generator`, none when greedy.

        Without `top_k` and `top_p` the trajectories carry the engine's own log-probabilities.

        Raises:
            ConfigError: a prompt and its completion are longer than the model's positions.
            ModelError: there are pictures.
            EngineError: the server died or hangs, and could not be started again.
        """
        if pixels is not None:
            raise ModelError("engine vllm: it is given no pictures; use engine hf")
        check_request(prompts, sampling)
        self._check_lengths(prompts, sampling)
        seeds = _seeds(len(prompts), generator) if sampling.temperature > 0 else [None] * len(prompts)
        if not prompts:
            return []
        requests = [self._request(prompts[i], seeds[i], sampling) for i in self.ranks.share(len(prompts))]
        own = self._insist(lambda client: self._answers(client, requests))
        drawn = [each for part in self.ranks.gather(own) for each in part]
        return [
            Sample(tuple(prompts[i // sampling.n]), tuple(ids), finished, logps=tuple(logps))
            for i, (ids, finished, logps) in enumerate(drawn)
        ]

    def figures(self) -> dict[str, float]:
        """For the metrics of a step: starts after a failure so far, and bytes of weights sent since this was asked."""
        sent, self.bytes_told = self.policy.source.bytes - self.bytes_told, self.policy.source.bytes
        return {"sampling/engine_restarts": self.restarts, "sampling/bytes_pushed": sent}

    def close(self) -> None:
        """End the server, if it is one's own."""
        if self.server is not None:
            self.server.close()

    def _answers(self, client: VllmClient, requests: Sequence[dict[str, Any]]) -> list[SampledTokens]:
        if self.options.sleep:
            self._on_main(client.wake_up)
        self._together(lambda: self.policy.push(client))
        found = self._together(lambda: client.complete(requests))
        if self.options.sleep:
            self._on_main(client.sleep)
        return found

    def _insist(self, call: Callable[[VllmClient], T]) -> T:
        """Call, again on a new server where one is lost. A collective."""
        for failures in range(self.options.restarts + 1):
            self.restarts += bool(failures)
            try:
                if self.client is None:
                    self.client = self._start()
                return call(self.client)
            except LostServerError as lost:
                said, self.client = str(lost), None
                if self.ranks.is_main:
                    log.warning("engine vllm: %s; starting it again", said)
        self.close()
        raise EngineError(
            f"engine vllm: it failed {self.options.restarts + 1} times in a row, the last time as {said}; "
            "see engine_options in docs/vllm.md, or use engine decode or hf"
        )

    def _start(self) -> VllmClient:
        self.policy.forget()
        server = self.server
        self._on_main(lambda: server.start(self.options.start_timeout) if server is not None else None)
        url, key = self.ranks.from_main(lambda: [server.url, server.key] if server is not None else [])
        client = VllmClient(url, key, self.options.timeout)
        self.longest = self._together(client.longest)
        return client

    def _on_main(self, do: Callable[[], object]) -> None:
        self._together(lambda: do() if self.ranks.is_main else None)

    def _together(self, do: Callable[[], T]) -> T:
        """Every rank does it; an engine that is lost for one is lost for all."""
        found: list[T] = []
        lost = None
        try:
            found.append(do())
        except LostServerError as error:
            words = "" if self.server is None else self.server.last_words()
            lost = f"{error}; its last words: {words}" if words else str(error)
        lost = self.ranks.first(lost)
        if lost is not None:
            raise LostServerError(lost)
        return found[0]

    def _request(self, prompt: Sequence[int], seed: int | None, sampling: Sampling) -> dict[str, Any]:
        params = {
            "n": sampling.n,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "seed": seed,
            "ignore_eos": True,
            "stop_token_ids": self.eos_ids,
            "logprobs": 0 if says_logps(sampling) else None,
            "detokenize": False,
        }
        return {"token_ids": list(prompt), "sampling_params": params}

    def _check_lengths(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> None:
        needed = max(map(len, prompts), default=0) + sampling.max_new_tokens
        if needed > self.longest:
            raise ConfigError(
                f"max_new_tokens: prompt and completion may take {needed} tokens, the model has {self.longest} "
                "positions; shorten one of them, or use engine decode or hf"
            )


def _seeds(prompts: int, generator: torch.Generator) -> list[int]:
    return [*torch.randint(2**62, (prompts,), generator=generator, device=generator.device).tolist()]
