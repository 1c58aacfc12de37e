"""The weights of a step: branch -> number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..types import RL


class Weights(Mapping[str, float]):
    """`sum_k w_k L_k`: the weight of every branch of a step. The numbers are free; they need not sum to one.

    Example:
        >>> Weights(rl=0.5, sft=0.5) == Weights.convex(0.5)
        True
        >>> Weights({"rl": 0.5, "sft/right": 0.7, "sft/wrong": 0.05}).imitates
        True

    Args:
        weights: branch -> weight, for names with a slash.
        named: the same for plain names.
    """

    def __init__(self, weights: Mapping[str, float] | None = None, /, **named: float):
        self._weights = {**(weights or {}), **named}

    @classmethod
    def convex(cls, mu: float) -> Weights:
        """`(1 - mu) L_RL + mu L_SFT`, eq 3 of arXiv 2508.06944."""
        return cls(sft=mu, rl=1.0 - mu)

    def __getitem__(self, branch: str) -> float:
        return self._weights[branch]

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)

    def __repr__(self) -> str:
        return f"Weights({self._weights})"

    @property
    def explores(self) -> bool:
        """Whether the RL branch counts."""
        return bool(self._weights[RL])

    @property
    def imitates(self) -> bool:
        """Whether an imitation branch counts."""
        return any(weight for branch, weight in self._weights.items() if branch != RL)
