"""The imitation branch inside somebody else's training loop: batches of demonstrations and their gradient."""

from __future__ import annotations

import contextlib
import copy
import functools
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..batch import Batch, pad_batch
from ..data.check_rows import check_demonstrations
from ..data.encoding import EncodedDemo, encode_demonstrations
from ..data.held_out_split import without_prompts_of
from ..data.row_set import RowSet
from ..errors import ConfigError
from ..experience.demo_order import DemoOrder, OneOrder, Order, factor_of
from ..losses.sft import sft_loss
from ..models.forward import token_scores
from ..types import SFT


class Imitation:
    """Endless batches of demonstrations, cut over ranks and micro-batches, divided by one global token count.

    Args:
        demonstrations: rows with `prompt` and `completion`: a path, a `datasets.Dataset` or a list.
        tokenizer: as the rollouts use it, chat template and all.
        num_demos: demonstrations of one optimizer step, over all ranks.
        micro_batch: rows of one forward pass.
        max_completion_length: tokens; longer demonstrations are left out.
        stop_ids: tokens that end a completion.
        seed: of the order.
        rank, world: this process and how many there are.
        scored: rows that are only scored; demonstrations for their prompts are left out.
        trust_special_tokens: strings of special tokens are those tokens, not text.

    Raises:
        ConfigError: the demonstrations of a step do not divide over the ranks.
        DataError: a row is malformed, or less than half of them fit.
    """

    def __init__(
        self,
        demonstrations: Any,
        tokenizer: Any,
        *,
        num_demos: int,
        micro_batch: int,
        max_completion_length: int,
        stop_ids: list[int],
        seed: int,
        rank: int = 0,
        world: int = 1,
        scored: Any = None,
        trust_special_tokens: bool = False,
    ):
        if num_demos < 1:
            raise ConfigError(f"num_demos must be at least 1, got {num_demos}; for RL alone use TRL's GRPOTrainer")
        if num_demos % world:
            raise ConfigError(f"num_demos must be a multiple of the {world} processes, got {num_demos}")
        rows = RowSet.read("demonstrations", demonstrations)
        check_demonstrations(rows)
        rows, taken = without_prompts_of(RowSet.read("eval_dataset", scored), rows)
        encoded = encode_demonstrations(
            tokenizer,
            rows,
            max_prompt_length=sys.maxsize,
            max_completion_length=max_completion_length,
            stop_ids=stop_ids,
            trusted=trust_special_tokens,
        )
        encoded.require_half(rows)
        self.source, self.rows, self.not_used = rows, encoded.rows, [*taken, *encoded.left_out]
        self.weights: list[float] | None = None
        """Of each row in the imitation loss; None is 1."""
        self.ageing: float | None = None
        """A demonstration that was shown k times before counts `1 / (1 + k / ageing)`; None: always 1."""
        self.seed = seed
        self.order: DemoOrder
        self.sort([SFT] * len(self.rows))
        self.num_demos, self.micro_batch, self.pad_id = num_demos, micro_batch, tokenizer.pad_token_id
        self.rank, self.world = rank, world

    def sort(self, branch_of: Sequence[str], order: Order = OneOrder) -> None:
        """Give each row its imitation branch, before the first is drawn."""
        self.branches = tuple(sorted(set(branch_of)))
        self.order = order(branch_of, self.seed, "demonstrations")

    def keep(self, numbers: Collection[int]) -> None:
        """Draw only rows whose number in their file is among these, before the first is drawn."""
        self.rows = [demo for demo in self.rows if self.source.numbers[demo.row] in numbers]
        self.sort([SFT] * len(self.rows))

    def next(self, weights: Mapping[str, float]) -> tuple[dict[str, list[Batch]], float]:
        """This rank's micro-batches of the next step by branch, and the completion tokens of all ranks and branches.

        `weights`: branch -> what it counts now, for an order that goes by it.
        """
        chosen = {
            branch: [(self.rows[i], factor_of(i, visits, self.ageing, self.weights)) for i, visits in shown]
            for branch, shown in self.order.take(self.num_demos, weights).items()
        }
        tokens = sum(len(demo.completion_ids) for demos in chosen.values() for demo, _ in demos)
        return {branch: self._of_this_rank(demos) for branch, demos in chosen.items()}, float(tokens)

    def _of_this_rank(self, demos: Sequence[tuple[EncodedDemo, float]]) -> list[Batch]:
        """Micro-batches, as many on every rank, since sharded passes are made in step: the last may be silent."""
        mine, most = demos[self.rank :: self.world], -(-len(demos) // self.world)
        starts = range(0, most, self.micro_batch)
        batches = [self._padded(part) for i in starts if (part := mine[i : i + self.micro_batch])]
        silent = self._padded(demos[:1])
        silent = replace(silent, completion_mask=torch.zeros_like(silent.completion_mask))
        return batches + [silent] * (len(starts) - len(batches))

    def _padded(self, demos: Sequence[tuple[EncodedDemo, float]]) -> Batch:
        rows, weights = [demo for demo, _ in demos], [weight for _, weight in demos]
        batch = pad_batch([row.prompt_ids for row in rows], [row.completion_ids for row in rows], self.pad_id)
        return batch if set(weights) == {1.0} else replace(batch, weights=torch.tensor(weights))

    def backward(
        self,
        model: nn.Module,
        device: torch.device,
        batches: Sequence[Batch],
        count: float,
        *,
        arithmetic: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
        defer: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> torch.Tensor:
        """Add the gradient of eq 2 of arXiv 2508.06944 on some micro-batches of `next` to `p.grad`.

        Gradients are taken to be averaged over ranks (DDP, FSDP), so this rank's sum is multiplied by their number.

        Args:
            model: the policy as wrapped for training.
            device: where it runs.
            batches: of one branch.
            count: tokens of all ranks and branches.
            arithmetic: context of a forward pass (autocast).
            defer: context in which a backward pass leaves the reduction over ranks to a later one.

        Returns:
            [3] float64 sums of this rank: the loss times `count` in nats, tokens predicted, tokens.
        """
        totals = torch.zeros(3, dtype=torch.float64, device=device)
        for number, batch in enumerate(part.to(device) for part in batches):
            with contextlib.nullcontext() if number == len(batches) - 1 else defer():
                with arithmetic():
                    scores = token_scores(model, batch, accuracy=True)
                    weights = None if batch.weights is None else batch.weights[:, None]
                    out = sft_loss(scores.logps, batch.completion_mask, count=count, weights=weights)
                (out.loss * self.world).backward()
            assert scores.correct is not None
            right = (scores.correct * batch.completion_mask).sum()
            totals += torch.stack((out.loss.detach().double() * count, right.double(), batch.completion_mask.sum()))
        return totals


def with_template(tokenizer: Any, **options: Any) -> Any:
    """The tokenizer with settings of its chat template filled in (tools, template, template variables)."""
    filled = {name: value for name, value in options.items() if value}
    if not filled:
        return tokenizer
    tokenizer = copy.copy(tokenizer)
    tokenizer.apply_chat_template = functools.partial(tokenizer.apply_chat_template, **filled)
    return tokenizer
