"""Whether a run lays its rows as a prefix tree: the model allows it, and the first batches agree with padded rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..batch import Batch
from ..distributed.rank_partition import prompt_groups
from ..distributed.ranks import Ranks
from ..errors import ModelError
from ..models.attention import attention
from ..models.tree_attention import TREE, unfit_for_tree

APART = {"float32": 1e-4, "bfloat16": 0.05, "float64": 1e-6}
"""Nats by which the log-probabilities of the two layouts may differ on average: rounding, not another attention."""


@dataclass
class RowLayout:
    """Of every forward pass that a run trains on or compares with one that it trains on."""

    wanted: bool
    """Settings ask for the tree."""
    dtype: str
    """Of the arithmetic, a key of APART."""
    ranks: Ranks
    news: list[str] = field(default_factory=list)
    """Lines for the run's events; whoever writes them takes them away."""
    checked: set[str] = field(default_factory=set)
    """Kinds of batches that were compared."""

    def open(self, model: nn.Module) -> contextlib.AbstractContextManager[None]:
        """Forward passes inside, and their backward passes, run on the layout of the run."""
        return attention(cast(PreTrainedModel, model), TREE) if self.wanted else contextlib.nullcontext()

    def check(self, model: nn.Module, batch: Batch, part: Batch, logps: Callable[[Batch], Tensor]) -> None:
        """Compare the layouts on the first batch, and on the first one whose neighbours share a prompt.

        Padded rows are kept from then on where the model does not fit or the difference is more than rounding; either
        way one line says so. All ranks call it together, since sharded passes are made in step.

        Args:
            model: the policy or a reference of the same architecture.
            batch: of all ranks; it decides whether there is something to compare.
            part: a micro-batch of this rank.
            logps: gives [B, C] log-probabilities of a micro-batch, in whatever layout the model is switched to.
        """
        kind = "of shared prompts" if len(prompt_groups(batch)) < len(batch) else "of the run"
        if not self.wanted or kind in self.checked:
            return
        self.checked |= {kind, "of the run"}
        reason = unfit_for_tree(cast(PreTrainedModel, model))
        if reason is None:
            try:
                mean, most = self._difference(model, part, logps)
            except ModelError as error:
                reason = str(error)
            else:
                if not mean <= APART[self.dtype]:
                    reason = f"log-probabilities differ by {mean:.2g} nats on average"
        if reason is not None:
            self.wanted = False
            self.news.append(f"rows are padded, not a prefix tree: {reason}")
        else:
            self.news.append(
                f"rows lie in a prefix tree; in the first batch {kind} log-probabilities differ from those of padded "
                f"rows by {mean:.1g} nats on average, {most:.1g} at most"
            )

    @torch.no_grad()
    def _difference(self, model: nn.Module, part: Batch, logps: Callable[[Batch], Tensor]) -> tuple[float, float]:
        """Mean and largest difference over the completion tokens of all ranks."""
        padded = logps(part)
        with self.open(model):
            found = logps(part)
        apart = (found - padded).abs().double()[part.completion_mask.to(found.device) > 0]
        total, count = self.ranks.all_sum([float(apart.sum()), float(len(apart))])
        return total / max(count, 1.0), max(self.ranks.gather(float(apart.max()) if len(apart) else 0.0))
