"""A step of our trainer without a model's answers: real encoding, collection and losses on a few uneven rows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..batch import Batch
from ..data.rewards import RewardBatch
from ..demo_mixing.generation import Generation
from ..distributed.parallel import Single
from ..distributed.ranks import Ranks
from ..errors import ConfigError
from ..experience.sampling_context import RolloutBackend
from ..step.branch import Branch
from ..step.learner import Learner
from ..training.trainer import AMFTTrainer
from ..types import RL, Answer, Row, Sample, Sampling
from .gradients import AuditedLoss, sampled_gradient

ROWS = 5
"""Demonstrations of the rehearsal: no multiple of 2, so that a remainder that is lost is seen."""

LONGEST = 48
"""Tokens of a rehearsed rollout."""


class ShareOf(Ranks):
    """Rank `rank` of `size` in one process: it takes its share of the rows, and sums stay its own."""

    def __init__(self, rank: int, size: int):
        super().__init__()
        self.rank, self.size = rank, size

    def all_sum(self, values: list[float]) -> list[float]:
        return values

    def sum_(self, tensor: Tensor) -> Tensor:
        return tensor


@dataclass
class Stand:
    """In the place of the rollout engine: writes down what it is given, and answers with tokens of its own choice."""

    vocabulary: Sequence[int]
    asked: list[tuple[int, ...]] = field(default_factory=list)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        generator: torch.Generator,  # noqa: ARG002
        pixels: Tensor | None = None,  # noqa: ARG002
    ) -> list[Sample]:
        """See `rollout.base.Sampler`."""
        self.asked += [tuple(prompt) for prompt in prompts]
        draws, longest = random.Random(len(self.asked)), min(sampling.max_new_tokens, LONGEST)
        return [
            Sample(tuple(prompt), tuple(draws.choices(self.vocabulary, k=draws.randint(1, longest))))
            for prompt in prompts
            for _ in range(sampling.n)
        ]


class Marks:
    """In the place of the rewards: 0, 1, 0, 1, ... so that every group has something to learn."""

    def score(
        self,
        rows: Sequence[Row],
        texts: Sequence[Answer],  # noqa: ARG002
        completion_ids: Sequence[Sequence[int]],  # noqa: ARG002
    ) -> RewardBatch:
        """See `data.rewards.Scorer`."""
        rewards = [float(i % 2) for i in range(len(rows))]
        return RewardBatch(rewards, {"marks": rewards}, correct=[reward > 0 for reward in rewards])


@dataclass
class Rehearsal:
    """What the checks look at. The trainer's streams are put back; its gradients are cleared."""

    trainer: AMFTTrainer
    learner: Learner
    exploration: Branch | None
    imitation: Branch | None
    """The plain imitation loss on `ROWS` demonstrations of uneven length."""
    generation: Generation | None
    asked: Sequence[tuple[int, ...]]
    """Token ids that the rollout engine was given."""

    @property
    def branches(self) -> list[Branch]:
        return [branch for branch in (self.exploration, self.imitation) if branch is not None]

    @property
    def losses(self) -> list[AuditedLoss]:
        """Both branches for the checks that know no trainer."""
        return [
            AuditedLoss(
                word(branch),
                len(_batch(branch)),
                partial(self.gradient, branch),
            )
            for branch in self.branches
        ]

    def gradient(self, branch: Branch, numbers: Sequence[int], size: int, ranks: Ranks | None = None) -> Tensor:
        """[N] `sampled_gradient` of some rows, `size` at a time, over the count of all."""
        self.learner.clear()
        self.add(branch, numbers, size, ranks)
        found = sampled_gradient(self.learner.model)
        self.learner.clear()
        return found

    def add(
        self, branch: Branch, numbers: Sequence[int], size: int, ranks: Ranks | None = None, scale: float = 1.0
    ) -> float:
        """Add the gradient of some rows to `p.grad`; their loss."""
        learner = self.learner
        parallel = learner.parallel if ranks is None else Single(ranks, learner.parallel.device)
        config = learner.config.model_copy(update={"micro_batch_size": size, "micro_batch_tokens": None})
        at_size = replace(learner, config=config, parallel=parallel)
        return at_size.gradient(branch.loss, _batch(branch).take(list(numbers)), branch.count, scale)[0]


def word(branch: Branch) -> str:
    """What people call the branch."""
    return "exploration" if branch.name == RL else "imitation"


def rehearse(trainer: AMFTTrainer) -> Rehearsal:
    """Make a few rows of each branch as a step would.

    Raises:
        ConfigError: on several processes, or with nothing to train on.
    """
    if trainer.ranks.size > 1:
        raise ConfigError("audit: run it in one process, without torchrun")
    if trainer.foundation.config.dtype == "bfloat16":
        raise ConfigError("audit: rounding in bfloat16 would hide what is looked for; set dtype: float32")
    saved = {name: stream.state_dict() for name, stream in trainer.sources.streams.items()}
    try:
        exploration, generation, asked = _explored(trainer)
        imitation = _imitated(trainer)
    finally:
        for name, stream in trainer.sources.streams.items():
            stream.load_state_dict(saved[name])
    if exploration is None and imitation is None:
        raise ConfigError("audit: there is nothing to train on; give demonstrations or rewards")
    return Rehearsal(trainer, trainer.learner, exploration, imitation, generation, asked)


def _batch(branch: Branch) -> Batch:
    assert branch.batch is not None
    return branch.batch


def _explored(trainer: AMFTTrainer) -> tuple[Branch | None, Generation | None, list[tuple[int, ...]]]:
    """The RL branch on the answers of a `Stand`, for two prompts."""
    sources, config, shown = trainer.sources, trainer.config, []
    if sources.prompts is None or sources.scorer is None:
        return None, None, []
    stand = Stand([i for i in range(len(trainer.tokenizer)) if i not in trainer.tokenizer.all_special_ids][:4096])
    few = config.model_copy(
        update={
            "num_prompts": 2,
            "num_generations": min(config.num_generations, 4),
            "steps_per_generation": 1,
            "num_iterations": 1,
            "dynamic_sampling_rounds": 0,
            "soft_punish_cache": 0,
        }
    )
    own = trainer.organs.collector
    backend: Any = RolloutBackend(stand, Marks(), trainer.tokenizer, few, pictures=own.backend.pictures)
    collector = replace(
        own,
        backend=backend,
        config=few,
        generator=torch.Generator().manual_seed(0),
        show=lambda _, generation: shown.append(generation),
        window=[],
        buffer=[],
    )
    batch = collector.next(sources.prompts).batch
    if not len(batch):
        return None, shown[0], stand.asked
    objective = trainer.organs.objective
    return Branch(RL, batch, objective.rl, objective.rl_count(batch)), shown[0], stand.asked


def _imitated(trainer: AMFTTrainer) -> Branch | None:
    """The imitation branch on demonstrations from the shortest to the longest."""
    source = trainer.sources.demonstrations
    if source is None:
        return None
    by_length = sorted(range(len(source.encoded.rows)), key=lambda i: len(source.encoded.rows[i].completion_ids))
    last = len(by_length) - 1
    chosen = [by_length[last * i // (ROWS - 1)] for i in range(ROWS)]
    objective = trainer.organs.objective.plain
    batch = source.of([source.encoded.rows[i] for i in chosen])
    return Branch("sft", batch, objective.sft, objective.token_count(batch))
