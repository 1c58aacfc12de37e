"""However the rows of a step are cut, their gradient is the same. These checks know no trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from .answer import TOLERANCE, AuditAnswer, ruled

MICRO = 2
"""Rows of a micro-batch where a check needs several of them."""

ENTRIES = 2**20
"""Entries of a gradient that are compared: a lost row is seen in any of them, and a large model has too many."""

GradientOf: TypeAlias = Callable[[Sequence[int], int], Tensor]


@dataclass(frozen=True)
class AuditedLoss:
    """A loss on some rows, as its trainer computes it."""

    name: str
    """`imitation` or `exploration`."""
    rows: int
    gradient: GradientOf
    """`gradient(numbers, size)`: `sampled_gradient` of the rows with these numbers, `size` at a time, from a clean
    start, divided by the count of all rows."""

    @property
    def parts(self) -> list[list[int]]:
        """Its rows in micro-batches of `MICRO`."""
        return [list(range(i, min(i + MICRO, self.rows))) for i in range(0, self.rows, MICRO)]


def sampled_gradient(model: nn.Module) -> Tensor:
    """[N] float64: every k-th entry of the gradient of all trained parameters, k odd, about ENTRIES at most."""
    trained = [p for p in model.parameters() if p.requires_grad]
    stride = sum(p.numel() for p in trained) // ENTRIES | 1
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    return torch.cat([grad.reshape(-1)[::stride].double().cpu() for grad in found])


def relative_distance(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected|; both [N]. Infinite where the expected one is 0 and the other is not."""
    scale, off = float(expected.norm()), float((found - expected).norm())
    return off / scale if scale else (float("inf") if off else 0.0)


def check_micro_batches(losses: Sequence[AuditedLoss]) -> AuditAnswer:
    """Sizes 1, 2 and 3 against all rows at once."""
    worst, told = 0.0, []
    for loss in losses:
        numbers = range(loss.rows)
        whole = loss.gradient(numbers, loss.rows)
        off = {size: relative_distance(loss.gradient(numbers, size), whole) for size in (1, 2, 3)}
        size = max(off, key=off.__getitem__)
        worst = max(worst, off[size])
        told.append(f"{loss.name}: {loss.rows} rows at once or {size} at a time, gradients {off[size]:.1e} apart")
    return AuditAnswer(
        "micro-batches",
        "Is the gradient the same for every size of micro-batch?",
        ruled(worst < TOLERANCE),
        "; ".join(told),
    )


def check_arrivals(losses: Sequence[AuditedLoss]) -> AuditAnswer:
    """Of each micro-batch the share of its own gradient that is in the sum of all."""
    low, high, told = 1.0, 1.0, []
    for loss in losses:
        own = [loss.gradient(part, MICRO) for part in loss.parts]
        total = loss.gradient(range(loss.rows), MICRO)
        for number, part in enumerate(own):
            others = torch.stack([each for i, each in enumerate(own) if i != number]).sum(0)
            size = float(part @ part)
            share = float((total - others) @ part) / size if size else float(total.norm() > 0)
            low, high = min(low, share), max(high, share)
            if abs(share - 1.0) > TOLERANCE:
                told.append(f"{loss.name}: micro-batch {number + 1} of {len(own)} arrives with {share:.0%} of its own")
    holds = 1.0 - low < TOLERANCE and high - 1.0 < TOLERANCE
    count = sum(len(loss.parts) for loss in losses)
    return AuditAnswer(
        "arrivals",
        "Does the gradient of every micro-batch reach the optimizer, once?",
        ruled(holds),
        "; ".join(told) if told else f"all {count} micro-batches arrive whole",
    )
