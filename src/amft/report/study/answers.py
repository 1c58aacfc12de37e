"""Scores of many runs in little memory: what was asked is kept once for all runs that were asked the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

AskedProblem: TypeAlias = tuple[str, Any]
"""Cluster and problem."""

Known: TypeAlias = dict[tuple[AskedProblem, ...], dict[AskedProblem, int]]
"""What runs were asked so far -> the place of each problem."""


class Answers(Mapping[AskedProblem, list[float]]):
    """(cluster, problem) -> its answers' scores in order.

    Args:
        found: the same as a mapping of lists.
        known: problems that other runs were asked -> their places; takes those of this one.
    """

    def __init__(
        self,
        found: Mapping[AskedProblem, Sequence[float]],
        known: dict[tuple[AskedProblem, ...], dict[AskedProblem, int]],
    ):
        asked = tuple(found)
        if asked not in known:
            known[asked] = {key: place for place, key in enumerate(asked)}
        self.places = known[asked]
        # [problems, answers], NaN behind the last answer of a problem that has fewer.
        self.scores = np.full((len(asked), max(map(len, found.values()), default=0)), np.nan)
        for row, values in zip(self.scores, found.values(), strict=True):
            row[: len(values)] = values

    def __getitem__(self, key: AskedProblem) -> list[float]:
        row = self.scores[self.places[key]]
        values: list[float] = row[~np.isnan(row)].tolist()
        return values

    def __iter__(self) -> Iterator[AskedProblem]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)
