"""Which of the two ways to keep the branches' gradients apart a rule needs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..balance.meta_gradient import MetaGradient
from ..meta import GramPair, MixGrad


def mixed_gradients(
    model: nn.Module, optimizer: torch.optim.Optimizer, wanted: MetaGradient | None, branches: Sequence[str]
) -> MixGrad | None:
    """What keeps the gradients of the branches apart; None where the rule needs no meta-gradient.

    Raises:
        OptimizerError: the optimizer's Jacobian is not known.
    """
    if wanted is None:
        return None
    if wanted.utility == "gram":
        return GramPair(model.named_parameters(), optimizer, branch=branches[0], skip=wanted.skip)
    return MixGrad(
        model.named_parameters(),
        optimizer,
        branches=branches,
        direction=wanted.direction,
        skip=wanted.skip,
        horizon=wanted.horizon,
        jacobian=wanted.jacobian,
        effect_dtype=torch.bfloat16 if wanted.effect_dtype == "bfloat16" else None,
    )
