"""Two programs compute one policy: how far the engine is from the trainer, and weights of the rollouts for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..batch import Batch, MetricSums
from ..losses.mismatch import sampling_weights
from ..settings.config import AMFTConfig
from ..types import Sample


def engine_logps(samples: Sequence[Sample], like: Tensor) -> Tensor:
    """[B, C] what the engine said of each token; NaN on given tokens, on padding and where it said nothing.

    Args:
        samples: B sequences; `Sample.logps` belongs to the tokens after the given ones.
        like: [B, C] the trainer's.
    """
    found = torch.full_like(like, torch.nan)
    for row, sample in zip(found, samples, strict=True):
        row[sample.prefix_len : sample.prefix_len + len(sample.logps)] = torch.tensor(sample.logps, dtype=like.dtype)
    return found


def logp_differences(engine: Tensor, trainer: Tensor) -> MetricSums:
    """Metric sums of |engine - trainer| over the tokens whose engine log-probability is known; empty when none is.

    Args:
        engine: [B, C] of `engine_logps`.
        trainer: [B, C] of the policy that sampled, by the trainer's forward.
    """
    apart = (engine - trainer).abs()
    apart = apart[~apart.isnan()]
    if not len(apart):
        return {}
    return {
        "sampling/logp_difference": (float(apart.sum()), float(len(apart))),
        "sampling/logp_difference_max": (float(apart.max()), 1.0),
    }


def compared(batch: Batch, samples: Sequence[Sample], trainer: Tensor, config: AMFTConfig) -> tuple[Batch, MetricSums]:
    """The batch with the weights of its rollouts, and metric sums; as it was where the engine says nothing.

    Args:
        batch: one row per sample.
        samples: what was sampled.
        trainer: [B, C] log-probabilities of the policy that sampled, by the trainer's forward.
        config: settings.
    """
    engine = engine_logps(samples, trainer.cpu())
    sums = logp_differences(engine, trainer.cpu())
    if not sums or not config.importance_sampling.correction:
        return batch, sums
    weights, found = sampling_weights(
        trainer.cpu(),
        engine,
        batch.completion_mask,
        mode=config.importance_sampling.mode,
        clip_min=config.importance_sampling.clip_min,
        clip_max=config.importance_sampling.clip_max,
    )
    return replace(batch, sampling_weights=weights), sums | found
