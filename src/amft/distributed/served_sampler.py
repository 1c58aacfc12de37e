"""Rollouts by a vLLM server that all ranks ask; it is started again when it died or hangs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..errors import ConfigError, EngineError, ModelError
from ..rollout.token_sampling import check_request, says_logps
from ..rollout.vllm_client import LostServerError, SampledTokens, VllmClient
from ..settings.groups import EngineSettings
from ..types import Sample, Sampling
from .pending_call import AskedCall, PendingCall
from .ranks import Ranks
from .served_policy import ServedPolicy
from .vllm_place import build_place

Returned = TypeVar("Returned")

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
        self.drawing: PendingCall | None = None
        """What is drawn ahead."""
        self.used_ahead = 0
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
        if self.drawing is not None:
            ahead = self._land(self.drawing)
            if self.drawing.asked == AskedCall.of(prompts, sampling, generator):
                self.drawing = None
                self.used_ahead += 1
                return _samples(prompts, sampling.n, self._of_all(ahead))
        seeds = _seeds(len(prompts), generator) if sampling.temperature > 0 else [None] * len(prompts)
        if not prompts:
            return []
        requests = [self._request(prompts[i], seeds[i], sampling) for i in self.ranks.share(len(prompts))]
        own = self._insist(lambda client: self._answers(client, requests))
        return _samples(prompts, sampling.n, self._of_all(own))

    def begin(self, prompts: Sequence[Sequence[int]], sampling: Sampling, generator: torch.Generator) -> None:
        """Let the server draw these completions, of the weights as they are now, while the caller goes on.

        The next `generate` with the same prompts, sampling and generator returns them; its log-probabilities are those
        of the weights of now. Another `generate` waits for them first. If the server is lost meanwhile, they are drawn
        anew, of the weights of then, with the same seeds. A collective.

        Raises:
            ConfigError, EngineError: as `generate`.
        """
        check_request(prompts, sampling)
        self._check_lengths(prompts, sampling)
        self.drop()  # nothing is pushed while anything is under way
        seeds = _seeds(len(prompts), generator)
        requests = [self._request(prompts[i], seeds[i], sampling) for i in self.ranks.share(len(prompts))]
        drawing = PendingCall(AskedCall.of(prompts, sampling, generator), requests)
        self._insist(lambda client: self._together(lambda: self.policy.push(client)))
        assert self.client is not None
        drawing.begin(self.client)
        self.drawing = drawing

    def drawn(self) -> list[SampledTokens]:
        """The completions that are drawn ahead, of all ranks; they stay where they are. A collective."""
        assert self.drawing is not None
        return self._of_all(self._land(self.drawing))

    def put_back(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, generator: torch.Generator, found: list[Any]
    ) -> None:
        """Have these completions as if they had been drawn ahead.

        Args:
            prompts, sampling, generator: of `begin`.
            found: of `drawn`.
        """
        mine = self.ranks.share(len(prompts))
        own = found[mine.start * sampling.n : mine.stop * sampling.n]
        self.drawing = PendingCall(AskedCall.of(prompts, sampling, generator), [], own)

    def drop(self) -> None:
        """Forget what is drawn ahead. A collective."""
        if self.drawing is not None:
            self._land(self.drawing)
            self.drawing = None

    def _land(self, drawing: PendingCall) -> list[SampledTokens]:
        """Wait; where the server was lost, ask again. Nothing is pushed while anything is under way."""
        try:
            return self._together(drawing.wait)
        except LostServerError as lost:
            self._forsake(lost)
            drawing.found = self._insist(lambda client: self._answers(client, drawing.requests))
            self.restarts += 1
            return drawing.found

    def _of_all(self, own: list[SampledTokens]) -> list[SampledTokens]:
        return [each for part in self.ranks.gather(own) for each in part]

    def figures(self) -> dict[str, float]:
        """For the metrics of a step: starts after a failure so far; since this was asked bytes of weights sent, and
        calls whose completions were drawn ahead."""
        sent, self.bytes_told = self.policy.source.bytes - self.bytes_told, self.policy.source.bytes
        ahead, self.used_ahead = self.used_ahead, 0
        return {"sampling/engine_restarts": self.restarts, "sampling/bytes_pushed": sent, "sampling/ahead": ahead}

    def close(self) -> None:
        """End the server, if it is one's own."""
        if self.server is not None:
            self.server.close()

    def _answers(self, client: VllmClient, requests: Sequence[Mapping[str, Any]]) -> list[SampledTokens]:
        if self.options.sleep:
            self._on_main(client.wake_up)
        self._together(lambda: self.policy.push(client))
        found = self._together(lambda: client.complete(requests))
        if self.options.sleep:
            self._on_main(client.sleep)
        return found

    def _insist(self, call: Callable[[VllmClient], Returned]) -> Returned:
        """Call, again on a new server where one is lost. A collective."""
        for failures in range(self.options.restarts + 1):
            self.restarts += bool(failures)
            try:
                if self.client is None:
                    self.client = self._start()
                return call(self.client)
            except LostServerError as lost:
                said = self._forsake(lost)
        self.close()
        raise EngineError(
            f"engine vllm: it failed {self.options.restarts + 1} times in a row, the last time as {said}; "
            "see engine_options in docs/vllm.md, or use engine decode or hf"
        )

    def _forsake(self, lost: LostServerError) -> str:
        self.client = None
        if self.ranks.is_main:
            log.warning("engine vllm: %s; starting it again", lost)
        return str(lost)

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

    def _together(self, do: Callable[[], Returned]) -> Returned:
        """Every rank does it; an engine that is lost for one is lost for all."""
        found: list[Returned] = []
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


def _samples(prompts: Sequence[Sequence[int]], n: int, drawn: Sequence[SampledTokens]) -> list[Sample]:
    return [
        Sample(tuple(prompts[i // n]), tuple(ids), finished, logps=tuple(logps))
        for i, (ids, finished, logps) in enumerate(drawn)
    ]


def _seeds(prompts: int, generator: torch.Generator) -> list[int]:
    return [*torch.randint(2**62, (prompts,), generator=generator, device=generator.device).tolist()]
