"""Signals of one step from plain keywords: every shipped signal by its name, and the meta-gradient of one branch."""

from __future__ import annotations

from typing import Any

from amft.signals.base import Observation, Signals
from amft.signals.shipped import shipped_signals
from amft.types import SFT


def given_signals(
    step: int = 0,
    total_steps: int = 100,
    *,
    entropy_target: float | None = None,
    meta_grad: float | None = None,
    meta_cos: float | None = None,
    entropy_grad: float | None = None,
    **values: Any,
) -> Signals:
    """What is not given has no value in this step; an unknown name is an error."""
    shipped = shipped_signals()
    assert values.keys() <= shipped.keys(), values.keys() - shipped.keys()
    return Signals(
        step,
        total_steps,
        {signal: values.get(name) for name, signal in shipped.items()},
        (SFT,),
        entropy_target,
        {} if meta_grad is None else {SFT: Observation(meta_grad, 0.0 if meta_cos is None else meta_cos)},
        {} if entropy_grad is None else {SFT: entropy_grad},
    )
