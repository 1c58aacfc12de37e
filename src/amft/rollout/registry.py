"""Names of the rollout engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transformers import PreTrainedModel

from ..errors import ConfigError
from ..models.half_copy import HalfCopy
from .base import Sampler
from .decode import DecodeSampler, undecodable
from .hf import HFSampler

SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "decode": DecodeSampler,
    "hf": HFSampler,
}


def build_sampler(
    name: str,
    model: PreTrainedModel,
    *,
    pad_id: int,
    eos_ids: Sequence[int],
    max_batch: int = 256,
    half: HalfCopy | None = None,
) -> Sampler:
    """The engine called `name`; `auto` is `decode` when the model fits it, else `hf`.

    A model fits `decode` when every layer keeps plain keys and values: Llama, Qwen2, Qwen3 and their like, and LLaVA on
    top of one of them, but not models with sliding windows, recurrent layers or encoders, nor others that read pictures
    (`rollout.decode.undecodable` names the reason).

    Args:
        name: `auto`, `decode` or `hf`; `vllm` is `distributed.served_sampler.ServedSampler`.
        model: the policy itself; its current weights are used at every call.
        pad_id: token id that fills the gaps of a batch.
        eos_ids: token ids that end a completion.
        max_batch: completions decoded together; bounds the memory of the cache.
        half: a copy of the model; then the engine samples from it, reads the model's weights anew at every call, and
            says with which log-probabilities it sampled.

    Raises:
        ConfigError: the name is unknown.
        ModelError: the engine asked for does not fit the model.
    """
    if name == "auto":
        name = "hf" if undecodable(model) else "decode"
    if name not in SAMPLERS:
        raise ConfigError(f"engine: {name!r} is unknown; choose auto, {', '.join(SAMPLERS)}")
    return SAMPLERS[name](model, pad_id, eos_ids, max_batch, half=half)
