"""How much the advantages of a step differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Cost, Moment, Signal

if TYPE_CHECKING:
    from ..batch import Batch


def row_variance(batch: Batch) -> float:
    """Biased variance of the advantages over rows; a row of several values counts with their mean. 0 without rows.

    Args:
        batch: rows with `advantages` [B] or [B, C].
    """
    assert batch.advantages is not None
    rows = batch.advantages
    if rows.dim() == 2:
        rows = (rows * batch.completion_mask).sum(1) / batch.completion_mask.sum(1).clamp(min=1.0)
    return float(rows.var(correction=0)) if len(rows) else 0.0


def _measure(moment: Moment) -> float | None:
    return None if moment.rollouts is None else row_variance(moment.rollouts)


ADVANTAGE_VARIANCE: Signal[float] = Signal(
    "advantage_var",
    "squared advantages",
    Cost.ROLLOUTS,
    "biased variance of this step's advantages over rows (v_r of arXiv 2605.26184)",
    _measure,
)
