"""What a signal is, when it is measured, what that costs, and how a rule reads it. No torch.

A new signal is one `Signal` in one file, anywhere: a rule that names the object in its requirements gets it measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

    from ..batch import Batch

Value = TypeVar("Value")


class Cost(Enum):
    """What the trainer does for a signal."""

    PAST = "nothing: it is left over from earlier steps"
    ROLLOUTS = "the RL branch runs first, so its rollouts are drawn even where its weight is 0"
    DEMONSTRATIONS = "one forward pass over the demonstrations, without gradient, every `every` steps of the rule"
    HELD_OUT = "one forward pass over held-out demonstrations, without gradient, every `every` steps of the rule"
    BEGINNING = "once, when the single stage begins: some demonstrations are graded"


class Moment(Protocol):
    """What may be looked at when a signal is measured; what is not there yet is None.

    Example: a signal of the rollouts reads `rollouts` and `metrics`, and is None where `rollouts` is.
    """

    @property
    def step(self) -> int:
        """Optimizer steps of the single stage done so far."""
        ...

    @property
    def past(self) -> Mapping[str, float]:
        """The last finite `policy_loss`, `sft_loss` and `sft_grad_norm`."""
        ...

    @property
    def buffered(self) -> int:
        """Demonstrations of failed prompts waiting in the buffer."""
        ...

    @property
    def metrics(self) -> Mapping[str, float]:
        """Means of this step's rollouts under the names of metrics.jsonl, `reward` and `entropy` among them."""
        ...

    @property
    def rollouts(self) -> Batch | None:
        """This step's rows of the RL loss, advantages included; [B, T]."""
        ...

    @property
    def success(self) -> tuple[float, ...] | None:
        """Share of correct rollouts, one entry per prompt of this step."""
        ...

    @property
    def paid(self) -> Mapping[str, tuple[float, float]]:
        """Verdict on the demonstration of a rollout's prompt (or `none`) -> rollouts of this step, and those paid."""
        ...

    @property
    def verdicts(self) -> Mapping[str, int]:
        """Verdict -> demonstrations of the run; empty where they were not graded."""
        ...

    @property
    def demonstrations(self) -> Batch | None:
        """This step's rows of the imitation loss; [B, T]."""
        ...

    def demo_logps(self) -> Tensor:
        """[B, C] log-probabilities of the demonstrations under the policy, nats; one forward pass, made once."""
        ...

    def demo_weights(self) -> Tensor | None:
        """[B, C] or [B, 1] weights of the demonstration tokens in the imitation loss; None is 1."""
        ...

    def held_out_likelihood(self) -> float | None:
        """Mean log-probability per token of held-out demonstrations graded right, nats; None without any."""
        ...

    @property
    def held_out_rewards(self) -> Sequence[float]:
        """Rewards of the policy's answers to held-out prompts; empty after the beginning."""
        ...

    def graded_demonstrations(self, n: int) -> list[float] | None:
        """Rewards of `n` demonstrations, taken evenly; None where they cannot be graded."""
        ...


@dataclass(frozen=True)
class Signal(Generic[Value]):
    """One number (or tuple of numbers) that a balance rule may ask for."""

    name: str
    """As in messages and in the table of docs/rules.md."""
    unit: str
    cost: Cost
    summary: str
    """What it is, with its source where it has one."""
    measure: Callable[[Moment], Value | None]
    """None: it has no value at this moment."""


class UnaskedSignalError(KeyError):
    """A rule reads a signal that its requirements do not name."""


@dataclass(frozen=True)
class Observation:
    """The meta-gradient of the previous step along the weight of one branch."""

    dot: float
    """`<p.grad, -dtheta/dw>`: dU/dw when `p.grad` is the gradient of a loss that estimates -U."""
    cos: float
    """The same, divided by both norms; 0 when one of them is 0."""
    total: float = math.nan
    """Of the utility `gram` alone: the product of the branch's gradient with itself, its noise included."""


@dataclass(frozen=True)
class Signals:
    """What a rule reads in one step, already global over micro-batches and ranks."""

    step: int
    """Optimizer steps of the single stage done so far (0 at the first); warm-up steps do not count."""
    total_steps: int
    """Length of the single stage."""
    values: Mapping[Signal[Any], Any] = field(default_factory=dict)
    """What was asked for; None where it has no value in this step."""
    branches: tuple[str, ...] = ("sft",)
    """The imitation branches of the run."""
    entropy_target: float | None = None
    """H*, nats."""
    meta: Mapping[str, Observation] = field(default_factory=dict)
    """Imitation branch -> dU/dw of the previous step (eq 5 of arXiv 2508.06944). Absent where it was not measured: not
    asked for, not due, stale rollouts, too early in the optimizer's life, or not finite. Under the utility
    `gram` products of gradients, `rl` among them (`amft.meta.GramPair`)."""
    entropy_slopes: Mapping[str, float] = field(default_factory=dict)
    """Imitation branch -> dH/dw of the previous step, nats, through the same Jacobian."""

    def __getitem__(self, signal: Signal[Value]) -> Value | None:
        """The value of a signal that the rule's requirements name; None where it has none in this step.

        Raises:
            UnaskedSignalError: the requirements do not name it.
        """
        if signal not in self.values:
            raise UnaskedSignalError(f"the rule reads {signal.name}, which its requirements do not name")
        value: Value | None = self.values[signal]
        return value

    @property
    def meta_grad(self) -> float | None:
        """dU/dmu, of a run with one imitation branch."""
        found = self._only(self.meta)
        return None if found is None else found.dot

    @property
    def meta_cos(self) -> float | None:
        """Cosine between grad U and the effect of mu on the parameters, of a run with one imitation branch."""
        found = self._only(self.meta)
        return None if found is None else found.cos

    @property
    def entropy_grad(self) -> float | None:
        """dH/dmu, of a run with one imitation branch; nats."""
        return self._only(self.entropy_slopes)

    def _only(self, by_branch: Mapping[str, Value]) -> Value | None:
        (branch,) = self.branches
        return by_branch.get(branch)
