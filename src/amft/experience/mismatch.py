"""What a rollout engine said of its tokens, as a column of the batch; `losses.mismatch` makes weights of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..batch import Batch
from ..types import Sample


def with_engine_logps(batch: Batch, samples: Sequence[Sample]) -> Batch:
    """The batch with `engine_logps`, NaN on given tokens, on padding and where the engine said nothing.

    As it was where it said nothing at all.

    Args:
        batch: one row per sample.
        samples: `Sample.logps` belongs to the tokens after the given ones.
    """
    if not any(sample.logps for sample in samples):
        return batch
    found = torch.full(batch.completion_mask.shape, torch.nan)
    for row, sample in zip(found, samples, strict=True):
        row[sample.prefix_len : sample.prefix_len + len(sample.logps)] = torch.tensor(sample.logps)
    return replace(batch, engine_logps=found)
