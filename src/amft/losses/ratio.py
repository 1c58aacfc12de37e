"""The importance ratio between the policy and the one that sampled."""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import Tensor

from ..tensors import masked

Ratio: TypeAlias = Literal["token", "sequence", "trajectory"]
"""`token`: pi/pi_old of each token (PPO, GRPO). `sequence`: its geometric mean over the row (GSPO, arXiv 2507.18071
eq 7). `trajectory`: its product over the row (RLOO in TRL)."""

MAX_LOG_RATIO = 60.0
"""Ratios stop at e^60: an infinite one, clipped, would have the gradient 0 * inf = NaN."""


def importance_ratio(logps: Tensor, old_logps: Tensor | None, mask: Tensor, ratio: Ratio = "token") -> Tensor:
    """pi/pi_old with its graph.

    Args:
        logps: [B, C] log-probabilities of the completions, nats.
        old_logps: [B, C] under the policy that sampled, taken as constants; None: this policy did, so the value
            is 1 and the gradient that of log pi.
        mask: [B, C], 1 on loss tokens; the others have ratio 1.
        ratio: per token or per row.

    Returns:
        [B, C] for `token`, [B, 1] otherwise.
    """
    old = logps if old_logps is None else old_logps
    log_ratio = masked(logps - old.detach(), mask)
    if ratio != "token":
        log_ratio = log_ratio.sum(-1, keepdim=True)
    if ratio == "sequence":
        log_ratio = log_ratio / mask.sum(-1, keepdim=True).clamp(min=1.0)
    return log_ratio.clamp(max=MAX_LOG_RATIO).exp()
