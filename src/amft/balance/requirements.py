"""What a balance rule asks for, declared once: the trainer, the plan and the TRL adapter read nothing else of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..errors import ConfigError
from ..signals.base import Cost, Signal
from ..signals.entropy import ENTROPY
from ..signals.shipped import shipped_signals
from .checks import require_choice, require_number
from .meta_gradient import MetaGradient

SftOptimizer = Literal["shared", "own"]

Draw = Literal["share", "weight"]
"""Demonstrations come as often as there are rows of their class, or also in proportion to its weight."""


@dataclass(frozen=True)
class Freeze:
    """A step of imitation leaves alone what RL changed most (MIFO, arXiv 2510.04454).

    Args:
        share: of each tensor's entries, in (0, 1].
        history: decay in [0, 1) of the map of RL's changes.
    """

    share: float
    history: float = 0.0


@dataclass(frozen=True)
class Teacher:
    """A low-rank part of the policy learns what is gained over a shadow that only explores (BRIDGE, arXiv 2509.06948).

    Args:
        rank: of its matrices.
        rate: its learning rate, in multiples of the policy's.
    """

    rank: int
    rate: float


@dataclass(frozen=True)
class Requirements:
    """Everything a rule needs beyond the step's number. The default asks for nothing.

    Args:
        signals: what it reads, as objects of `amft.signals` or of your own.
        meta_gradient: None keeps no buffer.
        every: steps between two measurements of signals that cost a pass over the demonstrations.
        sft_optimizer: "own" gives the steps that only imitate moments of their own.
        freeze: None lets imitation change every parameter.
        teacher: None trains the policy alone.
        warmup: False leaves out the run's warm-up.
        split: row of a demonstration -> class; the imitation branch of a class is `sft/CLASS`. None: one branch,
            `sft`.
        classes: how many classes `amft plan` reckons with, before there is data to split.
        graded: demonstrations are graded, each once; `split` finds `right`, `wrong` or `silent` in the row's `verdict`.
        ageing: a demonstration that was shown k times before counts `1 / (1 + k / ageing)`; None: always 1.
        draw: "weight" shows demonstrations of a class in proportion to what the rule would give it now; "share" only by
            how many there are.

    Raises:
        ConfigError: a field holds something else; names it and what is allowed.
    """

    signals: tuple[Signal[Any], ...] = ()
    meta_gradient: MetaGradient | None = None
    every: int = 1
    sft_optimizer: SftOptimizer = "shared"
    freeze: Freeze | None = None
    teacher: Teacher | None = None
    warmup: bool = True
    split: Callable[[Mapping[str, Any]], str] | None = None
    classes: int = 1
    graded: bool = False
    ageing: float | None = None
    draw: Draw = "share"

    def __post_init__(self) -> None:
        if not isinstance(self.signals, tuple):
            raise ConfigError(f"requirements.signals must be a tuple of signals, got {self.signals!r}")
        for signal in self.signals:
            if not isinstance(signal, Signal):
                known = ", ".join(shipped_signals())
                raise ConfigError(f"requirements.signals: {signal!r} is no signal; shipped: {known}, in amft.signals")
        for name, kind in (("meta_gradient", MetaGradient), ("freeze", Freeze), ("teacher", Teacher)):
            if not isinstance(value := getattr(self, name), kind | None):
                raise ConfigError(f"requirements.{name} must be a {kind.__name__} or None, got {value!r}")
        require_number("every", self.every, 1, 1e9)
        require_choice("sft_optimizer", self.sft_optimizer, get_args(SftOptimizer))
        require_choice("draw", self.draw, get_args(Draw))
        require_choice("warmup", self.warmup, (True, False))
        require_number("classes", self.classes, 1, 1e3)
        require_choice("graded", self.graded, (True, False))
        if self.ageing is not None:
            require_number("ageing", self.ageing, 1e-9, 1e9)
        if self.split is not None and not callable(self.split):
            raise ConfigError(f"requirements.split must be a function of a row, got {self.split!r}")

    def costs(self, cost: Cost) -> tuple[Signal[Any], ...]:
        """The signals of that cost."""
        return tuple(signal for signal in self.signals if signal.cost is cost)

    @property
    def reads_this_step(self) -> bool:
        """The weights can be chosen only after this step's rollouts."""
        return bool(self.costs(Cost.ROLLOUTS) or self.costs(Cost.DEMONSTRATIONS))

    @property
    def entropy_target(self) -> bool:
        """H* is measured when the single stage begins."""
        return self.meta_gradient is not None or ENTROPY in self.signals

    def described(self) -> list[str]:
        """One word or two for each requirement, for lists and tables."""
        words = [signal.name for signal in self.signals]
        if self.meta_gradient is not None:
            words += ["meta-gradient", *(["entropy gradient"] if self.meta_gradient.entropy else [])]
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        others = {
            "sft_optimizer": "own SFT optimizer",
            "freeze": "frozen entries",
            "teacher": "the losses of a shadow",
            "split": "branches by class",
        }
        others |= {"graded": "graded demonstrations", "ageing": "ageing demonstrations", "draw": "draws by weight"}
        return words + [text for name, text in others.items() if getattr(self, name) != defaults[name]]
