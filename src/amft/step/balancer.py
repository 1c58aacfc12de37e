"""The rule at work: signals measured for it, its answer checked, its memory kept."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..balance.base import Balance, State
from ..balance.requirements import Requirements
from ..balance.weights import Weights
from ..errors import ConfigError
from ..guests import call_guest, one_line
from ..signals.base import Cost, Moment, Observation, Signal, Signals, UnaskedSignalError
from ..types import RL, SFT
from .branch import StepResult

_WANTED = "(Weights, state, metrics), for example (Weights.convex(0.5), state, {}) for a weight of imitation of 0.5"


@dataclass
class Balancer:
    """One rule, and what it knows of the run so far."""

    rule: Balance
    total_steps: int
    """Length of the single stage."""
    branches: tuple[str, ...] = (SFT,)
    """Imitation branches."""
    entropy_target: float | None = None
    """H*, nats."""
    state: State = field(default_factory=dict)
    past: dict[str, float] = field(default_factory=dict)
    """The last finite `policy_loss`, `sft_loss` and `sft_grad_norm`."""
    beginning: dict[str, Any] = field(default_factory=dict)
    """Values of the signals that are measured once, by name."""

    def __post_init__(self) -> None:
        self.state = call_guest(
            self.rule, f"balance.rule: {type(self.rule).__name__}.init", ConfigError, self.rule.init
        )

    @property
    def requirements(self) -> Requirements:
        return self.rule.requirements

    def weigh(
        self,
        moment: Moment,
        meta: Mapping[str, Observation] | None = None,
        entropy_slopes: Mapping[str, float] | None = None,
    ) -> tuple[Weights, dict[str, Any]]:
        """The weights of this step, and their metrics.

        Raises:
            ConfigError: the rule reads what its requirements do not name, or returns something else than it should.
        """
        signals = Signals(
            moment.step,
            self.total_steps,
            {signal: self._value(signal, moment) for signal in self.requirements.signals},
            self.branches,
            self.entropy_target,
            meta or {},
            entropy_slopes or {},
        )
        weights, self.state, row = self._update(signals)
        if self.branches != (SFT,):
            return weights, {**{f"mix/weight/{branch}": weight for branch, weight in weights.items()}, **row}
        if weights[RL] != 1.0 - weights[SFT]:
            row = {"mix/weight_rl": weights[RL], **row}
        return weights, {"mix/mu": weights[SFT], **row}

    def _value(self, signal: Signal[Any], moment: Moment) -> Any:
        if signal.cost is Cost.BEGINNING:
            return self.beginning.get(signal.name)
        if signal.cost in (Cost.DEMONSTRATIONS, Cost.HELD_OUT) and moment.step % self.requirements.every:
            return None
        return signal.measure(moment)

    def _update(self, signals: Signals) -> tuple[Weights, State, dict[str, float]]:
        name = type(self.rule).__name__
        weights, state, row = call_guest(
            self.rule, f"balance.rule: {name}.update", ConfigError, lambda: self._asked(name, signals)
        )
        if weights.keys() != {RL, *self.branches}:
            asked, given = ", ".join((RL, *self.branches)), ", ".join(sorted(weights))
            raise ConfigError(f"balance.rule: {name} must weigh the branches {asked} of this run; it weighs {given}")
        wrong = {branch: weight for branch, weight in weights.items() if not math.isfinite(weight)}
        if wrong:
            raise ConfigError(f"balance.rule: {name} gave weights that are not finite: {wrong}")
        return weights, state, row

    def _asked(self, name: str, signals: Signals) -> tuple[Weights, State, dict[str, float]]:
        """What the rule says, which must be numbers and a state that a checkpoint can hold."""
        try:
            found = self.rule.update(self.state, signals)
        except UnaskedSignalError as error:
            raise ConfigError(f"balance.rule: {name}: {error.args[0]}") from None
        parts = found if isinstance(found, tuple) and len(found) == 3 else (found, None, None)
        if not (isinstance(parts[0], Weights) and isinstance(parts[1], dict) and isinstance(parts[2], dict)):
            shown = f"{type(found).__name__} {str(found)[:60]!r}"
            raise ConfigError(f"balance.rule: {name}.update must return {_WANTED}; it returned {shown}")
        weights, state, row = parts
        try:
            json.dumps([state, row], allow_nan=True)
            return Weights({branch: float(weight) for branch, weight in weights.items()}), state, row
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigError(
                f"balance.rule: {name}.update must give numbers as weights, and a state and metrics that are JSON "
                f"({one_line(error)})"
            ) from None

    def blind_weights(self) -> Weights:
        """What the rule would give now if it could see nothing of the step; its memory stays."""
        nothing = dict.fromkeys(self.requirements.signals)
        kept = self.state
        weights, _, _ = self._update(Signals(0, self.total_steps, nothing, self.branches))
        self.state = kept
        return weights

    def draw_weights(self) -> Mapping[str, float]:
        """Branch -> what decides how often it is shown; nothing where the rule leaves that to the rows' number."""
        return self.blind_weights() if self.requirements.draw == "weight" else {}

    def remember(self, result: StepResult) -> None:
        """Keep what signals of later steps may ask about this one."""
        known = {"policy_loss": result.losses.get("policy_loss"), "sft_loss": result.losses.get("sft/loss")}
        known["sft_grad_norm"] = result.row.get("mix/grad_norm_sft")
        imitation = [weight for branch, weight in result.weights.items() if branch != RL and weight]
        if len(imitation) == 1 and not result.weights.explores:
            known["sft_grad_norm"] = result.grad_norm / imitation[0]
        self.past |= {name: float(value) for name, value in known.items() if value is not None and math.isfinite(value)}

    def state_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "balance": self.state,
            "past": self.past,
            "entropy_target": self.entropy_target,
            "beginning": self.beginning,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.state, self.past = state["balance"], dict(state["past"])
        self.entropy_target, self.beginning = state["entropy_target"], dict(state["beginning"])
