"""How large a micro-batch may be: so many rows, or so many tokens. Neighbouring rows of one prompt stay together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from ..batch import Batch

RowGroups: TypeAlias = Sequence[list[int]]
"""Numbers of the rows that stay together where they fit, in order."""


class Limit(Protocol):
    """Cuts the rows of a rank."""

    def cut(self, batch: Batch, groups: RowGroups) -> list[list[int]]:
        """Numbers of the rows of every micro-batch; each row of `groups` once."""
        ...


@dataclass(frozen=True)
class RowLimit:
    """So many rows at most, in order; a group of more is cut."""

    rows: int

    def cut(self, batch: Batch, groups: RowGroups) -> list[list[int]]:  # noqa: ARG002
        """See `Limit`."""
        found: list[list[int]] = []
        for group in groups:
            for i in range(0, len(group), self.rows):
                piece = group[i : i + self.rows]
                if found and len(found[-1]) + len(piece) <= self.rows:
                    found[-1] = found[-1] + piece
                else:
                    found.append(piece)
        return found


@dataclass(frozen=True)
class TokenLimit:
    """So many tokens at most, as few micro-batches as that allows, and their largest as small as it can be.

    The groups are taken from the longest to the shortest, so that padded rows are as wide as their neighbours. A row
    that is longer than the limit is a micro-batch of its own.
    """

    tokens: int
    is_tree: bool
    """Rows lie in a prefix tree: a group's prompt counts once, padding never. Else all rows are as wide as the widest
    prompt and the widest completion of their micro-batch."""

    def cut(self, batch: Batch, groups: RowGroups) -> list[list[int]]:
        """See `Limit`."""
        width = batch.completion_mask.shape[1]
        prompts, answers = (part.sum(1).tolist() for part in batch.attention_mask.tensor_split([-width], 1))

        def in_tree(pieces: RowGroups) -> int:
            return sum(prompts[piece[0]] + sum(answers[row] for row in piece) for piece in pieces)

        def padded(pieces: RowGroups) -> int:
            rows = [row for piece in pieces for row in piece]
            return len(rows) * (max(prompts[row] for row in rows) + max(answers[row] for row in rows))

        tokens = in_tree if self.is_tree else padded
        pieces = [piece for group in groups for piece in _filled([[row] for row in group], self.tokens, tokens)]
        merged = [[row for part in piece for row in part] for piece in pieces]
        merged.sort(key=lambda piece: (-max(prompts[row] + answers[row] for row in piece), piece))
        return [sorted(row for piece in part for row in piece) for part in _balanced(merged, self.tokens, tokens)]


def _filled(pieces: RowGroups, limit: int, tokens: Callable[[RowGroups], int]) -> list[list[list[int]]]:
    """Neighbours together while they have at most `limit` tokens."""
    found: list[list[list[int]]] = []
    for piece in pieces:
        if found and tokens([*found[-1], piece]) <= limit:
            found[-1].append(piece)
        else:
            found.append([piece])
    return found


def _balanced(pieces: RowGroups, limit: int, tokens: Callable[[RowGroups], int]) -> list[list[list[int]]]:
    """As many parts as `limit` needs, under the smallest limit that needs no more."""
    best = _filled(pieces, limit, tokens)
    low, high = 0, limit
    while high - low > 1:
        middle = (low + high) // 2
        found = _filled(pieces, middle, tokens)
        if len(found) > len(best):
            low = middle
        else:
            best, high = found, middle
    return best
