"""Rows of tokens as a tree: what rows have in common at their beginning stands once, depth first in one line.

Prompt and answers of a group are a tree of two levels; a demonstration of the same prompt is one more leaf; hints,
turns and a preamble that all prompts share are further levels. Nobody declares them: the tree is read off the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

SHORTEST = 8
"""Tokens that rows must have in common, beyond those they share with others, to get a node of their own: each node
costs attention a few more calls, which about so many tokens pay for."""


@dataclass
class PrefixTree:
    """N tokens in depth-first order. Token q sees token k exactly when `k <= q < ends[k]`."""

    tokens: list[int] = field(default_factory=list)
    """[N]."""
    depths: list[int] = field(default_factory=list)
    """[N] tokens before it in its rows: its position."""
    ends: list[int] = field(default_factory=list)
    """[N] where the subtree of its node ends."""
    places: list[list[tuple[int, int]]] = field(default_factory=list)
    """For each row, the stretches of the line that hold its tokens, in order."""
    nodes: list[tuple[int, int, int]] = field(default_factory=list)
    """(start, stop, end of subtree) of every node, in order."""

    def of_row(self, row: int) -> np.ndarray:
        """[tokens of the row] where they stand in the line."""
        return np.concatenate([np.arange(start, stop) for start, stop in self.places[row]])

    @property
    def squares(self) -> list[tuple[int, int, int]]:
        """(start, count, length): neighbouring nodes of one length, each causal within itself."""
        found: list[tuple[int, int, int]] = []
        for start, stop, _ in self.nodes:
            length = stop - start
            if found and found[-1][2] == length:
                found[-1] = (found[-1][0], found[-1][1] + 1, length)
            else:
                found.append((start, 1, length))
        return found

    @property
    def bands(self) -> list[tuple[int, int, int]]:
        """(start, stop, end): the tokens `stop:end` below a node see all of its tokens `start:stop`."""
        return [(start, stop, end) for start, stop, end in self.nodes if end > stop]


def prefix_tree(rows: Sequence[Sequence[int]]) -> PrefixTree:
    """The tree of rows that are not empty.

    Example: with SHORTEST = 1 the rows `[5, 6, 7]` and `[5, 6, 8, 9]` become the tokens `[5, 6, 7, 8, 9]` at depths
    `[0, 1, 2, 2, 3]`; the first two see up to place 5, the third up to 3, the last two up to 5.
    """
    order = sorted(range(len(rows)), key=lambda row: list(rows[row]))
    arrays = [np.asarray(rows[row]) for row in order]
    shared = [_common(one, other) for one, other in pairwise(arrays)]
    tree = PrefixTree(places=[[] for _ in rows])
    # A stack, not recursion: rows that nest one in the other would be as deep as there are rows.
    waiting: list[tuple[int, int, int] | int] = [*_children(arrays, shared, 0, len(arrays), 0)]
    while waiting:
        taken = waiting.pop()
        if isinstance(taken, int):
            _close(tree, taken)
            continue
        first, last, depth = taken
        common = min(shared[first : last - 1], default=len(arrays[first]))
        waiting.append(len(tree.nodes))
        _lay(tree, arrays[first], depth, common)
        for row in order[first:last]:
            tree.places[row].append(tree.nodes[-1][:2])
        waiting += _children(arrays, shared, first, last, common)
    return tree


def _children(
    rows: Sequence[np.ndarray], shared: Sequence[int], first: int, last: int, common: int
) -> list[tuple[int, int, int]]:
    """Runs of the sorted rows `first:last` with enough in common beyond `common` tokens, to be taken from the end."""
    starts = [first, *(row + 1 for row in range(first, last - 1) if shared[row] < common + SHORTEST)]
    runs = [(*run, common) for run in zip(starts, [*starts[1:], last]) if len(rows[run[1] - 1]) > common]
    return sorted(runs, key=lambda run: (run[1] - run[0] > 1, len(rows[run[0]])))[::-1]


def _lay(tree: PrefixTree, row: np.ndarray, depth: int, common: int) -> None:
    start = len(tree.tokens)
    tree.tokens += row[depth:common].tolist()
    tree.depths += range(depth, common)
    tree.ends += [0] * (common - depth)
    tree.nodes.append((start, len(tree.tokens), 0))


def _close(tree: PrefixTree, node: int) -> None:
    """All below the node stands: its subtree ends here."""
    start, stop, _ = tree.nodes[node]
    tree.nodes[node] = (start, stop, len(tree.tokens))
    tree.ends[start:stop] = [len(tree.tokens)] * (stop - start)


def _common(one: np.ndarray, other: np.ndarray) -> int:
    """Tokens that two rows begin with alike."""
    length = min(len(one), len(other))
    apart = (one[:length] != other[:length]).nonzero()[0]
    return int(apart[0]) if len(apart) else length
