"""`row_sum`: the losses of published code, sums over the rows of each micro-batch, against ours."""

from __future__ import annotations

import pytest
import torch

from amft.balance.registry import build_balance
from amft.errors import ConfigError
from amft.losses.policy import policy_loss
from amft.losses.sft import sft_loss
from amft.signals.base import Signals

K, L_MAX = 4, 6
"""Rows of a micro-batch, and the constant that a row's sum is divided by."""


def published(logps: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
    """HPT's actor: per micro-batch `sum_rows sum_t -A / L_max + token mean of NLL`, then the mean over micro-batches.

    Args:
        logps: [B, C].
        advantages: [B].
        mask: [B, C].
        shown: [B] 1 for a demonstration.
    """
    parts = []
    for start in range(0, len(logps), K):
        rows = slice(start, start + K)
        explored, imitated = mask[rows] * (1 - shown[rows, None]), mask[rows] * shown[rows, None]
        ratio = (logps[rows] - logps[rows].detach()).exp()
        pg = (-advantages[rows, None] * ratio * explored).sum() / L_MAX
        parts.append(pg - (logps[rows] * imitated).sum() / imitated.sum())
    return torch.stack(parts).mean()


def test_it_is_the_published_weighting() -> None:
    generator = torch.Generator().manual_seed(0)
    logps = (-torch.rand(8, 5, dtype=torch.float64, generator=generator)).requires_grad_()
    advantages = torch.randn(8, dtype=torch.float64, generator=generator)
    mask = torch.ones(8, 5, dtype=torch.float64)
    shown = torch.tensor([0, 0, 0, 1, 0, 0, 0, 1], dtype=torch.float64)  # as many in each micro-batch
    explored, imitated = shown == 0, shown == 1
    rule = build_balance({"rule": "hpt", "row_sum": 3})  # rollouts of a micro-batch; our count knows no demonstrations
    weights, _, _ = rule.update(rule.init(), Signals(step=0, total_steps=1))
    count = float(explored.sum() * L_MAX)
    rl = policy_loss(logps[explored], advantages[explored], mask[explored], count=count, reduction="constant")
    sft = sft_loss(logps[imitated], mask[imitated], count=float(mask[imitated].sum()))
    ours = weights["rl"] * rl.loss + weights["sft"] * sft.loss
    theirs = published(logps, advantages, mask, shown)
    gradients = [torch.autograd.grad(loss, logps, retain_graph=True)[0] for loss in (ours, theirs)]
    assert torch.allclose(*gradients, atol=1e-14)


def test_one_row_is_the_mean_and_nonsense_is_refused() -> None:
    rule = build_balance({"rule": "srft"})
    weights, _, _ = rule.update(rule.init(), Signals(step=0, total_steps=1))
    assert (weights["sft"], weights["rl"]) == (1.0, 1.0)
    with pytest.raises(ConfigError, match=r"balance\.row_sum"):
        build_balance({"rule": "hpt", "row_sum": 0})
