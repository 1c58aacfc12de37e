"""Tokens of a micro-batch whose rows lie end to end (`padding_free`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Packing:
    """The fullest micro-batch of a step."""

    tokens: float
    """Prompts and completions, no padding: what every layer computes on."""
    scored: float
    """Completion tokens among them: what the output layer computes on."""
    in_blocks: bool
    """Attention lays its inputs out as padded rows again (`models.packed`: everywhere but on a CPU)."""


def fullest(
    rows: int,
    share: int,
    prompt: float,
    completion: float,
    *,
    longest: tuple[int, int],
    dealt: bool,
    in_blocks: bool,
) -> Packing:
    """The fullest micro-batch that `training.split.micro_batches` makes and `models.layout.packed` lays end to end.

    A micro-batch is a fixed number of rows, so its tokens are the sum of their lengths, `rows * mean` on average. Over
    several devices rows are dealt out longest first, so the first micro-batch holds each device's longest rows: then
    only `rows * longest`, and all tokens of the device, bound it.

    Args:
        rows: of a micro-batch.
        share: rows of a step on one device, at least `rows`.
        prompt, completion: mean tokens of a row.
        longest: tokens of the longest prompt and of the longest completion.
        dealt: there are several devices.
        in_blocks: see `Packing`.
    """
    counted = share if dealt else rows
    return Packing(
        tokens=min(rows * sum(longest), counted * (prompt + completion)),
        scored=min(rows * longest[1], counted * completion),
        in_blocks=in_blocks,
    )
