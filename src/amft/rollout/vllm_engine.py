"""vLLM itself, without the policy: it is given a model's config once, and weights with every request.

A push goes through `reload_weights`, then the prefix cache is emptied, since its keys and values are of the old
weights. On a CPU vLLM packs the weights of a layer for its kernels, and a push to a model with tied embeddings leaves
the packed output head as it was, without a word: the head is packed anew here.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError, ModelError

SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
"""Environment in which the engine starts, where the user has not set the name: one process, 1 GiB of cache on a CPU."""

SampledTokens = tuple[list[int], bool, "list[float] | None"]
"""Tokens, whether an end token was reached, and their log-probabilities if they were asked for. JSON."""


class VllmEngine:
    """One vLLM engine in this process, with random weights until the first push.

    Args:
        config: of the model, as in its config.json.
        dtype: `float32`, `bfloat16` or `float16`.
        max_batch: rows decoded together.
        gpu_memory: share of a GPU's memory.
        sleep: give weights and cache back to the GPU between two samplings.
        llm: more arguments of `vllm.LLM`.

    Raises:
        ConfigError: vLLM cannot be imported, or it is to sleep on a CPU.
        ModelError: vLLM does not take the model.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        dtype: str,
        max_batch: int,
        gpu_memory: float,
        sleep: bool,
        llm: Mapping[str, Any],
    ):
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        vllm = _vllm()
        self.sleeps, self.on_cpu, self._params = sleep, _on_cpu(), vllm.SamplingParams
        if sleep and self.on_cpu:
            raise ConfigError("engine_options.sleep: only the memory of a GPU can be given back; leave it false")
        own = {"enforce_eager": True} if self.on_cpu else {"gpu_memory_utilization": gpu_memory}
        with tempfile.TemporaryDirectory(prefix="amft-vllm-") as directory, random_state_kept():
            Path(directory, "config.json").write_text(json.dumps(dict(config)), encoding="utf-8")
            try:
                self.llm = vllm.LLM(
                    model=directory,
                    load_format="dummy",
                    dtype=dtype,
                    skip_tokenizer_init=True,
                    generation_config="vllm",
                    logprobs_mode="processed_logprobs",
                    max_num_seqs=max_batch,
                    enable_sleep_mode=sleep,
                    **{**own, **llm},
                )
            except (ValueError, RuntimeError, TypeError) as error:
                raise ModelError(f"engine vllm: the model cannot be loaded ({first_line(error)})") from None
        self.longest = int(self.llm.model_config.max_model_len)

    def sample(self, weights: Iterable[tuple[str, Tensor]], request: Mapping[str, Any]) -> list[SampledTokens]:
        """Take these weights, then complete every row of `request` (see `vllm.VllmSampler`).

        Raises:
            ModelError: vLLM refuses the weights.
        """
        with random_state_kept(), self._awake(weights):
            found = self.llm.generate(
                [{"prompt_token_ids": row} for row in request["rows"]],
                [self._sampling(request, seed) for seed in request["seeds"]],
                use_tqdm=False,
            )
        return [_sampled_tokens(each.outputs[0]) for each in found]

    @contextmanager
    def _awake(self, weights: Iterable[tuple[str, Tensor]]) -> Iterator[None]:
        if not self.sleeps:
            self.push(weights)
            yield
            return
        self.llm.wake_up(["weights"])
        self.push(weights)
        self.llm.wake_up(["kv_cache"])
        yield
        self.llm.sleep(level=2)  # nothing is kept: weights are pushed before every use

    def push(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Take new weights and forget everything computed with the old ones.

        Raises:
            ModelError: the engine does not take them, or keeps what it computed with the old ones.
        """
        try:
            self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})
            if self.on_cpu:
                self.llm.apply_model(_repack_head)
        except (ValueError, KeyError, AttributeError) as error:
            raise ModelError(f"engine vllm: the weights cannot be pushed ({first_line(error)})") from error
        if not self.llm.reset_prefix_cache():
            raise ModelError("engine vllm: the prefix cache cannot be emptied after a push; restart the run")

    def _sampling(self, request: Mapping[str, Any], seed: int | None) -> Any:
        return self._params(
            max_tokens=request["max_tokens"],
            temperature=request["temperature"],
            top_p=request["top_p"],
            top_k=request["top_k"],
            seed=seed,
            ignore_eos=True,
            stop_token_ids=request["stop"],
            logprobs=0 if request["logps"] else None,
            detokenize=False,
        )


def _vllm() -> Any:
    try:
        import vllm
    except (ImportError, RuntimeError) as error:
        raise ConfigError(f"engine: vllm is installed but cannot be imported ({first_line(error)})") from None
    return vllm


def _on_cpu() -> bool:
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def _repack_head(model: nn.Module) -> None:
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    dispatch_cpu_unquantized_gemm(model.lm_head, remove_weight=False)


def _sampled_tokens(output: Any) -> SampledTokens:
    ids = list(output.token_ids)
    logps = None
    if output.logprobs is not None:
        logps = [float(place[token].logprob) for token, place in zip(ids, output.logprobs, strict=True)]
    return ids, output.finish_reason == "stop", logps


@contextmanager
def random_state_kept() -> Iterator[None]:
    """vLLM seeds the process's generators when it starts."""
    with torch.random.fork_rng():
        yield


def first_line(error: Exception) -> str:
    """What an exception says, without its details."""
    return (str(error).splitlines() or [type(error).__name__])[0]
