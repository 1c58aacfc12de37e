"""Completions that a server draws while the trainer does something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import torch

from ..rollout.vllm_client import SampledTokens, VllmClient
from ..types import Sampling


class AskedCall(NamedTuple):
    """What was asked for: the completions of it are used for the same call and for no other."""

    prompts: tuple[tuple[int, ...], ...]
    sampling: Sampling
    generator: int
    """Which generator the seeds were drawn from, its `id`."""

    @classmethod
    def of(cls, prompts: Sequence[Sequence[int]], sampling: Sampling, generator: torch.Generator) -> AskedCall:
        return cls(tuple(map(tuple, prompts)), sampling, id(generator))


class PendingCall:
    """One call under way: this rank's requests, and in the end their completions.

    Args:
        asked: by whom.
        requests: of this rank; asked again, of the weights of then, where the server is lost.
        found: the completions; not asked for here then.
    """

    def __init__(
        self, asked: AskedCall, requests: Sequence[Mapping[str, Any]], found: list[SampledTokens] | None = None
    ):
        self.asked, self.requests, self.found = asked, requests, found
        self.future: Future[list[SampledTokens]] | None = None

    def begin(self, client: VllmClient) -> None:
        """Ask, in a thread."""
        pool = ThreadPoolExecutor(1, "amft-ahead")
        self.future = pool.submit(client.complete, self.requests)
        pool.shutdown(wait=False)

    def wait(self) -> list[SampledTokens]:
        """Have them all.

        Raises:
            LostServerError: the server was lost meanwhile.
        """
        if self.found is None:
            assert self.future is not None
            self.found = self.future.result()
        return self.found
