"""Tokens of a micro-batch whose rows lie in a prefix tree: no padding, and at most their own tokens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Packing:
    """The fullest micro-batch of a step."""

    tokens: float
    """Prompts and completions, no padding: what every layer computes on."""
    scored: float
    """Completion tokens among them: what the output layer computes on."""


def fullest(
    rows: int,
    share: int,
    prompt: float,
    completion: float,
    *,
    longest: tuple[int, int],
    dealt: bool,
) -> Packing:
    """The fullest micro-batch that `distributed.rank_partition.micro_batches` makes.

    A micro-batch is a number of rows, so its tokens are at most the sum of their lengths, `rows * mean` on average.
    What rows share is not taken off: demonstrations of a step need share nothing. Over several devices the rows of one
    device may be longer than the mean, so there `rows * longest`, and all tokens of the device, are the bound.

    Args:
        rows: of a micro-batch.
        share: rows of a step on one device, at least `rows`.
        prompt, completion: mean tokens of a row.
        longest: tokens of the longest prompt and of the longest completion.
        dealt: there are several devices.
    """
    counted = share if dealt else rows
    # The last token of a row predicts nothing and is left out.
    return Packing(
        tokens=min(rows * (sum(longest) - 1), counted * (prompt + completion - 1)),
        scored=min(rows * longest[1], counted * completion),
    )


def budgeted(tokens: int, share: int, prompt: float, completion: float, *, longest: tuple[int, int]) -> Packing:
    """The fullest micro-batch under `micro_batch_tokens`; a row that is longer is one of its own.

    Args:
        tokens: the setting.
        share: rows of a step on one device.
        prompt, completion: mean tokens of a row.
        longest: tokens of the longest prompt and of the longest completion.
    """
    most = min(max(tokens, sum(longest)), share * (prompt + completion - 1))
    return Packing(tokens=most, scored=min(most, share * completion))
