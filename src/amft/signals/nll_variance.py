"""How much the demonstrations of a step differ in likelihood."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Cost, Moment, Signal

if TYPE_CHECKING:
    from torch import Tensor

TRIM = 0.1
"""Share of the rows left out at each end."""


def trimmed_nll_variance(logps: Tensor, mask: Tensor) -> float:
    """Biased variance over rows of their mean NLL, `TRIM` of the rows left out at each end (arXiv 2605.26184).

    Args:
        logps: [B, C] nats.
        mask: [B, C]; rows without a loss token do not count.
    """
    tokens = mask.sum(1)
    rows = -(logps.masked_fill(mask == 0, 0.0) * mask).sum(1)[tokens > 0] / tokens[tokens > 0]
    cut = int(TRIM * len(rows))
    kept = rows.sort().values[cut : len(rows) - cut]
    return float(kept.var(correction=0)) if len(kept) else 0.0


def _measure(moment: Moment) -> float | None:
    demos = moment.demonstrations
    return None if demos is None else trimmed_nll_variance(moment.demo_logps(), demos.completion_mask)


NLL_VARIANCE: Signal[float] = Signal(
    "nll_var",
    "squared nats per token",
    Cost.DEMONSTRATIONS,
    "variance over this step's demonstrations of their mean NLL, 10 % left out at each end (v_s of arXiv 2605.26184)",
    _measure,
)
