"""What a balance rule is: how the weights of imitation and exploration move over time.

A rule is a frozen dataclass of its own hyper-parameters. `needs` names the signals it reads, so that only a
rule that asks for the meta-gradient pays for its buffer. State is plain JSON and travels in checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from ..errors import ConfigError

State: TypeAlias = dict[str, Any]
"""A rule's memory: JSON values only."""

GRADIENTS = frozenset({"meta_grad", "entropy_grad"})
"""Signals that keep the two gradients apart: one buffer as large as the parameters."""
ROLLOUTS = frozenset({"entropy", "reward", "success", "advantage_var"})
"""Signals of this step's rollouts: the weights are chosen after the RL loss was differentiated, so its weight may be
0 and the rollouts are drawn all the same."""
DEMONSTRATIONS = frozenset({"nll_var", "coef_gap"})
"""Signals of this step's demonstrations: one forward pass without gradient, every `every` steps of the rule."""
BEGINNING = frozenset({"demo_gain"})
"""Signals measured once, when the single stage begins. They cost the grading of some demonstrations."""
PAST = frozenset({"policy_loss", "sft_loss", "sft_grad_norm"})
"""Signals of the last step that had them. They cost nothing."""
SIGNALS = GRADIENTS | ROLLOUTS | DEMONSTRATIONS | BEGINNING | PAST | {"buffered"}
"""Everything a rule may name in `needs`. What it does not name may be absent."""


@dataclass(frozen=True)
class Weights:
    """Weights of the two losses, `sft * L_SFT + rl * L_RL`; a free pair, not necessarily convex."""

    sft: float
    rl: float

    @classmethod
    def convex(cls, mu: float) -> Weights:
        """`(1 - mu) L_RL + mu L_SFT`, eq 3 of arXiv 2508.06944."""
        return cls(sft=mu, rl=1.0 - mu)


@dataclass(frozen=True)
class Signals:
    """What the trainer measured, already global over micro-batches and ranks."""

    step: int
    """Optimizer steps of the single stage done so far (0 at the first); warm-up steps do not count."""
    total_steps: int
    """Length of the single stage."""
    entropy: float | None = None
    """Mean token entropy of this step's rollouts, nats. None when there are none."""
    entropy_target: float | None = None
    """H*, nats."""
    demo_gain: float | None = None
    """Cliff's delta of demonstrations over the policy's answers when the stage began, in [-1, 1]: the share of pairs
    in which the demonstration has the higher reward, less the share in which it has the lower one. None when
    demonstrations cannot be graded."""
    reward: float | None = None
    """Mean reward of this step's rollouts."""
    success: tuple[float, ...] | None = None
    """Share of correct rollouts, one entry per prompt of this step."""
    advantage_var: float | None = None
    """Variance of this step's advantages over rows (biased)."""
    nll_var: float | None = None
    """Variance over this step's demonstrations of their mean token NLL, the outer 10 % on both sides left out."""
    coef_gap: float | None = None
    """Mean squared difference between the factor of grad log pi at a demonstration token and at a rollout token."""
    policy_loss: float | None = None
    """Unweighted RL loss of the last step that explored."""
    sft_loss: float | None = None
    """Unweighted imitation loss of the last step that imitated, nats per token."""
    sft_grad_norm: float | None = None
    """Norm of the imitation gradient of the last step that imitated alone, or kept the two gradients apart."""
    buffered: int = 0
    """Demonstrations of failed prompts waiting in the buffer."""
    meta_grad: float | None = None
    """dU/dmu of the previous step (eq 5). None when not measured this step: not asked for, not due, stale
    rollouts, too early in the optimizer's life, or not finite."""
    meta_cos: float | None = None
    """Cosine between grad U and the effect of mu on the parameters, in [-1, 1]."""
    entropy_grad: float | None = None
    """dH/dmu of the previous step, through the same Jacobian."""


@runtime_checkable
class Balance(Protocol):
    """A balance rule. `update` is pure: same state and signals, same result."""

    @property
    def needs(self) -> frozenset[str]:
        """Names from `SIGNALS`; a class attribute, a field or a property."""
        ...

    def init(self) -> State:
        """The state before the first step of the single stage."""
        ...

    def update(self, state: State, signals: Signals) -> tuple[Weights, State, dict[str, float]]:
        """Weights for this step, the next state, and metrics to log (names under `mix/`)."""
        ...


def require_number(name: str, value: object, low: float, high: float, *, below: bool = False) -> None:
    """Refuse a setting that is not a finite number in [low, high], or in [low, high) when `below`.

    Raises:
        ConfigError: the setting, its range and what was given, on one line.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    inside = number and low <= value <= high and not (below and value == high)  # type: ignore[operator]
    if not inside:
        raise ConfigError(
            f"balance.{name} must be a number in [{low:g}, {high:g}{')' if below else ']'}, got {value!r}"
        )


def require_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Refuse a setting that is not one of `choices`.

    Raises:
        ConfigError: the setting, its choices and what was given, on one line.
    """
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise ConfigError(f"balance.{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
