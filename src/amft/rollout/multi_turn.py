"""Episodes of a task with several tries: the model answers, the task says what is wrong, the model answers again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..data.conversation import Transcript, UserTurns
from ..tasks.base import TriesTask
from ..types import Row, Sampling
from .base import Sampler


def multi_turn_rollouts(
    sampler: Sampler,
    tokenizer: Any,
    task: TriesTask,
    rows: Sequence[Row],
    prompt_ids: Sequence[Sequence[int]],
    prefixes: Sequence[Sequence[int]] | None = None,
    *,
    sampling: Sampling,
    generator: torch.Generator,
    pixels: Tensor | None = None,
) -> list[Transcript]:
    """Play every episode to its end: answers are sampled together, turn by turn, for the episodes still open.

    An episode ends when the task has no feedback for its answers, or when another answer of `max_new_tokens` would
    not fit `max_transcript`.

    Args:
        rows: N problems, each `Problem` in the column `problem`.
        prompt_ids: N prompts as token ids.
        prefixes: N beginnings of the first answer that the model goes on from; they count as its answer. None: empty.
        sampling: `n` episodes per prompt; `max_new_tokens` bounds one answer, `max_transcript` a conversation.
        generator: of the draws.
        pixels: [N, 3, H, W] the pictures of the prompts; None: they have none.

    Returns:
        N * n conversations, those of a prompt side by side.
    """
    prefixes = prefixes or [()] * len(prompt_ids)
    owners = [i for i in range(len(prompt_ids)) for _ in range(sampling.n)]
    transcripts = [Transcript(tuple(prompt_ids[i])) for i in owners]
    begins_with = [tuple(prefixes[i]) for i in owners]
    turns, still = UserTurns(tokenizer), list(range(len(owners)))

    def pictured(numbers: Sequence[int]) -> tuple[Tensor, ...]:
        return () if pixels is None else (pixels[list(numbers)],)

    completions = sampler.generate(
        [[*ids, *start] for ids, start in zip(prompt_ids, prefixes)],
        sampling,
        generator,
        *pictured(range(len(prompt_ids))),
    )
    while True:
        answers = [
            (*begins_with[i], *completion.completion_ids) for i, completion in zip(still, completions, strict=True)
        ]
        for i, completion, ids, text in zip(still, completions, answers, decode(tokenizer, answers), strict=True):
            unsaid = [math.nan] * len(completion.completion_ids)
            transcripts[i].answer(ids, text, completion.finished, completion.logps or unsaid)
        begins_with = [()] * len(owners)
        still = [i for i in still if _goes_on(transcripts[i], task, rows[owners[i]], turns, sampling)]
        if not still:
            return transcripts
        completions = sampler.generate(
            [transcripts[i].so_far for i in still],
            replace(sampling, n=1),
            generator,
            *pictured([owners[i] for i in still]),
        )


def _goes_on(transcript: Transcript, task: TriesTask, row: Row, turns: UserTurns, sampling: Sampling) -> bool:
    said = task.feedback(row["problem"], transcript.answers)
    if said is None:
        return False
    ids = turns.reply(said, transcript.ids[-1])
    room = sampling.max_transcript - len(transcript.ids) - len(ids)
    if sampling.max_transcript and room < sampling.max_new_tokens:
        return False
    transcript.reply(ids, said)
    return True


def decode(tokenizer: Any, completions: Sequence[Sequence[int]]) -> list[str]:
    """Completions as text, without special tokens."""
    texts: list[str] = tokenizer.batch_decode([list(ids) for ids in completions], skip_special_tokens=True)
    return texts
