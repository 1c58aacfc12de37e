"""TRL's rows through our own forward pass: what they begin with alike once, no padding, one pass over the logits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..batch import Batch
from ..distributed.ranks import Ranks
from ..models.forward import Entropy, innermost, token_scores
from ..models.tree_attention import is_tree
from ..step.row_layout import RowLayout

Autocast = Callable[[], contextlib.AbstractContextManager[Any]]


class TreeRows:
    """Scores of completions as TRL asks for them, from rows that lie in a prefix tree.

    A run computes its first batch in both layouts; where they differ by more than rounding, or the model does not fit,
    `wanted` turns false, one line says so, and TRL's own pass is used from then on. Each process decides for itself.

    Args:
        trainer: of TRL, built.
        wanted: as the user says.
        say: takes a line for the user.
    """

    def __init__(self, trainer: Any, wanted: bool, say: Callable[[str], None]):
        args = trainer.args
        padded = {
            "FSDP": str(trainer.accelerator.distributed_type).endswith("FSDP"),  # its passes are made in step
            "torch_compile": args.torch_compile,
            "use_liger_kernel": args.use_liger_kernel,
            "cast_lm_head_to_fp32": args.cast_lm_head_to_fp32,
            "the loss of a router": trainer.aux_loss_enabled,
        }
        others = [name for name, given in padded.items() if given]
        if wanted and others:
            say(f"amft: rows are padded, not a prefix tree: {others[0]} needs TRL's own forward pass")
        kind = "bfloat16" if args.bf16 else str(trainer.model.dtype).removeprefix("torch.")
        self.layout = RowLayout(wanted and not others, kind, Ranks())
        self.temperature, self.autocast, self.say = trainer.temperature, trainer.accelerator.autocast, say

    @property
    def wanted(self) -> bool:
        return self.layout.wanted

    def open(self, model: nn.Module, inputs: dict[str, Any]) -> contextlib.AbstractContextManager[None]:
        """The tree for the passes of a micro-batch of TRL's, forward and backward, if it is wanted and agrees."""
        columns = (("prompt_ids", "completion_ids"), ("prompt_mask", "completion_mask"))
        ids, mask = (torch.cat([inputs[name] for name in names], dim=1) for names in columns)
        self._check(model, rows_of(ids, mask, inputs["completion_ids"].shape[1]))
        return self.layout.open(innermost(model))

    def scores(
        self, model: nn.Module, ids: Tensor, mask: Tensor, width: int, size: int, entropy: Entropy
    ) -> tuple[Tensor, Tensor | None] | None:
        """[B, C] log-probabilities of the last `width` tokens, and entropies; None where TRL must compute them.

        Args:
            model: as TRL hands it over, or its reference.
            ids: [B, T].
            mask: [B, T], 0 on padding.
            width: C.
            size: rows of one forward pass.
            entropy: whether to compute it, and with which graph.
        """
        parts = [rows_of(ids[i : i + size], mask[i : i + size], width) for i in range(0, len(ids), size)]
        if not is_tree(innermost(model)):
            self._check(model, parts[0])
        if not self.wanted:
            return None
        with self.layout.open(innermost(model)), self.autocast():
            found = [token_scores(model, part, temperature=self.temperature, entropy=entropy) for part in parts]
        entropies = [each.entropy for each in found if each.entropy is not None]
        return torch.cat([each.logps for each in found]), torch.cat(entropies) if entropies else None

    def _check(self, model: nn.Module, batch: Batch) -> None:
        def logps(part: Batch) -> Tensor:
            """[B, C]."""
            with self.autocast():
                return token_scores(model, part, temperature=self.temperature).logps

        self.layout.check(innermost(model), batch, batch, logps)
        while self.layout.news:
            self.say(f"amft: {self.layout.news.pop(0)}")


def rows_of(ids: Tensor, mask: Tensor, width: int) -> Batch:
    """TRL's rows as a batch: [B, T] ids and mask, of which the last `width` columns are completions."""
    return Batch(ids=ids, attention_mask=mask, completion_mask=mask[:, -width:].float())
