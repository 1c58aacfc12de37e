"""The order in which demonstrations are shown: all in one, or each class in its own, as often as its weight says."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol, TypeAlias

from ..balance.requirements import Requirements
from ..data.streams import RowStream, derive_seed


class Shown(NamedTuple):
    """A demonstration whose turn it is."""

    row: int
    """Its place among the encoded rows."""
    visits: int
    """How often it was shown before."""


def factor_of(row: int, visits: int, ageing: float | None, weights: Sequence[float] | None) -> float:
    """What one demonstration counts in the imitation loss.

    Args:
        row, visits: see `Shown`.
        ageing: a demonstration that was shown k times before counts `1 / (1 + k / ageing)`; None: always 1.
        weights: of each row; None: always 1.
    """
    age = 1.0 if ageing is None else 1.0 / (1.0 + visits / ageing)
    return age if weights is None else age * weights[row]


class DemoOrder(Protocol):
    """Which demonstrations come next."""

    @property
    def streams(self) -> Sequence[RowStream]:
        """What a checkpoint keeps of the order."""
        ...

    def take(self, n: int, weights: Mapping[str, float]) -> dict[str, list[Shown]]:
        """The next `n` by imitation branch, one without any being absent. `weights`: branch -> what it counts now."""
        ...


class OneOrder:
    """All demonstrations in one order, whatever they count.

    Args:
        branch_of: imitation branch of each row.
        seed: of the run.
        name: of the stream.
    """

    def __init__(self, branch_of: Sequence[str], seed: int, name: str):
        self.branch_of, self.stream = branch_of, RowStream(len(branch_of), seed, name)

    @property
    def streams(self) -> Sequence[RowStream]:
        """One."""
        return (self.stream,)

    def take(self, n: int, weights: Mapping[str, float]) -> dict[str, list[Shown]]:  # noqa: ARG002
        """See `DemoOrder`."""
        visits, found = self.stream.visits(n), dict[str, list[Shown]]()
        for row, before in zip(self.stream.take(n), visits, strict=True):
            found.setdefault(self.branch_of[row], []).append(Shown(row, before))
        return found


class OrderByWeight:
    """Each class in an order of its own; of `n` rows it gives `n s_c w_c / sum_k s_k w_k` on average. House.

    `s_c` is its share of all rows and `w_c` its weight, so a class with a weight near zero leaves its place to the
    others; where all weights are zero, the shares decide. The counts of a step are drawn together, each the whole
    number below or above its expectation (systematic sampling), from the seed and how many rows were taken before.

    Args: as `OneOrder`.
    """

    def __init__(self, branch_of: Sequence[str], seed: int, name: str):
        self.seed, self.name = seed, name
        self.rows = {branch: [i for i, own in enumerate(branch_of) if own == branch] for branch in sorted({*branch_of})}
        self.stream_of = {branch: RowStream(len(rows), seed, f"{name}/{branch}") for branch, rows in self.rows.items()}

    @property
    def streams(self) -> Sequence[RowStream]:
        """One for each class."""
        return tuple(self.stream_of.values())

    def take(self, n: int, weights: Mapping[str, float]) -> dict[str, list[Shown]]:
        """See `DemoOrder`."""
        found: dict[str, list[Shown]] = {}
        for branch, count in self.counts(n, weights).items():
            if count:
                stream, rows = self.stream_of[branch], self.rows[branch]
                visits = stream.visits(count)
                found[branch] = [Shown(rows[i], k) for i, k in zip(stream.take(count), visits, strict=True)]
        return found

    def counts(self, n: int, weights: Mapping[str, float]) -> dict[str, int]:
        """Branch -> rows of the next `n`."""
        shares = {branch: len(rows) * max(weights.get(branch, 0.0), 0.0) for branch, rows in self.rows.items()}
        if not sum(shares.values()):
            shares = {branch: float(len(rows)) for branch, rows in self.rows.items()}
        taken = sum(stream.taken for stream in self.streams)
        offset, total = (
            random.Random(derive_seed(self.seed, self.name, "classes", taken)).random(),
            sum(shares.values()),
        )
        ends = [0, *(int(n * end / total + offset) for end in accumulate(shares.values()))]
        ends[-1] = n  # which rounding may miss; the offset is below 1
        return {branch: ends[i + 1] - ends[i] for i, branch in enumerate(shares)}


Order: TypeAlias = type[OneOrder] | type[OrderByWeight]


def order_of(asked: Requirements) -> Order:
    """The order that a rule wants its demonstrations in."""
    return OrderByWeight if asked.draw == "weight" else OneOrder
