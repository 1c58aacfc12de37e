"""What a balance rule is: how the weights of a step's branches move over time.

A rule is a frozen dataclass of its own hyper-parameters. `requirements` declares what it reads, so that only a rule
that asks for the meta-gradient pays for its buffer. State is plain JSON and travels in checkpoints.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, runtime_checkable

from ..signals.base import Signals
from .requirements import Requirements
from .weights import Weights

State: TypeAlias = dict[str, Any]
"""A rule's memory: JSON values only."""

Update: TypeAlias = tuple[Weights, State, dict[str, float]]
"""Weights for this step, the next state, and metrics to log (names under `mix/`)."""

NOTHING = Requirements()
"""Of a rule that goes by the step alone."""


@runtime_checkable
class Balance(Protocol):
    """A balance rule. `update` is pure: same state and signals, same result."""

    @property
    def requirements(self) -> Requirements:
        """What the trainer must measure and keep for it; a class attribute, a field or a property."""
        ...

    def init(self) -> State:
        """The state before the first step of the single stage."""
        ...

    def update(self, state: State, signals: Signals) -> Update:
        """Weights for this step, the next state, and metrics to log (names under `mix/`)."""
        ...
