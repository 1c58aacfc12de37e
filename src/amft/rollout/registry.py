"""Names of the rollout engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel

from ..errors import ConfigError
from ..models.half_copy import HalfCopy
from .base import Sampler
from .decode import DecodeSampler, undecodable
from .hf import HFSampler
from .vllm import VllmSampler

SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "decode": DecodeSampler,
    "hf": HFSampler,
    "vllm": VllmSampler,
}


def build_sampler(
    name: str,
    model: PreTrainedModel,
    *,
    pad_id: int,
    eos_ids: Sequence[int],
    max_batch: int = 256,
    options: Mapping[str, Any] | None = None,
    half: HalfCopy | None = None,
) -> Sampler:
    """The engine called `name`; `auto` is `decode` when the model fits it, else `hf`.

    A model fits `decode` when every layer keeps plain keys and values: Llama, Qwen2, Qwen3 and their like, and LLaVA on
    top of one of them, but not models with sliding windows, recurrent layers or encoders, nor others that read pictures
    (`rollout.decode.undecodable` names the reason).

    Args:
        name: `auto`, `decode`, `hf` or `vllm`.
        model: the policy itself; its current weights are used at every call.
        pad_id: token id that fills the gaps of a batch.
        eos_ids: token ids that end a completion.
        max_batch: completions decoded together; bounds the memory of the cache.
        options: of the engine itself; only `vllm` has any.
        half: a copy of the model; then `decode` and `hf` sample from it, read the model's weights anew at every call,
            and say with which log-probabilities they sampled. `vllm` has a copy of its own.

    Raises:
        ConfigError: the name is unknown, or vLLM is not installed.
        ModelError: the engine asked for does not fit the model.
        EngineError: a worker or server of vLLM cannot be reached.
    """
    if name == "auto":
        name = "hf" if undecodable(model) else "decode"
    if name not in SAMPLERS:
        raise ConfigError(f"engine: {name!r} is unknown; choose auto, {', '.join(SAMPLERS)}")
    more = {"half": half} if name != "vllm" else options or {}
    return SAMPLERS[name](model, pad_id, eos_ids, max_batch, **more)
