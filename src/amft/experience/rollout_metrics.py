"""Statistics of one generation as metric sums, and the penalty on answers that are too long."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import torch

from ..advantages import reward_statistics, soft_overlong_penalty
from ..batch import MetricSums
from ..demo_mixing.generation import Generation
from ..types import ABSTENTIONS, Sample


def penalise_overlong(generation: Generation, max_length: int, cache: int) -> tuple[Generation, MetricSums]:
    """The generation with the soft overlong penalty on what the policy drew itself, and the mean penalty.

    Args:
        generation: scored samples.
        max_length: tokens from which the whole penalty of 1 applies.
        cache: last tokens before that over which the penalty grows from 0 (arXiv 2503.14476, eq 13).
    """

    def penalty(sample: Sample) -> float:
        length = torch.tensor([len(sample.completion_ids)])
        return float(soft_overlong_penalty(length, max_length=max_length, cache=cache)) if sample.is_rollout else 0.0

    def paid(groups: list[list[Sample]]) -> list[list[Sample]]:
        return [[replace(sample, reward=sample.reward + penalty(sample)) for sample in group] for group in groups]

    penalised = replace(generation, explore=paid(generation.explore), sampled=paid(generation.sampled))
    found = [penalty(sample) for sample in chain.from_iterable(generation.rollouts)]
    return penalised, {"rewards/soft_overlong/mean": (math.fsum(found), len(found))}


def rollout_metrics(generation: Generation) -> MetricSums:
    """Statistics of what was drawn; rewards are those of the rollouts alone."""
    drawn = list(chain.from_iterable(generation.sampled))
    rollouts = list(chain.from_iterable(generation.rollouts))
    sums = _rewards(generation.rollouts)
    sums["completions/mean_length"] = (float(sum(sample.tokens for sample in drawn)), len(drawn))
    sums["completions/clipped_ratio"] = (float(sum(not sample.finished for sample in drawn)), len(drawn))
    sums["tokens/rollout"] = (float(generation.tokens), 1.0)
    prompts = sum(len(sample.prompt_ids) + sample.prefix_len for sample in drawn)
    sums["tokens/rollout_prompt"] = (float(prompts), 1.0)
    for name in rollouts[0].reward_parts if rollouts else ():
        given = [sample.reward_parts[name] for sample in rollouts if not math.isnan(sample.reward_parts[name])]
        sums[f"rewards/{name}/mean"] = (math.fsum(given), len(given))
    if generation.knows_correct:
        sums["success"] = (float(sum(sample.correct for sample in rollouts)), len(rollouts))
    return sums | _task_metrics(rollouts)


def _task_metrics(rollouts: Sequence[Sample]) -> MetricSums:
    """What the task measures besides success, and how often its grader could not judge."""
    sums: MetricSums = {}
    for name in sorted({name for sample in rollouts for name in sample.metrics}):
        measured = [sample.metrics[name] for sample in rollouts if name in sample.metrics]
        sums[f"task/{name}"] = (math.fsum(measured), len(measured))
    for outcome in ABSTENTIONS:
        if count := sum(sample.outcome == outcome for sample in rollouts):
            sums[f"frac_{outcome}"] = (float(count), len(rollouts))
    return sums


def _rewards(rollouts: Sequence[Sequence[Sample]]) -> MetricSums:
    """`reward_statistics` of groups that may differ in size."""
    groups = [group for group in rollouts if group]
    if not groups:
        return {}
    width = max(map(len, groups))
    table = torch.full((len(groups), width), torch.nan)
    for i, group in enumerate(groups):
        table[i, : len(group)] = torch.tensor([sample.reward for sample in group], dtype=torch.float32)
    sums: MetricSums = reward_statistics(table, num_generations=width)
    padding = table.numel() - sum(map(len, groups))
    abstained, count = sums["frac_reward_abstained"]
    sums["frac_reward_abstained"] = (abstained - padding, count - padding)
    return sums
