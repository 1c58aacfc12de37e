"""One step's work cut over the ranks: rollouts, rewards and rows. Every rank ends with the results of all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from ..batch import Batch
from ..data.rewards import RewardBatch, Scorer, joined_rewards
from ..data.streams import derive_seed
from ..rollout.base import Sampler
from ..types import Answer, Row, Sample, Sampling
from .micro_batch_limit import Limit
from .ranks import Ranks


class RankSampler(Sampler, Protocol):
    """A sampler that all ranks call, each with all prompts; each gets everybody's trajectories."""

    def figures(self) -> dict[str, float]:
        """For the metrics of a step, by name."""
        ...


class SplitSampler:
    """A sampler whose prompts are shared out; each rank decodes its own and gets everybody's trajectories.

    An engine with `skip` (`decode`) gives the same trajectories on any number of ranks; another one draws from a
    generator per rank, so there the number of ranks matters.

    Args:
        sampler: of this rank.
        sampling: opens the model for forward passes, as many as each rank likes.
    """

    def __init__(self, sampler: Sampler, ranks: Ranks, sampling: Callable[[], AbstractContextManager[None]]):
        self.sampler, self.ranks, self.sampling = sampler, ranks, sampling

    def figures(self) -> dict[str, float]:
        """For the metrics of a step: nothing."""
        return {}

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        generator: torch.Generator,
        pixels: Tensor | None = None,
    ) -> list[Sample]:
        """See `rollout.base.Sampler.generate`."""
        mine = self.ranks.share(len(prompts))
        own = prompts[mine.start : mine.stop]
        seen = () if pixels is None else (pixels[mine.start : mine.stop],)
        skip = getattr(self.sampler, "skip", None)
        with self.sampling():
            if skip is None:
                found = self.sampler.generate(own, sampling, self._of_this_rank(generator), *seen)
            else:
                skip(mine.start * sampling.n, sampling, generator)
                found = self.sampler.generate(own, sampling, generator, *seen)
                skip((len(prompts) - mine.stop) * sampling.n, sampling, generator)
        told = self.ranks.gather([[list(t.completion_ids), t.finished, t.logps] for t in found])
        drawn = [each for part in told for each in part]
        return [
            Sample(tuple(prompts[i // sampling.n]), tuple(ids), finished, logps=tuple(logps))
            for i, (ids, finished, logps) in enumerate(drawn)
        ]

    def _of_this_rank(self, generator: torch.Generator) -> torch.Generator:
        seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
        return torch.Generator().manual_seed(derive_seed(seed, "rank", self.ranks.rank))


class SplitScorer:
    """A scorer whose groups (neighbouring completions of one row) are shared out; each is scored once."""

    def __init__(self, scorer: Scorer, ranks: Ranks):
        self.scorer, self.ranks = scorer, ranks
        self.task = getattr(scorer, "task", None)

    def score(
        self, rows: Sequence[Row], texts: Sequence[Answer], completion_ids: Sequence[Sequence[int]]
    ) -> RewardBatch:
        """See `data.rewards.Scorer`."""
        starts = [i for i, row in enumerate(rows) if i == 0 or row is not rows[i - 1]]
        mine = self.ranks.share(len(starts))
        start, stop = ([*starts, len(rows)][i] for i in (mine.start, mine.stop))
        with _torch_as_it_is():
            found = self.scorer.score(rows[start:stop], texts[start:stop], completion_ids[start:stop]) if mine else None
        told = self.ranks.gather(None if found is None else vars(found))
        parts = [RewardBatch(**part) for part in told if part is not None]
        if not parts:
            return self.scorer.score([], [], [])
        return joined_rewards(parts)


@contextmanager
def _torch_as_it_is() -> Iterator[None]:
    """A reward function may use torch, and leave its switches the other way."""
    gradients, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    try:
        yield
    finally:
        torch.set_grad_enabled(gradients)
        torch.set_default_dtype(dtype)


def micro_batches(batch: Batch, limit: Limit, ranks: Ranks) -> list[tuple[list[int], Batch]]:
    """This rank's rows in micro-batches: their numbers in the batch, and themselves.

    Neighbouring rows of one prompt stay together where they fit, since they are computed together. Every rank gets the
    same number of micro-batches, since sharded passes are made in step: one that has no row left gets a row without
    loss and no number.
    """
    cuts = [limit.cut(batch, groups) for groups in _dealt(batch, ranks.size)]
    mine = cuts[ranks.rank] + [[]] * (max(map(len, cuts)) - len(cuts[ranks.rank]))
    return [(rows, batch.take(rows).rows(0, len(rows)) if rows else _silent(batch)) for rows in mine]


def prompt_groups(batch: Batch) -> list[list[int]]:
    """Numbers of neighbouring rows with the same prompt."""
    width = batch.ids.shape[1] - batch.completion_mask.shape[1]
    prompts = (batch.ids * batch.attention_mask)[:, :width]
    kept = batch.attention_mask[:, :width]
    alike = (prompts[1:] == prompts[:-1]).all(1) & (kept[1:] == kept[:-1]).all(1)
    groups = [[row] for row in range(min(1, len(batch)))]
    for row, is_same in enumerate(alike.tolist(), 1):
        if is_same:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _dealt(batch: Batch, ranks: int) -> list[list[list[int]]]:
    """Groups for each rank, so that all have about as many tokens; within a rank in order.

    A group larger than half a rank's share of the rows is cut, or few prompts could not be shared out.
    """
    groups = prompt_groups(batch)
    if ranks == 1:
        return [groups]
    most = math.ceil(len(batch) / (2 * ranks))
    pieces = [group[i : i + most] for group in groups for i in range(0, len(group), most)]
    width = batch.completion_mask.shape[1]
    prompts, answers = (part.sum(1).tolist() for part in batch.attention_mask.tensor_split([-width], 1))
    tokens = [prompts[piece[0]] + sum(answers[row] for row in piece) for piece in pieces]
    dealt: list[list[list[int]]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    for i in sorted(range(len(pieces)), key=lambda i: (-tokens[i], i)):
        lightest = min(range(ranks), key=loads.__getitem__)
        dealt[lightest].append(pieces[i])
        loads[lightest] += tokens[i]
    return [sorted(each) for each in dealt]


def _silent(batch: Batch) -> Batch:
    first = batch.rows(0, 1)
    return replace(first, completion_mask=torch.zeros_like(first.completion_mask))
