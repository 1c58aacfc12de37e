"""Which of the four orders a step of the single stage takes, by what the rule requires."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from ..meta import MixGrad
from .backend import StepBackend
from .balancer import Balancer
from .branch import StepResult
from .gradients_apart import gradients_apart
from .weights_after import weights_after
from .weights_first import weights_first
from .with_shadow import Compare, with_shadow

TakeStep: TypeAlias = Callable[[StepBackend[Any], Balancer, int], StepResult]
"""`take_step(backend, balancer, steps of the single stage done)`."""


def choose_step(balancer: Balancer, mix: MixGrad | None, compare: Compare | None = None) -> TakeStep:
    """The cheapest order that gives the rule what it reads.

    Args:
        balancer: the rule.
        mix: there when the rule reads the meta-gradient.
        compare: there when the policy has a shadow.
    """
    if mix is not None:
        return partial(gradients_apart, mix=mix)
    if compare is not None:
        return partial(with_shadow, compare=compare)
    return weights_after if balancer.requirements.reads_this_step else weights_first
