"""What one forward pass eats and what one loss returns.

Notation, here and everywhere: B rows, P prompt tokens, C completion tokens, T = P + C, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

MetricSums: TypeAlias = dict[str, tuple[float, float]]
"""Metric name -> (sum, count). Sums add up over micro-batches and ranks; the mean is taken once, at the end."""


@dataclass(frozen=True)
class Batch:
    """Rows of one forward pass: prompts padded on the left to P, completions on the right to C.

    Example: prompts `[[5, 6], [7]]` with completions `[[8], [9, 2]]` and pad 0 give
    `ids = [[5, 6, 8, 0], [0, 7, 9, 2]]` and `completion_mask = [[1, 0], [1, 1]]`.
    """

    ids: Tensor
    """[B, T] int64."""
    attention_mask: Tensor
    """[B, T] int64, 0 on padding."""
    completion_mask: Tensor
    """[B, C] float, 1 on the tokens whose loss counts."""
    advantages: Tensor | None = None
    """[B] or [B, C]."""
    old_logps: Tensor | None = None
    """[B, C] log-probabilities under the policy that sampled the rows; None when that is this policy."""
    engine_logps: Tensor | None = None
    """[B, C] log-probabilities with which the rollout engine drew; NaN where it did not draw or does not say."""
    ref_logps: Tensor | None = None
    """[B, C] log-probabilities under the reference policy; None without a KL term."""
    teacher_logps: Tensor | None = None
    """[B, C] log-probabilities under the policy that has seen a solution; None where nobody teaches."""
    teacher_entropy: Tensor | None = None
    """[B, C] its token entropy, nats."""
    old_values: Tensor | None = None
    """[B, C] what the value head said of the state before each token when the rows were sampled; None without one."""
    returns: Tensor | None = None
    """[B, C] what the value head is fitted to; None without one."""
    demo: Tensor | None = None
    """[B, C] float, 1 on completion tokens that the demonstrator wrote; None: all rows have one author."""
    rewards: Tensor | None = None
    """[B]; NaN where the scorer abstained."""
    weights: Tensor | None = None
    """[B] or [B, C] weights of the imitation loss, constants; None is 1."""
    pixel_values: Tensor | None = None
    """[B, 3, H, W] each row's picture; None: prompts of text."""

    @property
    def completion_ids(self) -> Tensor:
        """[B, C]."""
        return self.ids[:, -self.completion_mask.shape[1] :]

    @property
    def tokens(self) -> int:
        """Completion tokens that carry loss."""
        return int(self.completion_mask.sum().item())

    def __len__(self) -> int:
        return self.ids.shape[0]

    def rows(self, start: int, stop: int) -> Batch:
        """Rows `start:stop`, with columns that are padding in all of them cut off."""
        cut = {name: value[start:stop] if isinstance(value, Tensor) else value for name, value in vars(self).items()}
        completion = cut["completion_mask"].shape[1]
        attention = cut["attention_mask"]
        if attention.shape[0] == 0:
            return replace(self, **cut)
        prompt = attention.shape[1] - completion
        first = int((attention[:, :prompt].amax(0) > 0).int().argmax()) if prompt else 0
        used = attention[:, prompt:].amax(0).nonzero()
        last = max(1, int(used.max()) + 1) if len(used) else 1
        for name, value in cut.items():
            if name in ("ids", "attention_mask"):
                cut[name] = value[:, first : prompt + last]
            elif value is not None and value.dim() == 2:
                cut[name] = value[:, :last]
        return replace(self, **cut)

    def take(self, numbers: Sequence[int]) -> Batch:
        """The rows with these numbers, in this order; no column is cut off."""
        index = torch.tensor(numbers, dtype=torch.long)
        return replace(self, **{name: value[index] for name, value in vars(self).items() if isinstance(value, Tensor)})

    def to(self, device: torch.device | str) -> Batch:
        """The same rows on another device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved)


@dataclass(frozen=True)
class LossOut:
    """A scalar loss with its graph, and sums that add up over micro-batches and ranks."""

    loss: Tensor
    sums: MetricSums


def pad_batch(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    pad_id: int,
    masks: Sequence[Sequence[int] | None] | None = None,
) -> Batch:
    """Token lists -> a `Batch`; prompts padded on the left, completions on the right.

    A row may have an empty completion (its mask is zero).

    Args:
        masks: 1 on the completion tokens that carry loss; None: all do.
    """
    assert len(prompts) == len(completions), "one completion per prompt"
    width_p = max((len(p) for p in prompts), default=0)
    width_c = max(max((len(c) for c in completions), default=0), 1)
    ids = torch.full((len(prompts), width_p + width_c), pad_id, dtype=torch.long)
    attention = torch.zeros_like(ids)
    mask = torch.zeros(len(prompts), width_c)
    for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        row = torch.tensor([*prompt, *completion], dtype=torch.long)
        start = width_p - len(prompt)
        ids[i, start : start + len(row)] = row
        attention[i, start : start + len(row)] = 1
        given = None if masks is None else masks[i]
        mask[i, : len(completion)] = 1.0 if given is None else torch.tensor(given, dtype=torch.float32)
    return Batch(ids=ids, attention_mask=attention, completion_mask=mask)
