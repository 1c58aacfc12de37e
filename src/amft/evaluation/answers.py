"""Answer held-out problems: one row per graded answer, never an average."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..data.prompt_text import prompt_text
from ..data.rewards import RewardBatch, Scorer
from ..rollout.base import Sampler
from ..rollout.multi_turn import decode, multi_turn_rollouts
from ..tasks.base import TriesTask
from ..types import Answer, Problem, Row, Sampling


def answer(
    sampler: Sampler,
    tokenizer: Any,
    scorer: Scorer,
    rows: Sequence[Row],
    prompt_ids: Sequence[Sequence[int]],
    *,
    sampling: Sampling,
    generator: torch.Generator,
    pixels: Tensor | None = None,
    first: int = 0,
) -> list[dict[str, Any]]:
    """Sample, grade and describe every answer.

    Args:
        rows: N problems; a task's rows carry their `Problem` in the column `problem`.
        prompt_ids: N prompts as token ids.
        sampling: `n` answers per problem.
        generator: of the draws.
        pixels: [N, 3, H, W] the pictures of the prompts; None: they have none.
        first: number of the first problem, where they are answered in parts.

    Returns:
        N * n rows with `key` (the cluster), `problem`, `sample`, `prompt` and `answer` as text, `correct`, `reward`,
        `outcome`, and `metrics` where the task has some. Without a task, `correct` is the reward itself. An abstained
        answer has reward None and is not correct; so is one whose reward is not finite, with the outcome
        `grader_crash`. Where the task has several tries, a row is an episode.
    """
    repeated = [row for row in rows for _ in range(sampling.n)]
    task = getattr(scorer, "task", None)
    texts: list[Answer]
    if isinstance(task, TriesTask) and task.max_attempts > 1:
        played = multi_turn_rollouts(
            sampler, tokenizer, task, rows, prompt_ids, sampling=sampling, generator=generator, pixels=pixels
        )
        texts, completions = [talk.answers for talk in played], [tuple(talk.ids) for talk in played]
        said = [talk.text for talk in played]
    else:
        seen = () if pixels is None else (pixels,)
        completions = [found.completion_ids for found in sampler.generate(prompt_ids, sampling, generator, *seen)]
        said = decode(tokenizer, completions)
        texts = [*said]
    scores = scorer.score(repeated, texts, completions)
    return [
        {
            "key": row["problem"].key if isinstance(row.get("problem"), Problem) else str(first + i // sampling.n),
            "problem": first + i // sampling.n,
            "sample": i % sampling.n,
            "prompt": prompt_text(row["prompt"]),
            "answer": said[i],
            **_verdict(scores, i),
        }
        for i, row in enumerate(repeated)
    ]


def _verdict(scores: RewardBatch, i: int) -> dict[str, Any]:
    reward = scores.rewards[i]
    given = math.isfinite(reward)
    outcome = scores.outcomes[i] if scores.outcomes is not None else None
    return {
        "correct": (float(scores.correct[i]) if scores.correct is not None else reward) if given else 0.0,
        "reward": reward if given else None,
        "outcome": "grader_crash" if math.isinf(reward) else outcome,
        **({"metrics": dict(scores.metrics[i])} if scores.metrics and scores.metrics[i] else {}),
    }
