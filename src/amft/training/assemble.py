"""Everything that trains, put together on a foundation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ..batch import Batch
from ..data.streams import derive_seed
from ..distributed.served_sampler import ServedSampler
from ..errors import ConfigError
from ..experience.rollouts import Collector
from ..experience.sampling_context import RolloutBackend
from ..experience.sources import Sources
from ..losses.choices import POLICY_LOSSES
from ..models.lora import adapter_off
from ..runs import RunDirectory
from ..step.balancer import Balancer
from ..step.choose import TakeStep, choose_step
from ..step.critic import Critic
from ..step.frozen_entries import FrozenEntries
from ..step.implicit_reward import ImplicitReward
from ..step.learner import Learner
from ..step.meta_signals import MetaSignals
from ..step.mixed_gradients import mixed_gradients
from ..step.objective import Objective
from ..step.optimizers import PolicyOptimizer, SeparateImitation, SharedOptimizer, build_optimizer, hidden_matrices
from ..step.policy_backend import PolicyBackend
from ..step.row_layout import RowLayout
from ..step.shadow import ShadowedOptimizer
from ..step.teacher import LowRankTeacher
from ..types import SFT
from .foundation import Foundation, weighs_reference
from .run_logger import RunLogger, SilentRunLogger


@dataclass
class Organs:
    """Everything that trains."""

    learner: Learner
    objective: Objective
    collector: Collector
    run_logger: RunLogger
    meta_signals: MetaSignals
    balancer: Balancer
    backend: PolicyBackend
    take_step: TakeStep
    implicit_reward: ImplicitReward


def build_organs(on: Foundation, stage_steps: int) -> Organs:
    """Everything that trains. Args: on: model and data. stage_steps: length of the single stage, optimizer steps."""
    config, method, sources = on.config, on.method, on.sources
    has_values = POLICY_LOSSES[config.loss_type].baseline == "value"
    critic = Critic(on.model, config, on.parallel, build_optimizer) if has_values else None
    objective = Objective(config, method, critic)
    logger = RunLogger if on.parallel.ranks.is_main else SilentRunLogger
    run_logger = logger(RunDirectory(config.output_dir), on.tokenizer, config, sources)
    rows = RowLayout(config.prefix_tree, config.dtype, on.parallel.ranks)
    learner = _learner(on, critic, rows)
    collector = Collector(
        # Without a scorer nothing is collected.
        backend=RolloutBackend(on.sampler, sources.scorer, on.tokenizer, config, pictures=on.pictures),  # type: ignore[arg-type]
        config=config,
        score_old=lambda batch: learner.logps(on.model, batch),
        score_reference=_reference_logps(on, learner, config.temperature) if config.beta else None,
        generator=torch.Generator().manual_seed(derive_seed(config.seed, "rollouts")),
        score_values=None if critic is None else learner.values,
        score_taught=lambda batch: (learner.logps(on.model, batch, 1.0), learner.entropies(batch, 1.0)),
        demo_mixer=method.demo_mixer,
        ahead=on.sampler if config.ahead and isinstance(on.sampler, ServedSampler) else None,
        show=run_logger.samples,
    )
    meta_signals = MetaSignals(learner, objective, collector, sources, method.requirements.meta_gradient)
    balancer = Balancer(method.rule, stage_steps, branches_of(sources), config.entropy_target)
    asked = config.implicit_reward
    implicit = ImplicitReward(learner, sources.demonstrations, asked.steps, asked.beta)

    def see(rollouts: Batch) -> None:
        run_logger.remember(rollouts)
        implicit.see(rollouts)

    backend = PolicyBackend(
        learner,
        objective,
        collector,
        meta_signals,
        sources,
        method,
        balancer,
        score_reference=_reference_logps(on, learner, 1.0) if weighs_reference(method) else None,
        seen=see,
    )
    optimizer = learner.optimizer
    explored = replace(objective, critic=None).rl
    compare = partial(optimizer.compare, learner, explored) if isinstance(optimizer, ShadowedOptimizer) else None
    take_step = choose_step(balancer, learner.mix, compare)
    return Organs(learner, objective, collector, run_logger, meta_signals, balancer, backend, take_step, implicit)


def branches_of(sources: Sources) -> tuple[str, ...]:
    """The imitation branches of a run."""
    return (SFT,) if sources.demonstrations is None else sources.demonstrations.branches


def _learner(on: Foundation, critic: Critic | None, rows: RowLayout) -> Learner:
    config, asked = on.config, on.method.requirements
    inner = build_optimizer(on.model, config)
    optimizer: PolicyOptimizer = SharedOptimizer(on.model, inner)
    mix = mixed_gradients(on.model, inner, on.method.requirements.meta_gradient, branches_of(on.sources))
    if asked.sft_optimizer == "own":
        imitator = SharedOptimizer(on.model, build_optimizer(on.model, config), "imitator")
        optimizer = SeparateImitation(optimizer, imitator)
    if asked.freeze is not None:
        if config.parallel == "fsdp2":
            raise ConfigError("balance.freeze: not for parallel: fsdp2; choose ddp or single")
        optimizer = FrozenEntries(optimizer, on.model, asked.freeze.share, asked.freeze.history)
    if asked.teacher is not None and on.shadow is not None:
        drawn = torch.Generator().manual_seed(derive_seed(config.seed, "teacher"))
        teacher = LowRankTeacher(hidden_matrices(on.model), asked.teacher.rank, drawn)
        taught = on.model, on.shadow, teacher
        optimizer = ShadowedOptimizer(optimizer, *taught, build_optimizer, config, asked.teacher.rate)
    return Learner(on.model, optimizer, mix, config, on.parallel, rows, critic)


def _reference_logps(on: Foundation, learner: Learner, temperature: float) -> Callable[[Batch], Tensor]:
    reference = on.reference
    if reference is not None:
        return lambda batch: learner.logps(reference, batch, temperature)

    def under_the_adapter(batch: Batch) -> Tensor:
        with adapter_off(on.model):
            return learner.logps(on.model, batch, temperature)

    return under_the_adapter
