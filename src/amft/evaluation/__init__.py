"""Evaluation of a model on a task's held-out problems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..tasks.base import Task

ANSWER_TOKENS = 256
"""Longest answer of `amft eval`, in tokens."""


def evaluate_model(
    model: str,
    task: Task,
    splits: Sequence[str],
    samples: int = 1,
    problems: int | None = None,
    seed: int = 0,
    trust_special_tokens: bool = False,
) -> list[dict[str, Any]]:
    """Answer a task's problems with a saved model.

    Args:
        model: `nano` or a model directory.
        task: from `amft.tasks.registry.build_task`.
        splits: which to answer.
        samples: answers per problem; 1 is greedy, more are sampled at temperature 1.
        problems: per split; None takes every key once.
        seed: of the problems and of the draws.
        trust_special_tokens: as in a recipe.

    Returns:
        Score rows, with `split`; see `answers.answer`.
    """
    import torch

    from ..data.encoding import encode_prompt, pixels_of
    from ..data.rewards import TaskReward
    from ..data.streams import derive_seed
    from ..models.load import lend_template, load_model, load_pictures, load_tokenizer, stop_ids
    from ..models.whole import check_tokenizer
    from ..rollout.registry import build_sampler
    from ..types import Row, Sampling
    from .answers import answer

    tokenizer, pictures = load_tokenizer(model), load_pictures(model)
    lend_template(tokenizer, pictures)
    policy = load_model(model)
    check_tokenizer(model, tokenizer, policy)
    sampler = build_sampler("auto", policy, pad_id=tokenizer.pad_token_id, eos_ids=stop_ids(policy, tokenizer))
    sampling = Sampling(samples, ANSWER_TOKENS, 0.0 if samples == 1 else 1.0)
    out = []
    for split in splits:
        rows: list[Row] = [
            {"prompt": task.prompt(p), "problem": p} for p in task.problems(split, seed=seed, n=problems)
        ]
        ids = [encode_prompt(tokenizer, row["prompt"], pictures, trusted=trust_special_tokens) for row in rows]
        generator = torch.Generator().manual_seed(derive_seed(seed, "eval", split))
        pixels = pixels_of([row["prompt"] for row in rows], pictures)
        found = answer(
            sampler, tokenizer, TaskReward(task), rows, ids, sampling=sampling, generator=generator, pixels=pixels
        )
        out += [{"split": split, **row} for row in found]
    return out
